// The SQLite job store's class. Callers see only job_store.h.
#pragma once

#include <memory>
#include <mutex>

#include "metrics/metrics.h"
#include "queue/job_store.h"
#include "queue/sqlite/db.h"
#include "queue/sqlite/rows.h"

namespace svdllm {

// There are two connections, so that reads go on while a write waits for the disk or for another
// process, and a third one that only watches for changes.
class SqliteJobStore : public JobStore {
 public:
  explicit SqliteJobStore(SqliteStoreOptions options) : options_(std::move(options)) {}
  absl::Status Open();

  absl::StatusOr<CreateResult> Create(const NewJob& job, int64_t max_queued) override;
  absl::Status CheckOutputs(const std::vector<std::string>& outputs) override;
  absl::StatusOr<std::optional<Job>> FindRequest(const std::string& request_id,
                                                 const std::string& payload_digest) override;
  absl::StatusOr<Job> Get(const std::string& id) override;
  absl::StatusOr<ListPage> List(const ListQuery& query) override;
  absl::StatusOr<Job> Cancel(const std::string& id) override;
  absl::Status Delete(const std::string& id) override;
  absl::StatusOr<std::vector<Job>> Expiring(int limit, int skip) override;
  absl::Status SetExpired(const std::string& id) override;
  absl::StatusOr<int> DeleteEnded(int64_t age_ms, int limit) override;
  absl::StatusOr<std::vector<Event>> Events(const std::string& id, int64_t after_sequence,
                                            int limit) override;
  absl::StatusOr<StoreStats> Stats() override;
  absl::StatusOr<std::vector<Timing>> Timings(const std::vector<std::string>& like) override;
  absl::StatusOr<int64_t> Version() override;
  absl::Status CheckWritable() override;

  absl::StatusOr<std::optional<ClaimedJob>> Claim(const std::string& worker_id, int64_t lease_ms,
                                                  const JobFilter& can_run) override;
  absl::StatusOr<bool> Renew(const Lease& lease, int64_t lease_ms, int64_t attempt_ms) override;
  absl::Status Append(const Lease& lease, std::span<const NewEvent> events) override;
  absl::Status BeginPublish(const Lease& lease) override;
  absl::StatusOr<JobState> Finish(const Lease& lease, const Outcome& outcome) override;
  absl::Status Release(const Lease& lease) override;
  absl::StatusOr<bool> IsCurrent(const Lease& lease) override;
  absl::StatusOr<int> ExpireLeases() override;
  absl::StatusOr<int> ReleaseWorkers(const std::string& worker_prefix, const std::string& why,
                                     std::string_view reason) override;

 private:
  // Says for how long the write lock is held.
  class WritingMark {
   public:
    explicit WritingMark(const std::function<void(bool)>& writing) : writing_(writing) {
      if (writing_) writing_(true);
    }
    ~WritingMark() {
      if (writing_) writing_(false);
    }

   private:
    const std::function<void(bool)>& writing_;
  };

  // A connection and the lock that serialises its use.
  struct Connection {
    std::mutex mutex;
    std::unique_ptr<SqliteDb> db;
  };

  int64_t Now() const { return options_.now_ms(); }
  int64_t LeaseNow() const { return options_.boot_ms(); }
  absl::Status OpenConnection(Connection& connection);
  // Copies a file of an earlier schema: who goes back to the version before needs it.
  absl::Status KeepEarlier();
  // Runs change(db) in a transaction, which is committed where it returns OK. Refused writes of
  // stale leases are counted.
  template <typename Function>
  absl::Status Write(const Function& change);
  absl::StatusOr<int> EndLostAttempts(SqliteDb& db, const std::string& condition,
                                      const std::string& parameter, const std::string& why,
                                      std::string_view reason);

  SqliteStoreOptions options_;
  Connection write_;
  Connection read_;
  Connection watch_;
};

template <typename Function>
absl::Status SqliteJobStore::Write(const Function& change) {
  std::lock_guard<std::mutex> lock(write_.mutex);
  SqliteDb& db = *write_.db;
  absl::Status status;
  {
    Transaction transaction(db);
    RETURN_IF_ERROR(transaction.Begin());
    const WritingMark mark(options_.writing);
    status = change(db);
    if (status.ok()) return transaction.Commit();
  }
  if (ErrorReason(status) == kLeaseLost) {
    AddToCounter(db, kFencedWrites, 1).IgnoreError();
  }
  return status;
}

}  // namespace svdllm
