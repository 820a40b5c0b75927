// Every metric name in one place. Units are base units, and counters end in _total. No job id,
// model or URI is ever a label.
//
// Workers are processes of their own, so what they count goes through the job store. A counter is a
// row whose key is the metric's name and its labels' values in order:
// "svdllm_jobs_finished_total|EVALUATE|FAILED|MODEL_CORRUPT". The process that serves /metrics
// reads the rows at each scrape, so the figures also outlive a restart.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

namespace svdllm {

// Measured where they are served.
inline constexpr char kGrpcStarted[] = "grpc_server_started_total";
inline constexpr char kGrpcHandled[] = "grpc_server_handled_total";
inline constexpr char kGrpcHandlingSeconds[] = "grpc_server_handling_seconds";
inline constexpr char kHostMemoryBytes[] = "svdllm_host_memory_bytes";  // {process=api|worker}
inline constexpr char kBuildInfo[] = "svdllm_build_info";               // {version, commit}
inline constexpr char kWatchers[] = "svdllm_watch_streams";
inline constexpr char kRefused[] = "svdllm_submissions_refused_total";     // {reason}
inline constexpr char kWorkerRestarts[] = "svdllm_worker_restarts_total";  // {device}
inline constexpr char kVolumeFree[] = "svdllm_volume_free_bytes";          // {volume}
inline constexpr char kVolumeSize[] = "svdllm_volume_size_bytes";          // {volume}
inline constexpr char kBackupTime[] = "svdllm_store_backup_timestamp_seconds";
inline constexpr char kDeviceInfo[] = "svdllm_device_info";  // {device, driver, model}
inline constexpr char kDeviceMemoryUsed[] = "svdllm_device_memory_used_bytes";    // {device}
inline constexpr char kDeviceMemoryLimit[] = "svdllm_device_memory_limit_bytes";  // {device}
inline constexpr char kDeviceUtilization[] = "svdllm_device_utilization_ratio";   // {device}

// Of the process that serves them, under the names that every client library uses.
inline constexpr char kProcessCpu[] = "process_cpu_seconds_total";
inline constexpr char kProcessStart[] = "process_start_time_seconds";
inline constexpr char kProcessResident[] = "process_resident_memory_bytes";
inline constexpr char kProcessVirtual[] = "process_virtual_memory_bytes";
inline constexpr char kProcessThreads[] = "process_threads";
inline constexpr char kProcessOpenFiles[] = "process_open_fds";
inline constexpr char kProcessMaxFiles[] = "process_max_fds";

// Read from the job store.
inline constexpr char kJobs[] = "svdllm_jobs";  // {state}
inline constexpr char kQueueDepth[] = "svdllm_queue_depth";
inline constexpr char kQueueOldestAge[] = "svdllm_queue_oldest_age_seconds";
inline constexpr char kWorkers[] = "svdllm_workers";                   // {device, state}
inline constexpr char kJobsFinished[] = "svdllm_jobs_finished_total";  // {kind, state, reason}
inline constexpr char kQueueWait[] = "svdllm_queue_wait_seconds";      // {kind}
inline constexpr char kJobDuration[] = "svdllm_job_duration_seconds";  // {kind, state}
inline constexpr char kJobAttempts[] = "svdllm_job_attempts_total";    // {outcome}
inline constexpr char kLeasesLost[] = "svdllm_leases_lost_total";
inline constexpr char kFencedWrites[] = "svdllm_fenced_writes_total";
inline constexpr char kArtifactBytes[] = "svdllm_artifact_bytes_total";
inline constexpr char kStageDuration[] = "svdllm_stage_duration_seconds";  // {kind, stage}

// The upper bounds of the stored histograms in seconds. They may change: a stored observation is
// shown in the next bound above the one that it was stored under.
inline constexpr double kSecondsBuckets[] = {
    0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400, 259200};

// Every reason of an error, as proto/svdllm/v1/compression.proto lists them. Each is a series from
// the start, because an increase from nothing to one is no increase to Prometheus.
inline constexpr std::string_view kReasons[] = {"INVALID_FIELD",
                                                "JOB_NOT_FOUND",
                                                "REQUEST_ID_REUSED",
                                                "QUEUE_FULL",
                                                "STORE_UNAVAILABLE",
                                                "JOB_STATE",
                                                "MODEL_NOT_FOUND",
                                                "MODEL_CORRUPT",
                                                "UNSUPPORTED_ARCHITECTURE",
                                                "UNSUPPORTED_TOKENIZER",
                                                "CALIBRATION_INVALID",
                                                "DATASET_INVALID",
                                                "NUMERICAL_FAILURE",
                                                "DEVICE_OUT_OF_MEMORY",
                                                "HOST_OUT_OF_MEMORY",
                                                "SCRATCH_FULL",
                                                "ARTIFACT_STORE_UNAVAILABLE",
                                                "OUTPUT_INVALID",
                                                "OUTPUT_EXISTS",
                                                "CHECKPOINT_MISMATCH",
                                                "JOB_TIMEOUT",
                                                "WORKER_DIED",
                                                "ATTEMPTS_EXHAUSTED",
                                                "REGRESSED",
                                                "PLAN_TIMEOUT",
                                                "PLANNER_DIED",
                                                "SERVER_BUSY",
                                                "REQUEST_NOT_UNDERSTOOD",
                                                "UNAUTHENTICATED",
                                                "FORBIDDEN",
                                                "QUOTA_EXCEEDED",
                                                "INTERNAL"};

// Returns the key of a counter's row.
std::string CounterKey(std::string_view metric,
                       std::initializer_list<std::string_view> label_values);
// Adds one observation to counters: a histogram that is kept as two rows, its sum
// ("svdllm_queue_wait_seconds|EVALUATE|sum") and how many fell under a bound and above the one
// before ("...|le60").
void CountSeconds(std::string_view metric, std::initializer_list<std::string_view> label_values,
                  double seconds, std::map<std::string, double>& counters);

}  // namespace svdllm
