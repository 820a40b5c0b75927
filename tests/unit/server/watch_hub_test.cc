#include "server/watch_hub.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

class CountingWatcher : public Watcher {
 public:
  void Notify() override { ++notified; }
  void Shutdown() override { ++ended; }
  std::atomic<int> notified{0};
  std::atomic<int> ended{0};
};

class WatchHubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SqliteStoreOptions options;
    options.path = temp_.path() + "/jobs.db";
    store_ = *OpenSqliteJobStore(options);
    other_ = *OpenSqliteJobStore(options);
  }
  static bool Within(int64_t ms, const std::function<bool()>& condition) {
    for (int64_t i = 0; i < ms / 5 && !condition(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return condition();
  }

  testing::TempDir temp_;
  std::unique_ptr<JobStore> store_, other_;
};

TEST_F(WatchHubTest, WakesOnWritesOfThisAndOtherProcessesAndElseNot) {
  WatchHub hub(*store_, 5);
  const auto watcher = std::make_shared<CountingWatcher>();
  ASSERT_TRUE(hub.Add(watcher).ok());
  ASSERT_TRUE(Within(5000, [&] { return watcher->notified >= 1; }));
  const int before = watcher->notified;
  EXPECT_FALSE(Within(60, [&] { return watcher->notified > before; }));
  NewJob job;
  job.id = "a";
  ASSERT_TRUE(store_->Create(job, 10).ok());
  EXPECT_TRUE(Within(5000, [&] { return watcher->notified > before; }));
  const int between = watcher->notified;
  ASSERT_TRUE(other_->Cancel("a").ok());
  EXPECT_TRUE(Within(5000, [&] { return watcher->notified > between; }));
}

TEST_F(WatchHubTest, ForgetsWatchersThatAreGone) {
  WatchHub hub(*store_, 5);
  auto watcher = std::make_shared<CountingWatcher>();
  ASSERT_TRUE(hub.Add(watcher).ok());
  EXPECT_EQ(hub.size(), 1u);
  watcher.reset();
  EXPECT_EQ(hub.size(), 0u);
}

TEST_F(WatchHubTest, ShutdownEndsAllAndRefusesMore) {
  WatchHub hub(*store_, 5);
  const auto watcher = std::make_shared<CountingWatcher>();
  ASSERT_TRUE(hub.Add(watcher).ok());
  hub.Shutdown();
  EXPECT_EQ(watcher->ended, 1);
  EXPECT_TRUE(absl::IsUnavailable(hub.Add(std::make_shared<CountingWatcher>())));
}

TEST_F(WatchHubTest, WatchersComeAndGoWhileOthersAreWoken) {
  WatchHub hub(*store_, 1);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        const auto watcher = std::make_shared<CountingWatcher>();
        ASSERT_TRUE(hub.Add(watcher).ok());
        if (n % 10 == 0) {
          ASSERT_TRUE(store_->CheckWritable().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(WatchHubTest, TakesSoManyAtATime) {
  WatchHub hub(*store_, 5, 2);
  auto first = std::make_shared<CountingWatcher>();
  const auto second = std::make_shared<CountingWatcher>();
  ASSERT_TRUE(hub.Add(first).ok());
  ASSERT_TRUE(hub.Add(second).ok());
  const absl::Status busy = hub.Add(std::make_shared<CountingWatcher>());
  EXPECT_EQ(busy.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(busy), kServerBusy);
  first.reset();
  // The hub's own thread may still hold it for a moment.
  bool added = false;
  Within(5000, [&] { return added = added || hub.Add(second).ok(); });
  EXPECT_TRUE(added) << "one that is gone makes room";
}

}  // namespace
}  // namespace svdllm
