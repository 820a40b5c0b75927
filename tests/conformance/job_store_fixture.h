// What every JobStore has to pass. An implementation is a row of Implementations().
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "queue/job_store.h"

namespace svdllm {

struct StoreImplementation {
  std::string name;
  // Opens the store that lives under a directory; again for the same directory: the same store.
  std::function<absl::StatusOr<std::unique_ptr<JobStore>>(
      const std::string& directory, std::function<int64_t()> now_ms, OwnerLimits owner_limits)>
      open;
};

inline std::vector<StoreImplementation> Implementations() {
  return {{"Sqlite", [](const std::string& directory, std::function<int64_t()> now_ms,
                        OwnerLimits owner_limits) {
             SqliteStoreOptions options;
             options.path = directory + "/jobs.db";
             options.now_ms = std::move(now_ms);
             options.owner_limits = owner_limits;
             return OpenSqliteJobStore(options);
           }}};
}

class JobStoreTest : public ::testing::TestWithParam<StoreImplementation> {
 protected:
  static constexpr int64_t kLeaseMs = 30000;
  static constexpr int64_t kNoLimit = 1 << 30;

  void SetUp() override {
    directory_ = ::testing::TempDir() + "job_store_" +
                 ::testing::UnitTest::GetInstance()->current_test_info()->name() + "_" + NewJobId();
    for (char& c : directory_) {
      if (c == '/' && &c > &directory_[::testing::TempDir().size()]) c = '_';
    }
    std::filesystem::create_directories(directory_);
    store_ = Open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::unique_ptr<JobStore> Open(OwnerLimits owner_limits = {}) {
    auto store = GetParam().open(
        directory_, [this] { return now_ms_.load(); }, owner_limits);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? std::move(*store) : nullptr;
  }

  // Creates a job; its id.
  std::string Submit(const std::string& request_id = "", const std::string& payload = "payload",
                     int64_t max_queued = kNoLimit) {
    auto result = store_->Create(Make(request_id, payload), max_queued);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->job.id : "";
  }
  static NewJob Make(const std::string& request_id, const std::string& payload) {
    NewJob job;
    job.id = NewJobId();
    job.request_id = request_id;
    job.payload_digest = payload;
    job.request = payload;
    return job;
  }
  Lease ClaimOne(const std::string& worker = "w1") {
    auto claimed = store_->Claim(worker, kLeaseMs);
    EXPECT_TRUE(claimed.ok()) << claimed.status();
    EXPECT_TRUE(claimed.ok() && claimed->has_value());
    return claimed.ok() && claimed->has_value() ? (*claimed)->lease : Lease{};
  }
  bool NothingToClaim() {
    auto claimed = store_->Claim("other", kLeaseMs);
    EXPECT_TRUE(claimed.ok()) << claimed.status();
    return claimed.ok() && !claimed->has_value();
  }
  Job Get(const std::string& id) {
    auto job = store_->Get(id);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *job : Job{};
  }
  std::vector<Event> AllEvents(const std::string& id) {
    auto events = store_->Events(id, 0, 1000);
    EXPECT_TRUE(events.ok()) << events.status();
    return events.ok() ? *events : std::vector<Event>{};
  }
  // The states in a job's history, in order.
  std::vector<JobState> States(const std::string& id) {
    std::vector<JobState> states;
    for (const Event& event : AllEvents(id)) {
      if (event.kind == EventKind::kState) states.push_back(event.state);
    }
    return states;
  }
  double Counter(const std::string& name) {
    auto stats = store_->Stats();
    EXPECT_TRUE(stats.ok()) << stats.status();
    return stats.ok() ? stats->counters[name] : -1;
  }
  static Outcome Succeeded(const std::string& result) {
    Outcome outcome;
    outcome.result = result;
    return outcome;
  }
  static Outcome Failed(const std::string& reason, bool retry) {
    Outcome outcome;
    outcome.kind = Outcome::Kind::kFailed;
    outcome.error = {absl::StatusCode::kUnavailable, reason, "because of " + reason};
    outcome.retry = retry;
    return outcome;
  }

  std::atomic<int64_t> now_ms_{1'000'000};
  std::string directory_;
  std::unique_ptr<JobStore> store_;
};

}  // namespace svdllm
