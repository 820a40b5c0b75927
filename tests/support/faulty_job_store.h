// A job store of which one call fails, before it has done anything.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "queue/job_store.h"
#include "tests/support/fault.h"

namespace svdllm::testing {

// Both references outlive it.
class FaultyJobStore : public JobStore {
 public:
  FaultyJobStore(JobStore& store, Fault& fault) : store_(store), fault_(fault) {}

  absl::StatusOr<CreateResult> Create(const NewJob& job, int64_t max_queued) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Create(job, max_queued);
  }
  absl::Status CheckOutputs(const std::vector<std::string>& outputs) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.CheckOutputs(outputs);
  }
  absl::StatusOr<std::optional<Job>> FindRequest(const std::string& request_id,
                                                 const std::string& payload_digest) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.FindRequest(request_id, payload_digest);
  }
  absl::StatusOr<Job> Get(const std::string& id) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Get(id);
  }
  absl::StatusOr<ListPage> List(const ListQuery& query) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.List(query);
  }
  absl::StatusOr<Job> Cancel(const std::string& id) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Cancel(id);
  }
  absl::Status Delete(const std::string& id) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Delete(id);
  }
  absl::StatusOr<std::vector<Job>> Expiring(int limit, int skip) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Expiring(limit, skip);
  }
  absl::Status SetExpired(const std::string& id) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.SetExpired(id);
  }
  absl::StatusOr<int> DeleteEnded(int64_t age_ms, int limit) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.DeleteEnded(age_ms, limit);
  }
  absl::StatusOr<std::vector<Event>> Events(const std::string& id, int64_t after_sequence,
                                            int limit) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Events(id, after_sequence, limit);
  }
  absl::StatusOr<StoreStats> Stats() override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Stats();
  }
  absl::StatusOr<std::vector<Timing>> Timings(const std::vector<std::string>& like) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Timings(like);
  }
  absl::StatusOr<int64_t> Version() override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Version();
  }
  absl::Status CheckWritable() override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.CheckWritable();
  }
  absl::StatusOr<std::optional<ClaimedJob>> Claim(const std::string& worker_id, int64_t lease_ms,
                                                  const JobFilter& can_run) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Claim(worker_id, lease_ms, can_run);
  }
  absl::StatusOr<bool> Renew(const Lease& lease, int64_t lease_ms, int64_t attempt_ms) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Renew(lease, lease_ms, attempt_ms);
  }
  absl::Status Append(const Lease& lease, std::span<const NewEvent> events) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Append(lease, events);
  }
  absl::Status BeginPublish(const Lease& lease) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.BeginPublish(lease);
  }
  absl::StatusOr<JobState> Finish(const Lease& lease, const Outcome& outcome) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Finish(lease, outcome);
  }
  absl::Status Release(const Lease& lease) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Release(lease);
  }
  absl::StatusOr<bool> IsCurrent(const Lease& lease) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.IsCurrent(lease);
  }
  absl::StatusOr<int> ExpireLeases() override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.ExpireLeases();
  }
  absl::StatusOr<int> ReleaseWorkers(const std::string& worker_prefix, const std::string& why,
                                     std::string_view reason) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.ReleaseWorkers(worker_prefix, why, reason);
  }

 private:
  JobStore& store_;
  Fault& fault_;
};

}  // namespace svdllm::testing
