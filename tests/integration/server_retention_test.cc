// What is kept no longer: artifacts by the request's artifact_ttl, jobs by the server's setting.
#include <gmock/gmock.h>

#include "server/retention.h"
#include "server_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class RetentionTest : public ServerTest {
 protected:
  std::string PathOf(const v1::Job& job) const {
    return directory_ + "/artifacts/" + job.name().substr(5);
  }
};

TEST_F(RetentionTest, ArtifactIsRemovedWhenItsTimeIsOver) {
  StartWorker();
  v1::CompressModelRequest request = Compression();
  const v1::Job kept = AwaitEnd(Submit(request).name());
  request.mutable_artifact_ttl()->set_seconds(3600);
  const v1::Job later = AwaitEnd(Submit(request).name());
  request.mutable_artifact_ttl()->set_seconds(0);
  request.mutable_artifact_ttl()->set_nanos(1'000'000);
  const v1::Job soon = AwaitEnd(Submit(request).name());
  EXPECT_FALSE(kept.has_artifact_expire_time());
  EXPECT_EQ(later.artifact_expire_time().seconds(), later.end_time().seconds() + 3600);
  EXPECT_EQ(later.compress_model_request().artifact_ttl().seconds(), 3600);
  ASSERT_TRUE(std::filesystem::exists(PathOf(soon)));

  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(Collect(*store_, *artifacts_, 0));
  EXPECT_FALSE(std::filesystem::exists(PathOf(soon)));
  const v1::Job after = Get(soon.name());
  EXPECT_TRUE(after.artifacts_expired());
  EXPECT_THAT(after.artifact_uris(), IsEmpty());
  EXPECT_THAT(after.compress_model_result().artifacts(), SizeIs(1)) << "its figures stay";
  for (const v1::Job& job : {kept, later}) {
    EXPECT_TRUE(std::filesystem::exists(PathOf(job)));
    EXPECT_FALSE(Get(job.name()).artifacts_expired());
    EXPECT_THAT(Get(job.name()).artifact_uris(), SizeIs(1));
  }
}

TEST_F(RetentionTest, SomebodyElsesArtifactInItsPlaceStays) {
  StartWorker();
  v1::CompressModelRequest request = Compression();
  request.mutable_artifact_ttl()->set_nanos(1'000'000);
  const v1::Job job = AwaitEnd(Submit(request).name());
  std::ofstream(PathOf(job) + "/compression_manifest.json") << "another";
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  Collect(*store_, *artifacts_, 0);
  EXPECT_TRUE(std::filesystem::exists(PathOf(job) + "/compression_manifest.json"));
  EXPECT_TRUE(Get(job.name()).artifacts_expired()) << "its own is gone";
}

TEST_F(RetentionTest, JobsGoAfterTheirArtifactsAndInBoundedSteps) {
  for (int i = 0; i < 300; ++i) {
    NewJob job;
    job.id = NewJobId();
    job.ttl_ms = i == 0 ? 3600'000 : 0;
    ASSERT_TRUE(store_->Create(job, 1000).ok());
    ASSERT_TRUE(store_->Cancel(job.id).ok());
  }
  const std::string waiting = Submit(Compression()).name();
  EXPECT_FALSE(Collect(*store_, *artifacts_, 3600'000)) << "too young";
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(Collect(*store_, *artifacts_, 1)) << "more than a step's";
  EXPECT_FALSE(Collect(*store_, *artifacts_, 1));
  const auto stats = store_->Stats();
  EXPECT_EQ(stats->jobs.at(JobState::kCancelled), 1) << "what it published is still to be removed";
  EXPECT_EQ(Get(waiting).state(), v1::JOB_STATE_QUEUED);
}

TEST_F(RetentionTest, TimesThatAreNoneAreRefused) {
  for (const int64_t seconds : {int64_t{0}, int64_t{-5}, int64_t{1} << 40}) {
    v1::CompressModelRequest request = Compression();
    request.mutable_artifact_ttl()->set_seconds(seconds);
    v1::Job job;
    const grpc::Status status = Compress(request, job);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << seconds;
    EXPECT_THAT(DetailsOf(status).fields(), ElementsAre("artifact_ttl"));
  }
  v1::EvaluateRequest request = Evaluation();
  request.mutable_artifact_ttl()->set_nanos(1);
  v1::Job job;
  EXPECT_EQ(Evaluate(request, job).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace svdllm
