// The service with the real pipeline behind it.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "server_fixture.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

class PipelineBindingTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    testing::WriteTinyCheckpoint(model_);  // 128 positions
    std::ofstream text(text_);
    for (int i = 0; i < 100; ++i) text << "Line " << i * i << " is not quite regular.\n";
    operations_ = *PipelineOperations("cpu");
    StartServer();
  }
};

TEST_F(PipelineBindingTest, AbsentLengthsFollowTheModelAndAreShown) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->clear_seq_len();
  request.mutable_evaluation()->mutable_text()->set_uri(text_);
  request.mutable_evaluation()->set_limit(2);
  const v1::Job queued = Submit(request);
  EXPECT_EQ(queued.compress_model_request().calibration().seq_len(), 128);
  EXPECT_EQ(queued.compress_model_request().evaluation().seq_len(), 128);

  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.mutable_tasks(0)->clear_seq_len();
  v1::Job evaluated;
  const grpc::Status status = Evaluate(evaluation, evaluated);
  ASSERT_TRUE(status.ok()) << status.error_message();

  StartWorker();
  const v1::Job job = AwaitEnd(queued.name());
  ASSERT_EQ(job.state(), v1::SUCCEEDED) << job.DebugString();
  ASSERT_EQ(job.artifact_uris_size(), 1);
  EXPECT_TRUE(
      std::filesystem::exists(job.artifact_uris(0).substr(7) + "/compression_manifest.json"));
  ASSERT_EQ(job.compress_model_result().perplexities_size(), 1);
  // Each window predicts all of its tokens but the first.
  EXPECT_EQ(job.compress_model_result().perplexities(0).predicted_tokens(), 2 * 127);
  evaluated = AwaitEnd(evaluated.name());
  ASSERT_EQ(evaluated.state(), v1::SUCCEEDED) << evaluated.DebugString();
  EXPECT_EQ(evaluated.evaluate_result().perplexities(0).predicted_tokens(), 2 * 127);
}

TEST_F(PipelineBindingTest, LengthsBeyondTheModelAreRefusedByName) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->set_seq_len(129);
  v1::Job job;
  const grpc::Status status = Compress(request, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields(), ::testing::ElementsAre("calibration.seq_len"));
}

// Without a text of its own, the windows are what calibration leaves of its text.
TEST_F(PipelineBindingTest, HeldOutWindowsAreAsLongAsTheCalibrations) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->set_seq_len(64);
  request.mutable_evaluation()->set_seq_len(32);
  EXPECT_EQ(Submit(request).compress_model_request().evaluation().seq_len(), 64);
}

}  // namespace
}  // namespace svdllm
