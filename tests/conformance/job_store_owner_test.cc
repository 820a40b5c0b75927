// Jobs of several owners: what each may have at a time, and lists of one's own.
#include <gmock/gmock.h>

#include "job_store_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;

class JobStoreOwnerTest : public JobStoreTest {
 protected:
  absl::Status Create(const std::string& owner, std::string* id = nullptr) {
    NewJob job = Make("", "payload");
    job.owner = owner;
    if (id != nullptr) *id = job.id;
    return store_->Create(job, kNoLimit).status();
  }
  std::string Of(const std::string& owner) {
    std::string id;
    const absl::Status status = Create(owner, &id);
    EXPECT_TRUE(status.ok()) << status;
    return id;
  }
  void Reopen(OwnerLimits limits) {
    store_.reset();
    store_ = Open(limits);
  }
};

TEST_P(JobStoreOwnerTest, NobodyQueuesMoreThanTheirShare) {
  Reopen({.queued = 2});
  const std::string first = Of("alice");
  Of("alice");
  const absl::Status third = Create("alice");
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted) << third;
  EXPECT_EQ(ErrorReason(third), kQuotaExceeded);
  // Others have a share of their own, and those that nobody knows have none.
  for (int i = 0; i < 2; ++i) Of("bob");
  for (int i = 0; i < 3; ++i) Of("");
  // What no longer waits does not count.
  EXPECT_EQ(ClaimOne().job_id, first);
  EXPECT_TRUE(Create("alice").ok());
  EXPECT_EQ(ErrorReason(Create("alice")), kQuotaExceeded);
}

TEST_P(JobStoreOwnerTest, AnotherUseOfARequestIdIsNoMatterOfQuota) {
  Reopen({.queued = 1});
  NewJob job = Make("same", "payload");
  job.owner = "alice";
  ASSERT_TRUE(store_->Create(job, kNoLimit).ok());
  const std::string id = std::exchange(job.id, NewJobId());
  const auto again = store_->Create(job, kNoLimit);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->job.id, id);
}

TEST_P(JobStoreOwnerTest, WhoIsAtTheLimitIsPassedOver) {
  Reopen({.running = 1});
  const std::string a1 = Of("alice"), a2 = Of("alice"), b1 = Of("bob");
  const std::string nobodys1 = Of(""), nobodys2 = Of("");
  const Lease running = ClaimOne();
  EXPECT_EQ(running.job_id, a1);
  EXPECT_EQ(ClaimOne().job_id, b1);
  EXPECT_EQ(ClaimOne().job_id, nobodys1);
  EXPECT_EQ(ClaimOne().job_id, nobodys2);
  EXPECT_TRUE(NothingToClaim());
  // One that is being cancelled still takes a device.
  ASSERT_TRUE(store_->Cancel(a1).ok());
  EXPECT_TRUE(NothingToClaim());
  ASSERT_TRUE(store_->Finish(running, Succeeded("")).ok());
  EXPECT_EQ(ClaimOne().job_id, a2);
}

TEST_P(JobStoreOwnerTest, WithoutLimitsOneOwnerMayHaveAll) {
  const std::string first = Of("alice"), second = Of("alice");
  EXPECT_EQ(ClaimOne().job_id, first);
  EXPECT_EQ(ClaimOne().job_id, second);
}

TEST_P(JobStoreOwnerTest, ListsOfOneOwner) {
  const std::string a1 = Of("alice"), b1 = Of("bob"), a2 = Of("alice");
  ListQuery query;
  query.owner = "alice";
  query.page_size = 1;
  query.labels = {};
  const auto page = store_->List(query);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->jobs.size(), 1u);
  EXPECT_EQ(page->jobs[0].id, a2);
  query.page_token = page->next_page_token;
  const auto next = store_->List(query);
  ASSERT_TRUE(next.ok()) << next.status();
  ASSERT_EQ(next->jobs.size(), 1u);
  EXPECT_EQ(next->jobs[0].id, a1);
  EXPECT_EQ(next->next_page_token, "");
  query.owner = "bob";
  EXPECT_FALSE(store_->List(query).ok()) << "a token of another owner's list";
}

INSTANTIATE_TEST_SUITE_P(All, JobStoreOwnerTest, ::testing::ValuesIn(Implementations()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace svdllm
