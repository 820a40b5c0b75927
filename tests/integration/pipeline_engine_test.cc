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
    engine_ = *PipelineEngine({{"cpu"}});
    StartServer();
  }
};

TEST_F(PipelineBindingTest, AbsentLengthsFollowTheModelAndAreShown) {
  const std::string questions = directory_ + "/questions.jsonl";
  std::ofstream(questions) << R"({"query": "Line 1", "choices": ["is", "not"], "gold": 0})"
                           << "\n";
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->clear_seq_len();
  const auto add = [&](const std::string& task, const std::string& label, int64_t limit) {
    v1::EvaluationTask& added = *request.mutable_evaluation()->add_tasks();
    added.set_name(task);
    added.set_label(label);
    added.mutable_dataset()->set_uri(task == "multiple_choice" ? questions : text_);
    added.set_limit(limit);
    return &added;
  };
  add("perplexity", "", 2);
  add("multiple_choice", "asked", 0);  // has no length, and takes none from the texts around it
  add("wikitext2", "named", 3)->set_seq_len(32);
  const v1::Job queued = Submit(request);
  EXPECT_EQ(queued.compress_model_request().calibration().seq_len(), 128);
  const v1::ReportEvaluation& asked = queued.compress_model_request().evaluation();
  EXPECT_EQ(asked.tasks(0).seq_len(), 128);
  EXPECT_EQ(asked.tasks(1).seq_len(), 0);
  EXPECT_EQ(asked.tasks(2).seq_len(), 32);

  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.mutable_tasks(0)->clear_seq_len();
  v1::Job evaluated;
  const grpc::Status status = Evaluate(evaluation, evaluated);
  ASSERT_TRUE(status.ok()) << status.error_message();

  StartWorker();
  const v1::Job job = AwaitEnd(queued.name());
  ASSERT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED) << job.DebugString();
  ASSERT_EQ(job.artifact_uris_size(), 1);
  EXPECT_TRUE(
      std::filesystem::exists(job.artifact_uris(0).substr(7) + "/compression_manifest.json"));
  // Each window predicts all of its tokens but the first.
  const auto& perplexities = job.compress_model_result().perplexities();
  ASSERT_EQ(perplexities.size(), 3);
  EXPECT_EQ(perplexities[0].name(), "held_out_perplexity");
  EXPECT_TRUE(perplexities[0].held_out());
  EXPECT_EQ(perplexities[1].name(), "perplexity");
  EXPECT_FALSE(perplexities[1].held_out());
  EXPECT_EQ(perplexities[1].predicted_tokens(), 2 * 127);
  EXPECT_EQ(perplexities[2].name(), "named");
  EXPECT_EQ(perplexities[2].predicted_tokens(), 3 * 31);
  ASSERT_EQ(job.compress_model_result().tasks_size(), 1);
  EXPECT_EQ(job.compress_model_result().tasks(0).name(), "asked");
  evaluated = AwaitEnd(evaluated.name());
  ASSERT_EQ(evaluated.state(), v1::JOB_STATE_SUCCEEDED) << evaluated.DebugString();
  EXPECT_EQ(evaluated.evaluate_result().model().perplexities(0).predicted_tokens(), 2 * 127);
}

TEST_F(PipelineBindingTest, HowWindowsBeginIsShown) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->set_seq_len(32);
  v1::EvaluationTask& task = *request.mutable_evaluation()->add_tasks();
  task.set_name("perplexity");
  task.mutable_dataset()->set_uri(text_);
  task.set_window_start(v1::WINDOW_START_WINDOW);
  request.set_validate_only(true);
  const v1::Job planned = Submit(request);
  EXPECT_EQ(planned.compress_model_request().calibration().window_start(), v1::WINDOW_START_TEXT);
  EXPECT_EQ(planned.compress_model_request().evaluation().tasks(0).window_start(),
            v1::WINDOW_START_WINDOW);
  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.mutable_tasks(0)->clear_seq_len();
  evaluation.set_validate_only(true);
  v1::Job evaluated;
  ASSERT_TRUE(Evaluate(evaluation, evaluated).ok());
  EXPECT_EQ(evaluated.evaluate_request().tasks(0).seq_len(), 128);
  EXPECT_EQ(evaluated.evaluate_request().tasks(0).window_start(), v1::WINDOW_START_TEXT);
}

TEST_F(PipelineBindingTest, CalibrationThatCannotWorkIsRefusedAndWhatIsShortIsSaid) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->set_samples(500);
  request.mutable_calibration()->set_seq_len(64);
  request.set_validate_only(true);
  const v1::Job planned = Submit(request);
  EXPECT_EQ(planned.plan().calibration_sequences(), 500);
  ASSERT_EQ(planned.plan().warnings_size(), 1);
  EXPECT_THAT(planned.plan().warnings(0), ::testing::HasSubstr("they overlap"));
  std::ofstream(text_) << "too few";
  v1::Job refused;
  const grpc::Status status = Compress(request, refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(status).info.reason(), "CALIBRATION_INVALID");
  // Which reads no text at all.
  request.clear_calibration();
  request.set_method(v1::METHOD_SVD);
  const v1::Job without = Submit(request);
  EXPECT_FALSE(without.compress_model_request().has_calibration());
  EXPECT_EQ(without.plan().warnings_size(), 0);
}

TEST_F(PipelineBindingTest, LengthsBeyondTheModelAreRefusedByName) {
  v1::CompressModelRequest request = Compression();
  request.mutable_calibration()->set_seq_len(129);
  v1::Job job;
  const grpc::Status status = Compress(request, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields(), ::testing::ElementsAre("calibration.seq_len"));
}

TEST_F(PipelineBindingTest, MoreSourcesThanSamplesAreRefusedByName) {
  v1::CompressModelRequest request = Compression();
  v1::Calibration& calibration = *request.mutable_calibration();
  const v1::TextSource text = calibration.text();
  calibration.clear_text();
  calibration.set_samples(1);
  *calibration.add_sources()->mutable_text() = text;
  *calibration.add_sources()->mutable_text() = text;
  v1::Job job;
  EXPECT_THAT(DetailsOf(Compress(request, job)).fields(),
              ::testing::ElementsAre("calibration.samples"));
}

}  // namespace
}  // namespace svdllm
