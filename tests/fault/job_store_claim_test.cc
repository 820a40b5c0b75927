// Many claimers, some of which die: every attempt at every job is one claimer's.
//
// CLAIMERS and CLAIM_JOBS make it larger: CLAIMERS=64 CLAIM_JOBS=10000 takes some minutes.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>

#include "queue/job_store.h"

namespace svdllm {
namespace {

int FromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::stoi(value) : otherwise;
}

TEST(JobStoreClaimTest, EveryAttemptIsClaimedOnce) {
  const int claimers = FromEnvironment("CLAIMERS", 12);
  const int jobs = FromEnvironment("CLAIM_JOBS", 300);
  const std::string directory = ::testing::TempDir() + "job_store_claim_" + NewJobId();
  std::filesystem::create_directories(directory);
  SqliteStoreOptions options;
  options.path = directory + "/jobs.db";
  options.busy_timeout_ms = 60'000;
  const auto open = [&options] { return *OpenSqliteJobStore(options); };
  const auto first = open();
  for (int i = 0; i < jobs; ++i) {
    NewJob job;
    job.id = NewJobId();
    ASSERT_TRUE(first->Create(job, 1 << 30).ok());
  }
  std::mutex mutex;
  std::map<std::pair<std::string, int>, int> claims;  // of a job and an attempt
  std::set<int64_t> tokens;
  std::atomic<int> died{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < claimers; ++i) {
    threads.emplace_back([&, i] {
      const auto store = open();  // as a process of its own
      std::mt19937 random(static_cast<unsigned>(i));
      const std::string name = "w" + std::to_string(i) + ".";
      while (true) {
        const auto claimed = store->Claim(name, 600'000);
        ASSERT_TRUE(claimed.ok()) << claimed.status();
        if (!claimed->has_value()) return;
        {
          const std::lock_guard<std::mutex> lock(mutex);
          ++claims[{(*claimed)->job.id, (*claimed)->job.attempt}];
          EXPECT_TRUE(tokens.insert((*claimed)->lease.token).second) << "a token for each";
        }
        if (random() % 8 == 0) {  // its supervisor sees it die
          ++died;
          EXPECT_EQ(*store->ReleaseWorkers(name, "died", kWorkerDied), 1);
          EXPECT_FALSE(store->Finish((*claimed)->lease, Outcome()).ok()) << "too late";
          continue;
        }
        EXPECT_TRUE(store->Finish((*claimed)->lease, Outcome()).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t attempts = 0;
  for (const auto& [attempt, count] : claims) {
    EXPECT_EQ(count, 1) << attempt.first << ", attempt " << attempt.second;
    ++attempts;
  }
  const auto stats = first->Stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->jobs.at(JobState::kSucceeded) + stats->jobs.at(JobState::kFailed), jobs);
  const auto died_out = stats->jobs.at(JobState::kFailed);
  EXPECT_EQ(attempts, stats->jobs.at(JobState::kSucceeded) + died);
  std::cout << claimers << " claimers, " << jobs << " jobs: " << attempts << " attempts, " << died
            << " lost, " << died_out << " jobs failed\n";
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace svdllm
