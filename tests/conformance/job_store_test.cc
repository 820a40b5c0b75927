// The calls of the API side: submission, reading, cancellation, deletion, and durability.
#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "base/utf8.h"
#include "job_store_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_P(JobStoreTest, CreatedJobIsQueuedWithItsFirstEvent) {
  NewJob job = Make("r1", std::string("bytes\0with zero", 15));
  job.kind = JobKind::kEvaluate;
  job.labels = {{"team", "a"}, {"run", ""}};
  job.timeout_ms = 5000;
  job.owner = "ci";
  job.ttl_ms = 7000;
  const auto created = store_->Create(job, kNoLimit);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_TRUE(created->created);
  const Job read = Get(job.id);
  EXPECT_EQ(read.state, JobState::kQueued);
  EXPECT_EQ(read.kind, JobKind::kEvaluate);
  EXPECT_EQ(read.request, job.request);
  EXPECT_EQ(read.labels, job.labels);
  EXPECT_EQ(read.timeout_ms, 5000);
  EXPECT_EQ(read.owner, "ci");
  EXPECT_EQ(read.ttl_ms, 7000);
  EXPECT_EQ(read.create_ms, now_ms_);
  EXPECT_EQ(read.attempt, 0);
  EXPECT_EQ(read.last_sequence, 1);
  EXPECT_THAT(States(job.id), ElementsAre(JobState::kQueued));
}

TEST_P(JobStoreTest, SameRequestIdAnswersWithTheSameJob) {
  const std::string first = Submit("r1", "payload");
  const auto again = store_->Create(Make("r1", "payload"), kNoLimit);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->job.id, first);
  const auto found = store_->FindRequest("r1", "payload");
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->id, first);
  EXPECT_NE(Submit("r2", "payload"), first);
  EXPECT_NE(Submit("", "payload"), Submit("", "payload"));
  EXPECT_FALSE(store_->FindRequest("", "payload")->has_value());
}

TEST_P(JobStoreTest, RequestIdOfAnotherPayloadIsRefused) {
  const std::string first = Submit("r1", "payload");
  for (const absl::Status& status : {store_->Create(Make("r1", "other"), kNoLimit).status(),
                                     store_->FindRequest("r1", "other").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ErrorReason(status), kRequestIdReused);
    EXPECT_THAT(std::string(status.message()), HasSubstr(first));
    EXPECT_EQ(OffendersOf(status)["job"], "jobs/" + first);
    EXPECT_EQ(OffendersOf(status)["request_id"], "r1");
  }
  EXPECT_EQ(store_->List({})->jobs.size(), 1u);
}

TEST_P(JobStoreTest, OutputsBelongToOneJobUntilItHasEnded) {
  const auto make = [](std::vector<std::string> outputs, const std::string& request_id = "") {
    NewJob job = Make(request_id, "p");
    job.outputs = std::move(outputs);
    return job;
  };
  const NewJob first = make({"file:///o/a/keep-0.80", "file:///o/a/keep-0.60"}, "r1");
  ASSERT_TRUE(store_->Create(first, kNoLimit).ok());
  for (const std::string taken :
       {"file:///o/a/keep-0.80", "file:///o/a/keep-0.60/x/y", "file:///o/a", "file:///o"}) {
    for (const absl::Status& status :
         {store_->Create(make({"file:///o/free", taken}), kNoLimit).status(),
          store_->CheckOutputs({"file:///o/free", taken})}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << taken;
      EXPECT_EQ(ErrorReason(status), kOutputExists);
      EXPECT_EQ(OffendersOf(status)["job"], "jobs/" + first.id);
      EXPECT_EQ(OffendersOf(status)["output"], taken);
    }
  }
  for (const std::string free :
       {"file:///o/a/keep-0.8", "file:///o/a/keep-0.800", "file:///o/ab"}) {
    EXPECT_TRUE(store_->CheckOutputs({free}).ok()) << free;
    EXPECT_TRUE(store_->Create(make({free}), kNoLimit).ok()) << free;
  }
  EXPECT_FALSE(store_->Create(first, kNoLimit)->created) << "a repeated submission is its own job";
  ClaimOne();
  EXPECT_FALSE(store_->CheckOutputs(first.outputs).ok()) << "while it runs";
  ASSERT_TRUE(store_->Cancel(first.id).ok());
  EXPECT_FALSE(store_->CheckOutputs(first.outputs).ok()) << "until it has stopped";
  ASSERT_EQ(*store_->ReleaseWorkers("w1", "gone"), 1);
  EXPECT_TRUE(store_->CheckOutputs(first.outputs).ok());
  EXPECT_TRUE(store_->Create(make(first.outputs), kNoLimit).ok());
}

TEST_P(JobStoreTest, OfManySubmissionsWithOneOutputOneIsTaken) {
  const auto second = Open();  // as another process would
  std::atomic<int> created{0}, refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      NewJob job = Make("", "p");
      job.outputs = {i % 3 == 0 ? "file:///o/a" : "file:///o/a/b"};
      const auto result = (i % 2 == 0 ? *store_ : *second).Create(job, kNoLimit);
      ++(result.ok() ? created : refused);
      EXPECT_TRUE(result.ok() || ErrorReason(result.status()) == kOutputExists);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(created, 1);
  EXPECT_EQ(refused, 7);
}

TEST_P(JobStoreTest, TimingsAreOfJobsThatAreAlikeTheLatestFirst) {
  for (int i = 1; i <= kTimingsKept + 3; ++i) {
    Submit();
    Outcome outcome = Succeeded("");
    outcome.timing = Timing{i == 1 ? "b" : "a", 100.0 * i, 1.0 * i};
    ASSERT_TRUE(store_->Finish(ClaimOne(), outcome).ok());
  }
  Submit();
  ASSERT_TRUE(store_->Finish(ClaimOne(), Failed("X", false)).ok()) << "has none";
  EXPECT_TRUE(store_->Timings({"c"})->empty());
  EXPECT_TRUE(store_->Timings({})->empty());
  store_ = Open();
  const auto of_a = store_->Timings({"a"});
  ASSERT_TRUE(of_a.ok()) << of_a.status();
  ASSERT_EQ(of_a->size(), static_cast<size_t>(kTimingsKept)) << "older ones are forgotten";
  EXPECT_EQ(of_a->front().work, 100.0 * (kTimingsKept + 3));
  EXPECT_EQ(of_a->front().seconds, 1.0 * (kTimingsKept + 3));
  EXPECT_EQ(of_a->front().like, "a");
  EXPECT_EQ(store_->Timings({"a", "b"})->size(), static_cast<size_t>(kTimingsKept + 1));
}

// What people read is bounded wherever it comes from, and is text still.
TEST_P(JobStoreTest, MessagesOfErrorsAreBounded) {
  const std::string id = Submit();
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "é";
  Outcome outcome = Failed("X", false);
  outcome.error.message = "x" + text;
  ASSERT_TRUE(store_->Finish(ClaimOne(), outcome).ok());
  const Job job = Get(id);
  for (const std::string& message :
       {job.error->message, job.attempts[0].error->message, AllEvents(id).back().error->message}) {
    EXPECT_LE(message.size(), kMaxRecordedBytes);
    EXPECT_GT(message.size(), kMaxRecordedBytes - 8);
    EXPECT_TRUE(IsValidUtf8(message));
  }
  const std::string retried = Submit();
  outcome.retry = true;
  for (int i = 0; i < kMaxAttempts; ++i) {
    now_ms_ += 3'600'000;
    ASSERT_TRUE(store_->Finish(ClaimOne(), outcome).ok());
  }
  const Job exhausted = Get(retried);
  EXPECT_LE(exhausted.error->message.size(), kMaxRecordedBytes);
  EXPECT_TRUE(IsValidUtf8(exhausted.error->message));
  EXPECT_THAT(exhausted.error->message, HasSubstr("3: X: ")) << "each attempt has its share";
}

TEST_P(JobStoreTest, OneJobPerRequestIdUnderConcurrency) {
  constexpr int kThreads = 8;
  const auto second = Open();  // as another process would
  std::vector<std::string> ids(kThreads);
  std::atomic<int> created{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      JobStore& store = i % 2 == 0 ? *store_ : *second;
      for (int round = 0; round < 10; ++round) {
        const auto result = store.Create(Make("r" + std::to_string(round), "p"), kNoLimit);
        ASSERT_TRUE(result.ok()) << result.status();
        if (result->created) ++created;
        ids[static_cast<size_t>(i)] += result->job.id + " ";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(created, 10);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 1u);
}

TEST_P(JobStoreTest, FullQueueRefusesNewJobsButKnowsOldOnes) {
  const std::string first = Submit("r1", "p", 2);
  Submit("r2", "p", 2);
  const absl::Status full = store_->Create(Make("r3", "p"), 2).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(full), kQueueFull);
  EXPECT_EQ(Submit("r1", "p", 2), first);
  ClaimOne();  // running jobs do not wait
  EXPECT_NE(Submit("r3", "p", 2), "");
}

TEST_P(JobStoreTest, UnknownJobsAreNotFoundByName) {
  for (const absl::Status& status :
       {store_->Get("nope").status(), store_->Cancel("nope").status(), store_->Delete("nope")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(ErrorReason(status), kJobNotFound);
    EXPECT_THAT(std::string(status.message()), HasSubstr("jobs/nope"));
    EXPECT_EQ(OffendersOf(status)["job"], "jobs/nope");
  }
  EXPECT_TRUE(AllEvents("nope").empty());
}

TEST_P(JobStoreTest, ListPagesNewestFirstAndSurvivesInsertsAndDeletions) {
  std::vector<std::string> ids;
  for (int i = 0; i < 7; ++i) ids.push_back(Submit());
  ListQuery query;
  query.page_size = 3;
  std::vector<std::string> seen;
  bool disturbed = false;
  do {
    const auto page = store_->List(query);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const Job& job : page->jobs) seen.push_back(job.id);
    query.page_token = page->next_page_token;
    if (!disturbed) {
      Submit();  // newer than the first page: not seen
      ASSERT_TRUE(store_->Cancel(ids[0]).ok());
      ASSERT_TRUE(store_->Delete(ids[0]).ok());
      disturbed = true;
    }
  } while (!query.page_token.empty());
  EXPECT_THAT(seen, ElementsAre(ids[6], ids[5], ids[4], ids[3], ids[2], ids[1]));
}

TEST_P(JobStoreTest, ListPagesOldestFirstToo) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Submit());
  ListQuery query;
  query.page_size = 2;
  query.oldest_first = true;
  std::vector<std::string> seen;
  do {
    const auto page = store_->List(query);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const Job& job : page->jobs) seen.push_back(job.id);
    query.page_token = page->next_page_token;
    if (seen.size() == 2) ids.push_back(Submit());  // newer than all: seen at last
  } while (!query.page_token.empty());
  EXPECT_EQ(seen, ids);
  ListQuery newest_first;
  newest_first.page_size = 2;
  query.page_token = store_->List(newest_first)->next_page_token;
  EXPECT_EQ(store_->List(query).status().code(), absl::StatusCode::kInvalidArgument)
      << "a token of the other order";
}

TEST_P(JobStoreTest, QueuedJobsKnowTheirPlace) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Submit());
  EXPECT_EQ(store_->Create(Make("", "p"), kNoLimit)->job.queue_position, 6);
  const auto position = [&](int i) { return Get(ids[static_cast<size_t>(i)]).queue_position; };
  EXPECT_EQ(position(0), 1);
  EXPECT_EQ(position(4), 5);
  ClaimOne();
  const auto cancelled = store_->Cancel(ids[2]);
  ASSERT_TRUE(cancelled.ok());
  EXPECT_EQ(cancelled->queue_position, 0);
  EXPECT_EQ(position(0), 0);
  EXPECT_EQ(position(1), 1);
  EXPECT_EQ(position(2), 0);
  EXPECT_EQ(position(3), 2);
  EXPECT_EQ(position(4), 3);
  for (const bool oldest_first : {false, true}) {
    ListQuery query;
    query.oldest_first = oldest_first;
    const auto page = store_->List(query);
    ASSERT_TRUE(page.ok());
    for (const Job& job : page->jobs) EXPECT_EQ(job.queue_position, Get(job.id).queue_position);
  }
  // What other pages have is counted too.
  ListQuery last;
  last.page_size = 1;
  EXPECT_EQ(store_->List(last)->jobs[0].queue_position, 4);
}

TEST_P(JobStoreTest, LastPageHasNoTokenEvenWhenFull) {
  for (int i = 0; i < 3; ++i) Submit();
  ListQuery query;
  query.page_size = 3;
  EXPECT_TRUE(store_->List(query)->next_page_token.empty());
}

TEST_P(JobStoreTest, ListFiltersByStateKindAndLabels) {
  const auto submit = [&](JobKind kind, std::map<std::string, std::string> labels) {
    NewJob job = Make("", "p");
    job.kind = kind;
    job.labels = std::move(labels);
    EXPECT_TRUE(store_->Create(job, kNoLimit).ok());
    return job.id;
  };
  const auto list = [&](ListQuery query) {
    std::vector<std::string> ids;
    const auto page = store_->List(query);
    EXPECT_TRUE(page.ok()) << page.status();
    for (const Job& job : page->jobs) ids.push_back(job.id);
    return ids;
  };
  const std::string a = submit(JobKind::kCompressModel, {{"team", "x"}, {"run", "1"}});
  const std::string b = submit(JobKind::kEvaluate, {{"team", "x"}});
  const std::string c = submit(JobKind::kEvaluate, {{"team", "y"}, {"run", "1"}});
  ASSERT_TRUE(store_->Cancel(b).ok());
  ListQuery by_state;
  by_state.states = {JobState::kQueued, JobState::kFailed};
  EXPECT_THAT(list(by_state), ElementsAre(c, a));
  ListQuery by_kind;
  by_kind.kinds = {JobKind::kEvaluate};
  EXPECT_THAT(list(by_kind), ElementsAre(c, b));
  ListQuery by_labels;
  by_labels.labels = {{"team", "x"}, {"run", "1"}};
  EXPECT_THAT(list(by_labels), ElementsAre(a));
  ListQuery both = by_kind;
  both.labels = {{"team", "x"}};
  EXPECT_THAT(list(both), ElementsAre(b));
}

TEST_P(JobStoreTest, PageTokensOfOtherFiltersAreRefused) {
  for (int i = 0; i < 3; ++i) Submit();
  ListQuery query;
  query.page_size = 1;
  query.page_token = store_->List(query)->next_page_token;
  ASSERT_FALSE(query.page_token.empty());
  query.states = {JobState::kQueued};
  EXPECT_EQ(store_->List(query).status().code(), absl::StatusCode::kInvalidArgument);
  for (const char* token :
       {"x", "-", "99999999999999999999999-abc", "1-abc", "'; DROP TABLE jobs"}) {
    ListQuery bad;
    bad.page_token = token;
    EXPECT_EQ(store_->List(bad).status().code(), absl::StatusCode::kInvalidArgument) << token;
  }
}

TEST_P(JobStoreTest, QueuedJobIsCancelledAtOnceAndNeverClaimed) {
  const std::string id = Submit();
  ASSERT_TRUE(store_->Cancel(id).ok());
  EXPECT_EQ(Get(id).state, JobState::kCancelled);
  EXPECT_EQ(Get(id).end_ms, now_ms_);
  EXPECT_TRUE(NothingToClaim());
  ASSERT_TRUE(store_->Cancel(id).ok()) << "cancelling twice is harmless";
  EXPECT_THAT(States(id), ElementsAre(JobState::kQueued, JobState::kCancelled));
}

TEST_P(JobStoreTest, EndedJobsCannotBeCancelled) {
  const std::string id = Submit();
  ASSERT_TRUE(store_->Finish(ClaimOne(), Succeeded("r")).ok());
  const absl::Status status = store_->Cancel(id).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrorReason(status), kJobStateReason);
  EXPECT_THAT(std::string(status.message()), HasSubstr("SUCCEEDED"));
}

TEST_P(JobStoreTest, OnlyEndedJobsAreDeletedAndTakeTheirEventsWithThem) {
  const std::string id = Submit("r1");
  EXPECT_EQ(store_->Delete(id).code(), absl::StatusCode::kFailedPrecondition);
  const Lease lease = ClaimOne();
  EXPECT_EQ(store_->Delete(id).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(store_->Finish(lease, Succeeded("r")).ok());
  ASSERT_TRUE(store_->Delete(id).ok());
  EXPECT_EQ(store_->Get(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(AllEvents(id).empty());
  EXPECT_EQ(Get(Submit("r1")).last_sequence, 1) << "its request_id is free again";
}

TEST_P(JobStoreTest, EverythingIsThereAfterReopening) {
  const std::string queued = Submit("r1");
  const std::string done = Submit("r2");
  ASSERT_TRUE(store_->Cancel(queued).ok());
  const Lease lease = ClaimOne();
  const NewEvent event{EventKind::kProgress, "half"};
  ASSERT_TRUE(store_->Append(lease, {&event, 1}).ok());
  store_.reset();
  store_ = Open();
  EXPECT_EQ(Get(queued).state, JobState::kCancelled);
  EXPECT_EQ(Get(done).state, JobState::kRunning);
  EXPECT_EQ(Get(done).progress, "half");
  ASSERT_TRUE(store_->Finish(lease, Succeeded("r")).ok()) << "leases outlive the process";
  EXPECT_EQ(Get(done).result, "r");
}

TEST_P(JobStoreTest, VersionChangesWithEveryWriteOfAnyConnection) {
  const auto other = Open();
  const int64_t before = *store_->Version();
  EXPECT_EQ(*store_->Version(), before);
  const std::string id = Submit();
  const int64_t after = *store_->Version();
  EXPECT_NE(after, before);
  ASSERT_TRUE(other->Cancel(id).ok());
  EXPECT_NE(*store_->Version(), after);
}

TEST_P(JobStoreTest, StatsCountStatesAndTheOldestWaiting) {
  EXPECT_EQ(store_->Stats()->oldest_queued_ms, 0);
  Submit();
  now_ms_ += 1000;
  Submit();
  ClaimOne();
  const auto stats = store_->Stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->jobs.size(), 6u);
  EXPECT_EQ(stats->jobs.at(JobState::kQueued), 1);
  EXPECT_EQ(stats->jobs.at(JobState::kRunning), 1);
  EXPECT_EQ(stats->jobs.at(JobState::kFailed), 0);
  EXPECT_EQ(stats->oldest_queued_ms, now_ms_);
  EXPECT_THAT(stats->busy_workers, ::testing::ElementsAre("w1"));
  EXPECT_TRUE(store_->CheckWritable().ok());
}

TEST_P(JobStoreTest, WhatWasPublishedIsDueOnceItsTimeIsOver) {
  std::vector<std::string> ids;
  for (const int64_t ttl_ms : {int64_t{500}, int64_t{0}, int64_t{200}, int64_t{500}}) {
    NewJob job = Make("", "payload");
    job.ttl_ms = ttl_ms;
    ASSERT_TRUE(store_->Create(job, kNoLimit).ok());
    ids.push_back(job.id);
  }
  now_ms_ += 10'000;  // waiting does not count
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(store_->Finish(ClaimOne(), Succeeded("r")).ok());
  }
  const auto due = [&](int limit, int skip) {
    const auto jobs = store_->Expiring(limit, skip);
    EXPECT_TRUE(jobs.ok()) << jobs.status();
    std::vector<std::string> found;
    for (const Job& job : *jobs) found.push_back(job.id);
    return found;
  };
  now_ms_ += 199;
  EXPECT_THAT(due(9, 0), ElementsAre());
  now_ms_ += 1;
  EXPECT_THAT(due(9, 0), ElementsAre(ids[2]));
  now_ms_ += 300;
  EXPECT_THAT(due(9, 0), ElementsAre(ids[2], ids[0]));
  EXPECT_THAT(due(1, 0), ElementsAre(ids[2]));
  EXPECT_THAT(due(1, 1), ElementsAre(ids[0]));
  ASSERT_TRUE(store_->SetExpired(ids[2]).ok());
  EXPECT_THAT(due(9, 0), ElementsAre(ids[0]));
  EXPECT_EQ(Get(ids[2]).expired_ms, now_ms_);
  EXPECT_EQ(ErrorReason(store_->SetExpired("none")), kJobNotFound);
}

TEST_P(JobStoreTest, OldJobsAreDeletedWithTheirHistory) {
  NewJob job = Make("r1", "payload");
  job.labels = {{"a", "b"}};
  ASSERT_TRUE(store_->Create(job, kNoLimit).ok());
  ASSERT_TRUE(store_->Cancel(job.id).ok());
  NewJob with_artifact = Make("", "payload");
  with_artifact.ttl_ms = 100;
  ASSERT_TRUE(store_->Create(with_artifact, kNoLimit).ok());
  ASSERT_TRUE(store_->Finish(ClaimOne(), Succeeded("r")).ok());
  const std::string waiting = Submit();
  EXPECT_EQ(*store_->DeleteEnded(0, 10), 0) << "not older than itself";
  now_ms_ += 1000;
  const std::string later = Submit();
  ASSERT_TRUE(store_->Cancel(later).ok());
  EXPECT_EQ(*store_->DeleteEnded(1000, 10), 0);
  EXPECT_EQ(*store_->DeleteEnded(999, 10), 1);
  EXPECT_EQ(ErrorReason(store_->Get(job.id).status()), kJobNotFound);
  EXPECT_TRUE(AllEvents(job.id).empty());
  EXPECT_FALSE(store_->FindRequest("r1", "payload")->has_value());
  EXPECT_TRUE(store_->Get(with_artifact.id).ok()) << "its artifact is still there";
  ASSERT_TRUE(store_->SetExpired(with_artifact.id).ok());
  now_ms_ += 1000;
  EXPECT_EQ(*store_->DeleteEnded(999, 1), 1) << "the oldest first";
  EXPECT_EQ(*store_->DeleteEnded(999, 1), 1);
  EXPECT_FALSE(store_->Get(later).ok());
  EXPECT_EQ(Get(waiting).state, JobState::kQueued);
}

INSTANTIATE_TEST_SUITE_P(Stores, JobStoreTest, ::testing::ValuesIn(Implementations()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace svdllm
