#include "queue/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "metrics/metrics.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class WorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "worker_" + NewJobId();
    std::filesystem::create_directories(directory_);
    SqliteStoreOptions options;
    options.path = directory_ + "/jobs.db";
    options.retry_pause_ms = 1;
    auto store = OpenSqliteJobStore(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  void TearDown() override {
    StopWorker();
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void StartWorker(JobHandler handler, int64_t lease_ms = 30000,
                   std::function<absl::Status()> check_after_failure = {},
                   std::function<absl::Status()> prepare = {}) {
    worker_ = std::make_unique<Worker>(
        *store_, std::move(handler),
        WorkerOptions{"w1", lease_ms, 10, std::move(prepare), std::move(check_after_failure)});
    thread_ = std::thread([this] { ended_ = worker_->Run(); });
  }
  void StopWorker() {
    if (worker_ == nullptr) return;
    worker_->Stop();
    thread_.join();
    worker_.reset();
  }
  std::string Submit(int64_t timeout_ms = 0) {
    NewJob job;
    job.id = NewJobId();
    job.request = "request";
    job.timeout_ms = timeout_ms;
    EXPECT_TRUE(store_->Create(job, 100).ok());
    return job.id;
  }
  Job Await(const std::string& id, const std::function<bool(const Job&)>& condition) {
    for (int i = 0; i < 1000; ++i) {
      auto job = store_->Get(id);
      if (job.ok() && condition(*job)) return *job;
      std::this_thread::sleep_for(milliseconds(10));
    }
    ADD_FAILURE() << "the job did not get there";
    return *store_->Get(id);
  }
  Job AwaitEnd(const std::string& id) {
    return Await(id, [](const Job& job) { return IsTerminal(job.state); });
  }
  // Runs until told to stop; returns Check's reason.
  static absl::StatusOr<HandlerResult> RunUntilTold(JobContext& context) {
    while (true) {
      const absl::Status status = context.Check();
      if (!status.ok()) return status;
      std::this_thread::sleep_for(milliseconds(2));
    }
  }

  std::string directory_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
  absl::Status ended_;  // what Run returned
};

TEST_F(WorkerTest, RunsJobsAndKeepsWhatTheyAnswer) {
  StartWorker([](JobContext& context) -> absl::StatusOr<HandlerResult> {
    context.Report({EventKind::kProgress, "half"});
    RETURN_IF_ERROR(context.BeginPublish());
    return HandlerResult{
        context.job().request + " done", {{EventKind::kArtifact, "uri"}}, {{"n", 2}}};
  });
  const std::string a = Submit();
  const std::string b = Submit();
  EXPECT_EQ(AwaitEnd(a).result, "request done");
  EXPECT_EQ(AwaitEnd(b).state, JobState::kSucceeded);
  EXPECT_EQ(store_->Get(a)->progress, "half");
  EXPECT_EQ(store_->Stats()->counters["n"], 4);
}

TEST_F(WorkerTest, AJobMayFailByWhatItAnswers) {
  StartWorker([](JobContext&) -> absl::StatusOr<HandlerResult> {
    HandlerResult result{"figures", {{EventKind::kLog, "too bad"}}, {{"n", 2}}};
    result.failure = MakeError(absl::StatusCode::kFailedPrecondition, kRegressed, "lost too much");
    return result;
  });
  const Job job = AwaitEnd(Submit());
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error->reason, kRegressed);
  EXPECT_EQ(job.error->message, "lost too much");
  EXPECT_EQ(job.result, "figures");
  EXPECT_EQ(job.attempt, 1) << "not tried again";
  EXPECT_EQ(store_->Stats()->counters["n"], 2);
}

TEST_F(WorkerTest, ErrorsAreKeptAndTheNextJobRuns) {
  int calls = 0;
  StartWorker([&](JobContext&) -> absl::StatusOr<HandlerResult> {
    if (calls++ == 0) {
      return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, "shard x is truncated");
    }
    return HandlerResult{};
  });
  const Job failed = AwaitEnd(Submit());
  EXPECT_EQ(failed.state, JobState::kFailed);
  EXPECT_EQ(failed.error->reason, kModelCorrupt);
  EXPECT_EQ(failed.error->message, "shard x is truncated");
  EXPECT_EQ(failed.attempt, 1) << "what the input causes is not tried again";
  EXPECT_EQ(AwaitEnd(Submit()).state, JobState::kSucceeded);
}

TEST_F(WorkerTest, ExceptionsFailTheJobNotTheWorker) {
  int calls = 0;
  StartWorker([&](JobContext&) -> absl::StatusOr<HandlerResult> {
    if (calls++ == 0) throw std::bad_alloc();
    throw std::runtime_error("oops");
  });
  EXPECT_EQ(AwaitEnd(Submit()).error->reason, kHostOutOfMemory);
  const Job job = AwaitEnd(Submit());
  EXPECT_EQ(job.error->reason, kInternal);
  EXPECT_THAT(job.error->message, HasSubstr("oops"));
}

TEST_F(WorkerTest, UnavailableIsTriedThreeTimes) {
  std::atomic<int> calls{0};
  StartWorker([&](JobContext&) -> absl::StatusOr<HandlerResult> {
    ++calls;
    return MakeError(absl::StatusCode::kUnavailable, kArtifactStoreUnavailable, "no route");
  });
  const Job job = AwaitEnd(Submit());
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(job.error->reason, kAttemptsExhausted);
  EXPECT_EQ(job.attempts[1].error->reason, kArtifactStoreUnavailable);
}

TEST_F(WorkerTest, CancellationStopsARunningJob) {
  StartWorker(RunUntilTold);
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.state == JobState::kRunning; });
  ASSERT_TRUE(store_->Cancel(id).ok());
  EXPECT_EQ(AwaitEnd(id).state, JobState::kCancelled);
}

TEST_F(WorkerTest, TimeoutFailsTheJob) {
  StartWorker(RunUntilTold);
  const Job job = AwaitEnd(Submit(/*timeout_ms=*/50));
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error->reason, kDeadlineExceeded);
}

TEST_F(WorkerTest, StoppingGivesTheJobBackUncounted) {
  StartWorker(RunUntilTold);
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.state == JobState::kRunning; });
  StopWorker();
  const Job job = *store_->Get(id);
  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.attempt, 0);
  EXPECT_EQ(job.attempts.back().outcome, kOutcomeReleased);
}

TEST_F(WorkerTest, LeaseIsRenewedWhileTheHandlerIsBusy) {
  StartWorker(
      [](JobContext&) -> absl::StatusOr<HandlerResult> {
        std::this_thread::sleep_for(milliseconds(700));  // several leases, without a Check
        return HandlerResult{"slow", {}, {}};
      },
      /*lease_ms=*/200);
  const std::string id = Submit();
  int expired = 0;
  while (!IsTerminal(store_->Get(id)->state)) {
    expired += *store_->ExpireLeases();
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_EQ(expired, 0);
  EXPECT_EQ(store_->Get(id)->result, "slow");
}

TEST_F(WorkerTest, LostLeaseEndsTheAttemptAndChangesNothing) {
  std::atomic<bool> told{false};
  StartWorker(
      [&](JobContext& context) -> absl::StatusOr<HandlerResult> {
        if (context.job().attempt > 1) return HandlerResult{"second", {}, {}};
        const auto result = RunUntilTold(context);
        EXPECT_EQ(ErrorReason(result.status()), kLeaseLost);
        EXPECT_EQ(ErrorReason(context.BeginPublish()), kLeaseLost);
        told = true;
        return HandlerResult{"stale", {}, {}};
      },
      /*lease_ms=*/100);
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.state == JobState::kRunning; });
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "taken away"), 1);
  EXPECT_EQ(AwaitEnd(id).result, "second");
  EXPECT_TRUE(told);
}

TEST_F(WorkerTest, NothingStopsAnAttemptThatPublishes) {
  StartWorker([&](JobContext& context) -> absl::StatusOr<HandlerResult> {
    RETURN_IF_ERROR(context.BeginPublish());
    EXPECT_EQ(store_->Cancel(context.job().id).status().code(),
              absl::StatusCode::kFailedPrecondition);
    std::this_thread::sleep_for(milliseconds(100));
    RETURN_IF_ERROR(context.Check());
    return HandlerResult{"published", {}, {}};
  });
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.publishing || IsTerminal(job.state); });
  StopWorker();
  EXPECT_EQ(store_->Get(id)->result, "published");
}

TEST_F(WorkerTest, EndsAfterAFailureWhereNoOtherJobCanRun) {
  int checks = 0;
  StartWorker(
      [](JobContext& context) -> absl::StatusOr<HandlerResult> {
        if (context.job().request != "request") return absl::InternalError("failed on demand");
        return HandlerResult();
      },
      30000,
      [&]() -> absl::Status {
        return ++checks == 1 ? absl::OkStatus() : absl::InternalError("the device is gone");
      });
  const auto submit_failing = [&] {
    NewJob job;
    job.id = NewJobId();
    job.request = "fails";
    EXPECT_TRUE(store_->Create(job, 100).ok());
    return job.id;
  };
  EXPECT_EQ(AwaitEnd(Submit()).state, JobState::kSucceeded);
  EXPECT_EQ(AwaitEnd(submit_failing()).state, JobState::kFailed);
  EXPECT_EQ(AwaitEnd(Submit()).state, JobState::kSucceeded) << "the first check was fine";
  const std::string last = submit_failing();
  thread_.join();  // without Stop
  EXPECT_EQ(ended_, absl::InternalError("the device is gone"));
  EXPECT_EQ(checks, 2) << "after failures only";
  const auto job = store_->Get(last);
  EXPECT_EQ(job->state, JobState::kQueued) << "not the job's fault";
  ASSERT_EQ(job->attempts.size(), 1u) << "it counts";
  EXPECT_EQ(job->attempts[0].error->code, absl::StatusCode::kUnavailable);
  EXPECT_EQ(job->attempts[0].error->message,
            "the device failed: the device is gone; the attempt ended with: failed on demand");
  worker_.reset();
}

TEST_F(WorkerTest, JobThatSpoilsEveryDeviceFailsAfterThreeAttempts) {
  const std::string id = Submit();
  for (int attempt = 1; attempt <= 3; ++attempt) {
    ASSERT_EQ(store_->Get(id)->state, JobState::kQueued);
    StartWorker([](JobContext&) { return absl::InternalError("spoilt"); }, 30000,
                [] { return absl::InternalError("the device is gone"); });
    thread_.join();
    worker_.reset();
  }
  const auto job = store_->Get(id);
  EXPECT_EQ(job->state, JobState::kFailed);
  EXPECT_EQ(job->error->reason, kAttemptsExhausted);
}

TEST_F(WorkerTest, CancelledJobStaysCancelledWhereTheDeviceFails) {
  StartWorker(RunUntilTold, 30000, [] { return absl::InternalError("the device is gone"); });
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.state == JobState::kRunning; });
  ASSERT_TRUE(store_->Cancel(id).ok());
  thread_.join();
  worker_.reset();
  EXPECT_EQ(store_->Get(id)->state, JobState::kCancelled);
}

TEST_F(WorkerTest, ClaimsNothingBeforeItIsPrepared) {
  const std::string id = Submit();
  StartWorker([](JobContext&) { return HandlerResult(); }, 30000, {},
              [] { return absl::UnavailableError("no device"); });
  thread_.join();
  worker_.reset();
  EXPECT_EQ(ended_, absl::UnavailableError("no device"));
  const auto job = store_->Get(id);
  EXPECT_EQ(job->state, JobState::kQueued);
  EXPECT_EQ(job->attempt, 0);
}

// An attempt that goes on although it should have ended, in a process that would be ended.
class StuckWorkerTest : public WorkerTest {
 protected:
  void Run(JobHandler handler, int64_t stop_ms, int64_t stall_ms) {
    WorkerOptions options{"w1", 30000, 10};
    options.stop_ms = stop_ms;
    options.stall_ms = stall_ms;
    options.beat = [this] { ++beats_; };
    options.abandon = [this](const std::string& why) {
      if (!abandoned_) why_ = why;
      abandoned_ = true;
    };
    worker_ = std::make_unique<Worker>(*store_, std::move(handler), options);
    thread_ = std::thread([this] { ended_ = worker_->Run(); });
  }
  bool AwaitAbandoned() {
    for (int i = 0; i < 500 && !abandoned_; ++i) std::this_thread::sleep_for(milliseconds(10));
    return abandoned_;
  }
  std::atomic<bool> abandoned_{false};
  std::atomic<int> beats_{0};
  std::string why_;
};

// Does not look at Check, but computes, until the test is over.
absl::StatusOr<HandlerResult> Compute(const std::atomic<bool>& abandoned, milliseconds most) {
  const auto end = std::chrono::steady_clock::now() + most;
  volatile int sum = 0;
  while (!abandoned && std::chrono::steady_clock::now() < end) sum = sum + 1;
  return HandlerResult{};
}

TEST_F(StuckWorkerTest, CancelledJobThatDoesNotStopIsEnded) {
  Run([this](JobContext&) { return Compute(abandoned_, milliseconds(10000)); }, 100, 60000);
  const std::string id = Submit();
  Await(id, [](const Job& job) { return job.state == JobState::kRunning; });
  ASSERT_TRUE(store_->Cancel(id).ok());
  EXPECT_EQ(AwaitEnd(id).state, JobState::kCancelled);
  EXPECT_TRUE(AwaitAbandoned());
}

TEST_F(StuckWorkerTest, JobPastItsTimeoutThatDoesNotStopIsEnded) {
  Run([this](JobContext&) { return Compute(abandoned_, milliseconds(10000)); }, 100, 60000);
  const Job job = AwaitEnd(Submit(/*timeout_ms=*/100));
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error->reason, kDeadlineExceeded);
  EXPECT_TRUE(AwaitAbandoned());
}

TEST_F(StuckWorkerTest, ThreadThatNeitherComputesNorGetsOnIsEnded) {
  Run(
      [this](JobContext&) -> absl::StatusOr<HandlerResult> {
        for (int i = 0; i < 500 && !abandoned_; ++i) usleep(1'000'000);  // as a read that hangs
        return absl::AbortedError("ended");
      },
      60000, 300);
  const std::string id = Submit();
  EXPECT_TRUE(AwaitAbandoned());
  EXPECT_THAT(why_, HasSubstr("neither computed nor got on"));
  EXPECT_GT(beats_, 5);
}

TEST_F(StuckWorkerTest, ThreadThatComputesIsLeftAlone) {
  Run([this](JobContext&) { return Compute(abandoned_, milliseconds(700)); }, 60000, 200);
  EXPECT_EQ(AwaitEnd(Submit()).state, JobState::kSucceeded);
  EXPECT_FALSE(abandoned_);
}

// A job that keeps what it finishes, step_ms for each step; `steps` counts them.
JobHandler KeepingJob(int64_t step_ms, std::atomic<int>& steps, std::atomic<bool>& inside) {
  return [step_ms, &steps, &inside](JobContext& context) -> absl::StatusOr<HandlerResult> {
    while (true) {
      inside = true;
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(step_ms);
      while (std::chrono::steady_clock::now() < end) {
        RETURN_IF_ERROR(context.Check());
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      inside = false;
      ++steps;
      RETURN_IF_ERROR(context.CheckKept());
    }
  };
}

TEST_F(WorkerTest, AStoppedWorkerFinishesWhatItHasBegun) {
  std::atomic<int> steps{0};
  std::atomic<bool> inside{false};
  WorkerOptions options{"w1", 30000, 10};
  options.keep_ms = 20000;
  worker_ = std::make_unique<Worker>(*store_, KeepingJob(300, steps, inside), options);
  thread_ = std::thread([this] { ended_ = worker_->Run(); });
  const std::string id = Submit();
  while (steps < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  while (!inside) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const int begun = steps;
  StopWorker();
  EXPECT_EQ(steps, begun + 1) << "the step that was begun, and no other";
  EXPECT_EQ(store_->Get(id)->state, JobState::kQueued);
  EXPECT_EQ(store_->Get(id)->attempt, 0) << "given back: it does not count";
}

TEST_F(WorkerTest, AStoppedWorkerDoesNotBeginWhatItCannotFinish) {
  std::atomic<int> steps{0};
  std::atomic<bool> inside{false};
  WorkerOptions options{"w1", 30000, 10};
  options.keep_ms = 100;  // a step takes three times as long
  worker_ = std::make_unique<Worker>(*store_, KeepingJob(300, steps, inside), options);
  thread_ = std::thread([this] { ended_ = worker_->Run(); });
  Submit();
  while (steps < 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  while (!inside) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto start = std::chrono::steady_clock::now();
  StopWorker();
  EXPECT_EQ(steps, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(250));
}

TEST_F(WorkerTest, TellsOfEveryJobThatHasEnded) {
  std::vector<std::string> told;
  WorkerOptions options{"w1", 30000, 10};
  options.ended = [&told](const std::string& id) { told.push_back(id); };
  worker_ = std::make_unique<Worker>(
      *store_,
      [](JobContext& context) -> absl::StatusOr<HandlerResult> {
        if (context.job().request == "request") return HandlerResult();
        return absl::InternalError("no");
      },
      options);
  thread_ = std::thread([this] { ended_ = worker_->Run(); });
  const std::string id = Submit();
  Await(id, [](const Job& job) { return IsTerminal(job.state); });
  StopWorker();
  EXPECT_EQ(told, std::vector<std::string>{id});
}

}  // namespace
}  // namespace svdllm
