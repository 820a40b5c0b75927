// The calls of the worker side: leases, fencing, attempts, events.
#include <gmock/gmock.h>

#include <thread>

#include "job_store_fixture.h"
#include "metrics/metrics.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobStoreLeaseTest : public JobStoreTest {
 protected:
  // Every worker call with this lease is refused and leaves the job as it is.
  void ExpectFenced(const Lease& lease) {
    const Job before = Get(lease.job_id);
    const NewEvent event{EventKind::kProgress, "from the dead"};
    const double fenced = Counter(kFencedWrites);
    for (const absl::Status& status :
         {store_->Renew(lease, kLeaseMs).status(), store_->Append(lease, {&event, 1}),
          store_->BeginPublish(lease), store_->Finish(lease, Succeeded("stale")).status(),
          store_->Finish(lease, Failed("X", true)).status(), store_->Release(lease)}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
      EXPECT_EQ(ErrorReason(status), kLeaseLost);
    }
    const Job after = Get(lease.job_id);
    EXPECT_EQ(after.state, before.state);
    EXPECT_EQ(after.last_sequence, before.last_sequence);
    EXPECT_EQ(after.progress, before.progress);
    EXPECT_EQ(after.result, before.result);
    EXPECT_EQ(after.publishing, before.publishing);
    EXPECT_EQ(Counter(kFencedWrites), fenced + 6);
  }
};

TEST_P(JobStoreLeaseTest, TellsWhetherALeaseIsCurrent) {
  Submit();
  const Lease lease = ClaimOne();
  EXPECT_TRUE(*store_->IsCurrent(lease));
  EXPECT_FALSE(*store_->IsCurrent({lease.job_id, lease.token + 1}));
  EXPECT_FALSE(*store_->IsCurrent({"nojob", lease.token}));
  EXPECT_FALSE(*store_->IsCurrent({lease.job_id, 0}));
  ASSERT_TRUE(store_->Release(lease).ok());
  EXPECT_FALSE(*store_->IsCurrent(lease));
}

// What counts is what workers say they have run, not the times between which they ran.
TEST_P(JobStoreLeaseTest, CountsHowLongAttemptsRan) {
  const std::string id = Submit();
  const Lease first = ClaimOne();
  EXPECT_EQ(Get(id).used_ms, 0);
  ASSERT_TRUE(store_->Renew(first, kLeaseMs, 4000).ok());
  ASSERT_TRUE(store_->Renew(first, kLeaseMs, 7000).ok());
  now_ms_ += 3'600'000;  // somebody sets the clock
  ASSERT_TRUE(store_->ReleaseWorkers("w", "died").ok());
  EXPECT_EQ(Get(id).used_ms, 7000);
  now_ms_ += kLeaseMs;
  const Lease second = ClaimOne();
  ASSERT_TRUE(store_->Renew(second, kLeaseMs, 500).ok());
  ASSERT_TRUE(store_->Release(second).ok());
  EXPECT_EQ(Get(id).used_ms, 7500);
}

TEST_P(JobStoreLeaseTest, ClaimsInOrderOfSubmissionUnderGrowingTokens) {
  const std::string a = Submit();
  const std::string b = Submit();
  const Lease first = ClaimOne();
  const Lease second = ClaimOne("w2");
  EXPECT_EQ(first.job_id, a);
  EXPECT_EQ(second.job_id, b);
  EXPECT_GT(second.token, first.token);
  EXPECT_TRUE(NothingToClaim());
  EXPECT_EQ(Get(a).state, JobState::kRunning);
  EXPECT_EQ(Get(a).attempt, 1);
}

TEST_P(JobStoreLeaseTest, JobsThatCannotRunAreLeftAlone) {
  const std::string left = Submit("", "strange");
  const std::string a = Submit();
  Submit("", "strange");
  const JobFilter can_run = [](const Job& job) { return job.request != "strange"; };
  auto claimed = store_->Claim("w", kLeaseMs, can_run);
  ASSERT_TRUE(claimed.ok() && claimed->has_value());
  EXPECT_EQ((*claimed)->lease.job_id, a);
  EXPECT_FALSE(store_->Claim("w", kLeaseMs, can_run)->has_value());
  EXPECT_EQ(Get(left).state, JobState::kQueued);
  EXPECT_EQ(Get(left).last_sequence, 1);
  EXPECT_EQ(ClaimOne().job_id, left) << "whoever understands it runs it, and first";
}

TEST_P(JobStoreLeaseTest, EveryJobIsClaimedOnceUnderConcurrency) {
  constexpr int kJobs = 40;
  for (int i = 0; i < kJobs; ++i) Submit();
  const auto second = Open();
  std::atomic<int> claims{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      JobStore& store = i % 2 == 0 ? *store_ : *second;
      while (true) {
        const auto claimed = store.Claim("w" + std::to_string(i), kLeaseMs);
        ASSERT_TRUE(claimed.ok()) << claimed.status();
        if (!claimed->has_value()) return;
        EXPECT_EQ((*claimed)->job.attempt, 1);
        ++claims;
        ASSERT_TRUE(store.Finish((*claimed)->lease, Succeeded("r")).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(claims, kJobs);
  EXPECT_EQ(store_->Stats()->jobs.at(JobState::kSucceeded), kJobs);
  EXPECT_EQ(Counter(CounterKey(kJobAttempts, {kOutcomeSucceeded})), kJobs);
}

TEST_P(JobStoreLeaseTest, SuccessKeepsResultEventsAndCounters) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  const NewEvent progress{EventKind::kProgress, "p1"};
  ASSERT_TRUE(store_->Append(lease, {&progress, 1}).ok());
  ASSERT_TRUE(store_->BeginPublish(lease).ok());
  Outcome outcome = Succeeded("result");
  outcome.events = {{EventKind::kArtifact, "uri"}};
  outcome.counters = {{"bytes", 5}};
  const auto state = store_->Finish(lease, outcome);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(*state, JobState::kSucceeded);
  const Job job = Get(id);
  EXPECT_EQ(job.result, "result");
  ASSERT_EQ(job.attempts.size(), 1u);
  EXPECT_EQ(job.attempts[0].outcome, kOutcomeSucceeded);
  EXPECT_FALSE(job.publishing);
  const auto events = AllEvents(id);
  ASSERT_EQ(events.size(), 5u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence, int64_t(i) + 1);
  EXPECT_EQ(events[2].payload, "p1");
  EXPECT_EQ(events[3].payload, "uri");
  EXPECT_EQ(events[4].state, JobState::kSucceeded);
  EXPECT_EQ(job.last_sequence, 5);
  EXPECT_EQ(Counter("bytes"), 5);
  ExpectFenced(lease);
}

// What has run for an hour and is given back has not waited for an hour.
TEST_P(JobStoreLeaseTest, WaitsBeginWhenAJobIsQueuedAgain) {
  Submit();
  now_ms_ += 2'000;
  const Lease first = ClaimOne();
  now_ms_ += 3'600'000;
  ASSERT_TRUE(store_->Release(first).ok());
  EXPECT_EQ(store_->Stats()->oldest_queued_ms, now_ms_);
  EXPECT_TRUE(store_->Stats()->busy_workers.empty());
  now_ms_ += 40'000;
  ClaimOne();
  const std::string wait = CounterKey(kQueueWait, {"COMPRESS_MODEL"});
  EXPECT_EQ(Counter(wait + "|sum"), 42);
  EXPECT_EQ(Counter(wait + "|le2.5"), 1);
  EXPECT_EQ(Counter(wait + "|le60"), 1);
}

TEST_P(JobStoreLeaseTest, EndsAreCountedByKindStateAndReasonAndTimed) {
  const auto finished = [this](std::string_view state, std::string_view reason) {
    return Counter(CounterKey(kJobsFinished, {"COMPRESS_MODEL", state, reason}));
  };
  const auto seconds = [this](std::string_view state) {
    return Counter(CounterKey(kJobDuration, {"COMPRESS_MODEL", state}) + "|sum");
  };
  Submit();
  Lease lease = ClaimOne();
  now_ms_ += 7'000;
  ASSERT_TRUE(store_->Finish(lease, Succeeded("r")).ok());
  EXPECT_EQ(finished("SUCCEEDED", ""), 1);
  EXPECT_EQ(seconds("SUCCEEDED"), 7);

  Submit();
  lease = ClaimOne();
  now_ms_ += 3'000;
  ASSERT_TRUE(store_->Finish(lease, Failed("MODEL_CORRUPT", false)).ok());
  EXPECT_EQ(finished("FAILED", "MODEL_CORRUPT"), 1);
  EXPECT_EQ(seconds("FAILED"), 3);

  Submit();  // dies with its worker three times: timed from its first start
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    EXPECT_EQ(finished("FAILED", kAttemptsExhausted), 0);
    ClaimOne();
    now_ms_ += kLeaseMs;
    ASSERT_EQ(*store_->ExpireLeases(), 1);
  }
  EXPECT_EQ(finished("FAILED", kAttemptsExhausted), 1);
  EXPECT_EQ(seconds("FAILED"), 3 + 90);

  ASSERT_TRUE(store_->Cancel(Submit()).ok());  // never ran: no duration
  EXPECT_EQ(finished("CANCELLED", ""), 1);
  EXPECT_EQ(seconds("CANCELLED"), 0);
  NewJob evaluation = Make("", "e");
  evaluation.kind = JobKind::kEvaluate;
  ASSERT_TRUE(store_->Create(evaluation, kNoLimit).ok());
  ASSERT_TRUE(store_->Finish(ClaimOne(), Succeeded("r")).ok());
  EXPECT_EQ(Counter(CounterKey(kJobsFinished, {"EVALUATE", "SUCCEEDED", ""})), 1);
  EXPECT_EQ(finished("SUCCEEDED", ""), 1);
}

TEST_P(JobStoreLeaseTest, FailureMayHaveAResult) {
  const std::string id = Submit();
  Outcome outcome = Failed("REGRESSED", false);
  outcome.result = "figures";
  outcome.events = {{EventKind::kLog, "why"}};
  outcome.counters = {{"bytes", 5}};
  ASSERT_EQ(*store_->Finish(ClaimOne(), outcome), JobState::kFailed);
  const Job job = Get(id);
  EXPECT_EQ(job.result, "figures");
  EXPECT_EQ(job.error->reason, "REGRESSED");
  ASSERT_EQ(job.attempts.size(), 1u);
  EXPECT_EQ(job.attempts[0].outcome, kOutcomeFailed);
  const auto events = AllEvents(id);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[2].payload, "why");
  EXPECT_EQ(events[3].error->reason, "REGRESSED");
  EXPECT_EQ(Counter("bytes"), 5);
}

TEST_P(JobStoreLeaseTest, EventsPageBySequence) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  std::vector<NewEvent> events(10, {EventKind::kLog, "line"});
  ASSERT_TRUE(store_->Append(lease, events).ok());
  const auto page = store_->Events(id, 4, 3);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->size(), 3u);
  EXPECT_EQ(page->front().sequence, 5);
  EXPECT_EQ(page->back().sequence, 7);
  EXPECT_TRUE(store_->Events(id, 12, 3)->empty());
}

TEST_P(JobStoreLeaseTest, ConcurrentEventsAndCancellationStayGapFree) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  const auto other = Open();
  std::thread writer([&] {
    const NewEvent event{EventKind::kProgress, "p"};
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(store_->Append(lease, {&event, 1}).ok());
  });
  std::thread canceller([&] { ASSERT_TRUE(other->Cancel(id).ok()); });
  writer.join();
  canceller.join();
  const auto events = AllEvents(id);
  ASSERT_EQ(events.size(), 53u);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence, int64_t(i) + 1);
}

TEST_P(JobStoreLeaseTest, RenewedLeaseLastsExpiredOneQueuesTheJobAgain) {
  const std::string id = Submit();
  const Lease first = ClaimOne();
  now_ms_ += kLeaseMs - 1;
  ASSERT_TRUE(store_->Renew(first, kLeaseMs).ok());
  now_ms_ += kLeaseMs - 1;
  EXPECT_EQ(*store_->ExpireLeases(), 0);
  EXPECT_TRUE(NothingToClaim());
  now_ms_ += 1;
  EXPECT_EQ(*store_->ExpireLeases(), 1);
  EXPECT_EQ(Get(id).state, JobState::kQueued);
  ExpectFenced(first);

  const Lease second = ClaimOne("w2");
  EXPECT_EQ(second.job_id, id);
  EXPECT_GT(second.token, first.token);
  EXPECT_EQ(Get(id).attempt, 2);
  ExpectFenced(first);
  ASSERT_TRUE(store_->Finish(second, Succeeded("second")).ok());
  ExpectFenced(first);
  EXPECT_EQ(Get(id).result, "second");
  EXPECT_EQ(Counter(kLeasesLost), 1);
  EXPECT_THAT(States(id), ElementsAre(JobState::kQueued, JobState::kRunning, JobState::kQueued,
                                      JobState::kRunning, JobState::kSucceeded));
}

TEST_P(JobStoreLeaseTest, NewAttemptStartsWithoutTheOldProgress) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  const NewEvent progress{EventKind::kProgress, "90 %"};
  ASSERT_TRUE(store_->Append(lease, {&progress, 1}).ok());
  EXPECT_EQ(Get(id).progress, "90 %");
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed"), 1);
  ClaimOne();
  EXPECT_EQ(Get(id).progress, "");
}

TEST_P(JobStoreLeaseTest, DeadWorkersJobsAreQueuedAtOnceThoseOfOthersStay) {
  const std::string a = Submit();
  const std::string b = Submit();
  const Lease lease_a = ClaimOne("child-1");
  const Lease lease_b = ClaimOne("host-1");
  EXPECT_EQ(*store_->ReleaseWorkers("child-", "killed by signal 9"), 1);
  EXPECT_EQ(Get(a).state, JobState::kQueued);
  EXPECT_EQ(Get(b).state, JobState::kRunning);
  ExpectFenced(lease_a);
  EXPECT_TRUE(store_->Renew(lease_b, kLeaseMs).ok());
  const Job job = Get(a);
  ASSERT_EQ(job.attempts.size(), 1u);
  EXPECT_EQ(job.attempts[0].outcome, kOutcomeLost);
  EXPECT_EQ(job.attempts[0].error->reason, kWorkerDied);
  EXPECT_THAT(job.attempts[0].error->message, HasSubstr("child-1: killed by signal 9"));
}

TEST_P(JobStoreLeaseTest, TwiceKilledForMemoryIsEnough) {
  const std::string id = Submit();
  ClaimOne();
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed for want of memory", kHostOutOfMemory), 1);
  EXPECT_EQ(Get(id).state, JobState::kQueued);
  EXPECT_FALSE(store_->Claim("w1", kLeaseMs)->has_value()) << "it pauses";
  now_ms_ += 60'000;
  ClaimOne();
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed for want of memory", kHostOutOfMemory), 1);
  const Job job = Get(id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error->reason, kHostOutOfMemory);
  EXPECT_EQ(job.attempts.size(), 2u);
  // Other deaths in between do not count.
  const std::string other = Submit();
  ClaimOne();
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed for want of memory", kHostOutOfMemory), 1);
  now_ms_ += 60'000;
  ClaimOne();
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed"), 1);
  EXPECT_EQ(Get(other).state, JobState::kQueued);
}

TEST_P(JobStoreLeaseTest, ThirdLostAttemptFailsTheJobWithEveryError) {
  const std::string id = Submit();
  for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
    ClaimOne();
    EXPECT_EQ(Get(id).attempt, attempt);
    ASSERT_EQ(*store_->ReleaseWorkers("w1", "death " + std::to_string(attempt)), 1);
  }
  const Job job = Get(id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error->reason, kAttemptsExhausted);
  EXPECT_EQ(job.attempts.size(), 3u);
  for (const char* death : {"death 1", "death 2", "death 3"}) {
    EXPECT_THAT(job.error->message, HasSubstr(death));
  }
  EXPECT_TRUE(NothingToClaim());
  EXPECT_EQ(AllEvents(id).back().error->reason, kAttemptsExhausted);
}

TEST_P(JobStoreLeaseTest, ReleasedAttemptsAreNotCounted) {
  const std::string id = Submit();
  for (int i = 0; i < 2 * kMaxAttempts; ++i) {
    const Lease lease = ClaimOne();
    EXPECT_EQ(Get(id).attempt, 1);
    ASSERT_TRUE(store_->Release(lease).ok());
    EXPECT_EQ(Get(id).state, JobState::kQueued);
    EXPECT_EQ(Get(id).attempt, 0);
    ExpectFenced(lease);
  }
  EXPECT_EQ(Get(id).attempts.back().outcome, kOutcomeReleased);
}

TEST_P(JobStoreLeaseTest, FailureIsFinalUnlessRetried) {
  const std::string a = Submit();
  ASSERT_EQ(*store_->Finish(ClaimOne(), Failed("MODEL_CORRUPT", false)), JobState::kFailed);
  EXPECT_EQ(Get(a).error->reason, "MODEL_CORRUPT");
  EXPECT_EQ(AllEvents(a).back().error->message, "because of MODEL_CORRUPT");

  const std::string b = Submit();
  ASSERT_EQ(*store_->Finish(ClaimOne(), Failed("FLAKY", true)), JobState::kQueued);
  EXPECT_TRUE(NothingToClaim()) << "a retry waits a little";
  now_ms_ += 60'000;
  ASSERT_EQ(*store_->Finish(ClaimOne(), Failed("FLAKY", true)), JobState::kQueued);
  now_ms_ += 60'000;
  ASSERT_EQ(*store_->Finish(ClaimOne(), Failed("FLAKY", true)), JobState::kFailed);
  EXPECT_EQ(Get(b).error->reason, kAttemptsExhausted);
  EXPECT_EQ(Get(b).attempts.size(), 3u);
}

TEST_P(JobStoreLeaseTest, CancellationOfARunningJobReachesItsWorker) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  EXPECT_FALSE(*store_->Renew(lease, kLeaseMs));
  ASSERT_EQ(store_->Cancel(id)->state, JobState::kCancelling);
  ASSERT_EQ(store_->Cancel(id)->state, JobState::kCancelling);
  EXPECT_TRUE(*store_->Renew(lease, kLeaseMs));
  Outcome outcome;
  outcome.kind = Outcome::Kind::kCancelled;
  EXPECT_EQ(*store_->Finish(lease, outcome), JobState::kCancelled);
  EXPECT_EQ(Get(id).attempts.back().outcome, kOutcomeCancelled);
  EXPECT_THAT(States(id), ElementsAre(JobState::kQueued, JobState::kRunning, JobState::kCancelling,
                                      JobState::kCancelled));
}

TEST_P(JobStoreLeaseTest, CancelIsFinalWhateverTheAttemptSays) {
  const auto cancelled = [&] {
    const std::string id = Submit();
    const Lease lease = ClaimOne();
    EXPECT_TRUE(store_->Cancel(id).ok());
    return lease;
  };
  Lease lease = cancelled();
  EXPECT_EQ(*store_->Finish(lease, Succeeded("too late")), JobState::kCancelled);
  EXPECT_EQ(Get(lease.job_id).result, "");
  lease = cancelled();
  EXPECT_EQ(*store_->Finish(lease, Failed("X", true)), JobState::kCancelled);
  lease = cancelled();
  ASSERT_TRUE(store_->Release(lease).ok());
  EXPECT_EQ(Get(lease.job_id).state, JobState::kCancelled);
  lease = cancelled();
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed"), 1);
  EXPECT_EQ(Get(lease.job_id).state, JobState::kCancelled);
}

TEST_P(JobStoreLeaseTest, PublishingAndCancellationExcludeEachOther) {
  const std::string a = Submit();
  const Lease lease_a = ClaimOne();
  ASSERT_TRUE(store_->BeginPublish(lease_a).ok());
  const absl::Status late = store_->Cancel(a).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(late.message()), HasSubstr("publishing"));
  EXPECT_EQ(*store_->Finish(lease_a, Succeeded("r")), JobState::kSucceeded);

  const std::string b = Submit();
  const Lease lease_b = ClaimOne();
  ASSERT_TRUE(store_->Cancel(b).ok());
  EXPECT_EQ(store_->BeginPublish(lease_b).code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(Get(b).publishing);
}

TEST_P(JobStoreLeaseTest, CancelRacingWithPublishHasOneWinner) {
  const auto other = Open();
  for (int round = 0; round < 20; ++round) {
    const std::string id = Submit();
    const Lease lease = ClaimOne();
    absl::Status cancel, publish;
    std::thread canceller([&] { cancel = other->Cancel(id).status(); });
    publish = store_->BeginPublish(lease);
    canceller.join();
    EXPECT_NE(cancel.ok(), publish.ok()) << cancel << " / " << publish;
    const auto state = store_->Finish(lease, Succeeded("r"));
    EXPECT_EQ(*state, publish.ok() ? JobState::kSucceeded : JobState::kCancelled);
  }
}

TEST_P(JobStoreLeaseTest, PublisherThatDiesLeavesACancellableJob) {
  const std::string id = Submit();
  const Lease lease = ClaimOne();
  ASSERT_TRUE(store_->BeginPublish(lease).ok());
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "killed"), 1);
  EXPECT_FALSE(Get(id).publishing);
  EXPECT_TRUE(store_->Cancel(id).ok());
}

INSTANTIATE_TEST_SUITE_P(Stores, JobStoreLeaseTest, ::testing::ValuesIn(Implementations()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace svdllm
