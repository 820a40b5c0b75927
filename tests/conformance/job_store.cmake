svdllm_test(job_store_conformance_test
  SOURCES job_store_test.cc job_store_lease_test.cc job_store_owner_test.cc
  DEPS svdllm_queue svdllm_metrics Threads::Threads
  LABELS conformance)
