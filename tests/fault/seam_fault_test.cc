// One call of a seam fails, whichever it is: the job ends once, with a reason, and leaves nothing
// behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>
#include <thread>

#include "queue/worker.h"
#include "tests/support/faulty_artifact_store.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/faulty_job_store.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using testing::Fault;

class SeamFaultTest : public JobFixture {
 protected:
  void ExpectNothingLeft(int64_t n) {
    EXPECT_TRUE(fs::is_empty(dir_.File("artifacts"))) << "call " << n;
  }
  // What a run gives of which the nth call fails with this error.
  absl::StatusOr<CompressResult> RunWith(Fault& backend_fault, Fault& store_fault) {
    testing::FaultyBackend backend(*backend_, backend_fault);
    testing::FaultyArtifactStore store(*store_, store_fault);
    CompressSpec spec = Spec("x");
    return testing::RunCompress(spec, backend, store, {});
  }
};

// Every call in turn costs minutes: the first ones, where something is set up, and then others at
// distances that have no rhythm in common with a model's layers.
TEST_F(SeamFaultTest, WhicheverOperationOfTheBackendFails) {
  Fault none, count;
  ASSERT_OK(RunWith(count, none));
  const int64_t calls = count.calls();
  fs::remove_all(Artifact("x"));
  ASSERT_GT(calls, 100);
  const absl::Status errors[] = {
      MakeError(absl::StatusCode::kResourceExhausted, kDeviceOutOfMemory, "no memory is left"),
      MakeError(absl::StatusCode::kUnavailable, "INTERNAL", "CUDA error 719")};
  int64_t runs = 0;
  for (int64_t n = 1; n <= calls; n += n < 12 ? 1 : std::max<int64_t>(calls / 37, 1)) {
    const absl::Status& error = errors[++runs % 2];
    Fault fault(n, error);
    const absl::Status status = RunWith(fault, none).status();
    EXPECT_EQ(status.code(), error.code()) << "call " << n << ": " << status;
    EXPECT_EQ(ErrorReason(status), ErrorReason(error)) << "call " << n;
    ExpectNothingLeft(n);
  }
  std::cout << runs << " runs, each with another of " << calls << " calls that failed\n";
  ASSERT_OK(RunWith(none, none));
}

TEST_F(SeamFaultTest, WhicheverCallOfTheArtifactStoreFails) {
  Fault none, count;
  ASSERT_OK(RunWith(none, count));
  const int64_t calls = count.calls();
  ASSERT_GE(calls, 3);
  fs::remove_all(Artifact("x"));
  for (const absl::Status& error :
       {ErrnoToStatus(ENOSPC, "write", "/x"), ErrnoToStatus(EIO, "write", "/x")}) {
    for (int64_t n = 1; n <= calls; ++n) {
      Fault fault(n, error);
      const absl::StatusOr<CompressResult> result = RunWith(none, fault);
      // That nothing was published before is found out by a call that may fail.
      if (result.ok()) {
        EXPECT_EQ(n, 1);
        fs::remove_all(Artifact("x"));
        continue;
      }
      EXPECT_EQ(ErrorReason(result.status()), ErrorReason(error)) << "call " << n;
      ExpectNothingLeft(n);
    }
  }
}

// The worker's calls: claims, renewals, events, the end. Whichever fails, the job ends once.
TEST_F(SeamFaultTest, WhicheverCallOfTheJobStoreFails) {
  SqliteStoreOptions options;
  options.path = dir_.File("jobs.db");
  options.retry_pause_ms = 1;
  const auto jobs = *OpenSqliteJobStore(options);
  const JobHandler handler = [](JobContext& context) -> absl::StatusOr<HandlerResult> {
    for (int i = 0; i < 3; ++i) {
      RETURN_IF_ERROR(context.Check());
      context.Report({EventKind::kProgress, "p"});
    }
    RETURN_IF_ERROR(context.BeginPublish());
    HandlerResult result;
    result.result = "done";
    return result;
  };
  std::set<JobState> ends;
  bool struck = true;
  int64_t n = 1;
  for (; struck && n < 200; ++n) {
    NewJob job;
    job.id = NewJobId();
    ASSERT_TRUE(jobs->Create(job, 10).ok());
    Fault fault(n, MakeError(absl::StatusCode::kUnavailable, kStoreUnavailable, "disk I/O error"));
    testing::FaultyJobStore faulty(*jobs, fault);
    Worker worker(faulty, handler, {.id = "w", .lease_ms = 3000, .poll_ms = 5});
    std::thread thread([&] { EXPECT_TRUE(worker.Run().ok()); });
    Job ended;
    for (int i = 0; i < 3000 && !IsTerminal(ended.state); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ended = *jobs->Get(job.id);
    }
    struck = fault.has_struck();
    worker.Stop();
    thread.join();
    ASSERT_TRUE(IsTerminal(ended.state)) << "call " << n;
    ends.insert(ended.state);
    int ends_of_job = 0;
    const std::vector<Event> history = *jobs->Events(job.id, 0, 1000);
    for (const Event& event : history) {
      if (event.kind == EventKind::kState && IsTerminal(event.state)) ++ends_of_job;
    }
    EXPECT_EQ(ends_of_job, 1) << "call " << n;
    if (ended.state == JobState::kSucceeded) {
      EXPECT_EQ(ended.result, "done");
    } else {
      ASSERT_TRUE(ended.error.has_value());
      EXPECT_FALSE(ended.error->reason.empty()) << "call " << n;
    }
  }
  EXPECT_GT(n, 8) << "claim, events, publication and end are calls";
  EXPECT_TRUE(ends.contains(JobState::kSucceeded));
}

}  // namespace
}  // namespace svdllm
