// Submissions: repeated, previewed, refused.
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "server_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST_F(ServerTest, SubmissionIsIdempotentByRequestId) {
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(1));
  const std::string name = Submit(request).name();
  EXPECT_EQ(Submit(request).name(), name);
  std::filesystem::remove_all(model_);  // a repetition asks nothing of the world
  EXPECT_EQ(Submit(request).name(), name);
  request.set_method(v1::METHOD_ASVD);
  v1::Job job;
  const grpc::Status reused = Compress(request, job);
  EXPECT_EQ(reused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(reused).info.reason(), "REQUEST_ID_REUSED");
}

TEST_F(ServerTest, ConcurrentSubmissionsOfOneRequestMakeOneJob) {
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(2));
  std::mutex mutex;
  std::set<std::string> names;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const std::string name = Submit(request).name();
      std::lock_guard<std::mutex> lock(mutex);
      names.insert(name);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(names.size(), 1u);
}

TEST_F(ServerTest, ValidateOnlyPlansAndStoresNothing) {
  v1::CompressModelRequest request = Compression();
  request.set_validate_only(true);
  request.set_request_id(Uuid(3));
  request.mutable_calibration()->clear_seq_len();
  v1::Job plan = Submit(request);
  EXPECT_EQ(plan.name(), "");
  EXPECT_EQ(plan.plan().parameters(), 1000);
  EXPECT_EQ(plan.plan().artifacts(0).matrices(0).rank(), 3);
  EXPECT_EQ(plan.plan().expected_time().nanos(), 500000000);
  EXPECT_EQ(plan.plan().least_time().seconds(), 1);
  EXPECT_EQ(plan.plan().most_time().nanos(), 250000000);
  EXPECT_EQ(plan.plan().peak_host_bytes(), 1000);
  EXPECT_EQ(plan.plan().anonymous_host_bytes(), 700);
  EXPECT_EQ(plan.plan().mapped_host_bytes(), 300);
  EXPECT_EQ(plan.plan().host_memory_bytes(), 5000);
  EXPECT_THAT(plan.plan().warnings(), ElementsAre("pretended"));
  EXPECT_EQ(plan.plan().artifacts(0).uri(), "");
  EXPECT_EQ(plan.compress_model_request().calibration().seq_len(), 1) << "the model's";
  request.set_output_uri("mine");
  plan = Submit(request);
  EXPECT_THAT(plan.plan().artifacts(0).uri(), HasSubstr("/artifacts/mine"));
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/artifacts"));
  v1::ListJobsResponse list;
  ASSERT_TRUE(Call(&v1::CompressionService::Stub::ListJobs, v1::ListJobsRequest(), list).ok());
  EXPECT_EQ(list.jobs_size(), 0);
  request.set_validate_only(false);
  EXPECT_NE(Submit(request).name(), "") << "its request_id is still free";
}

TEST_F(ServerTest, ValidateOnlyPlansAnEvaluation) {
  v1::EvaluateRequest request = Evaluation();
  request.set_validate_only(true);
  v1::Job plan;
  ASSERT_TRUE(Evaluate(request, plan).ok());
  EXPECT_EQ(plan.name(), "");
  EXPECT_EQ(plan.evaluation_plan().parameters(), 1000);
  EXPECT_EQ(plan.evaluation_plan().peak_host_bytes(), 3000);
  request.set_validate_only(false);
  ASSERT_TRUE(Evaluate(request, plan).ok());
  EXPECT_FALSE(plan.has_evaluation_plan());
}

TEST_F(ServerTest, EveryBadFieldIsNamedAtOnce) {
  v1::CompressModelRequest request;
  request.set_request_id("not a uuid");
  (*request.mutable_labels())[""] = "x";
  request.mutable_timeout()->set_seconds(-1);
  request.set_method(static_cast<v1::Method>(99));
  request.add_keep_ratios(1.5);
  request.add_keep_ratios(std::nan(""));
  request.mutable_calibration()->set_samples(-1);
  request.mutable_calibration()->set_seq_len(1);
  request.set_asvd_alpha(2);
  request.set_rank_multiple(-3);
  request.mutable_evaluation()->add_tasks()->set_name("perplexity");
  request.mutable_evaluation()->mutable_tasks(0)->set_limit(-5);
  v1::Job job;
  const grpc::Status status = Compress(request, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const Details details = DetailsOf(status);
  EXPECT_EQ(details.info.reason(), "INVALID_FIELD");
  EXPECT_THAT(
      details.fields(),
      UnorderedElementsAre("request_id", "labels[]", "timeout", "model", "method", "keep_ratios[0]",
                           "keep_ratios[1]", "calibration.text", "calibration.samples",
                           "calibration.seq_len", "asvd_alpha", "rank_multiple",
                           "evaluation.tasks[0].limit", "evaluation.tasks[0].dataset.uri"));
  v1::EvaluateRequest evaluation = Evaluation();
  *evaluation.add_tasks() = evaluation.tasks(0);
  evaluation.mutable_tasks(0)->set_name("arc");
  evaluation.mutable_tasks(0)->set_label("perplexity");
  EXPECT_THAT(DetailsOf(Evaluate(evaluation, job)).fields(),
              UnorderedElementsAre("tasks[0].name", "tasks[1].label"));
  evaluation = Evaluation();
  evaluation.mutable_tasks(0)->set_num_fewshot(2);
  evaluation.mutable_threshold()->set_max_accuracy_drop(2);
  v1::EvaluationTask& task = *evaluation.add_tasks();
  task = evaluation.tasks(0);
  task.set_name("openbookqa");
  task.set_seq_len(8);
  EXPECT_THAT(
      DetailsOf(Evaluate(evaluation, job)).fields(),
      UnorderedElementsAre("baseline", "threshold.max_accuracy_drop", "tasks[0].fewshot_uri",
                           "tasks[1].seq_len", "tasks[1].num_fewshot"));
}

TEST_F(ServerTest, WhatTheServerDoesNotKnowIsRefusedByName) {
  v1::CompressModelRequest request = Compression();
  request.set_encoding(static_cast<v1::Encoding>(9));
  request.mutable_calibration()->mutable_text()->set_packing(static_cast<v1::Packing>(8));
  auto& calibration = *request.mutable_calibration();
  calibration.GetReflection()->MutableUnknownFields(&calibration)->AddVarint(900, 1);
  v1::Job job;
  grpc::Status status = Compress(request, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(status).info.reason(), "INVALID_FIELD");
  EXPECT_THAT(DetailsOf(status).fields(),
              UnorderedElementsAre("encoding", "calibration.text.packing", "calibration.900"));
  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.mutable_tasks(0)->mutable_dataset()->set_packing(static_cast<v1::Packing>(8));
  EXPECT_THAT(DetailsOf(Evaluate(evaluation, job)).fields(),
              UnorderedElementsAre("tasks[0].dataset.packing"));
  v1::ListJobsRequest list;
  list.add_states(static_cast<v1::JobState>(77));
  list.add_states(v1::JOB_STATE_QUEUED);
  list.add_kinds(v1::JOB_KIND_UNSPECIFIED);
  list.GetReflection()->MutableUnknownFields(&list)->AddVarint(901, 1);
  v1::ListJobsResponse listed;
  EXPECT_THAT(DetailsOf(Call(&v1::CompressionService::Stub::ListJobs, list, listed)).fields(),
              UnorderedElementsAre("901", "states[0]", "kinds[0]"));
  v1::GetJobRequest get;
  get.set_name("jobs/a");
  get.GetReflection()->MutableUnknownFields(&get)->AddVarint(902, 1);
  EXPECT_THAT(DetailsOf(Call(&v1::CompressionService::Stub::GetJob, get, job)).fields(),
              UnorderedElementsAre("902"));
}

// More than a client takes as metadata would reach it as another error.
TEST_F(ServerTest, AFloodOfViolationsArrives) {
  v1::CompressModelRequest request = Compression();
  auto& calibration = *request.mutable_calibration();
  for (int i = 0; i < 1000; ++i) {
    calibration.GetReflection()->MutableUnknownFields(&calibration)->AddVarint(1000 + i, 1);
  }
  v1::Job job;
  const grpc::Status numbers = Compress(request, job);
  EXPECT_EQ(numbers.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << numbers.error_message();
  const size_t named = DetailsOf(numbers).fields().size();
  EXPECT_GT(named, 30u);
  EXPECT_LE(named, 64u);
  std::string text;
  for (int i = 0; i < 1300; ++i) text += "€";
  request = Compression();
  request.clear_calibration();
  for (int i = 0; i < 16; ++i) {
    request.mutable_calibration()->add_sources()->mutable_text()->set_uri("/etc/" + text);
  }
  const grpc::Status texts = Compress(request, job);
  EXPECT_EQ(texts.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << texts.error_message();
  EXPECT_GT(DetailsOf(texts).fields().size(), 2u);
}

TEST_F(ServerTest, BadModelsAndOutputsAreRefusedAtSubmission) {
  v1::Job job;
  const auto reason = [&](const v1::CompressModelRequest& request, grpc::StatusCode code) {
    const grpc::Status status = Compress(request, job);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    return DetailsOf(status).info.reason();
  };
  v1::CompressModelRequest request = Compression();
  request.set_model(directory_ + "/absent");
  EXPECT_EQ(reason(request, grpc::StatusCode::NOT_FOUND), "MODEL_NOT_FOUND");
  request = Compression();
  request.mutable_calibration()->mutable_text()->set_uri(directory_ + "/absent.txt");
  EXPECT_EQ(reason(request, grpc::StatusCode::NOT_FOUND), "CALIBRATION_INVALID");
  request = Compression();
  request.set_model("/etc");  // outside the model roots
  EXPECT_EQ(reason(request, grpc::StatusCode::PERMISSION_DENIED), "INVALID_FIELD");
  request = Compression();
  request.set_output_uri("../outside");
  EXPECT_EQ(reason(request, grpc::StatusCode::PERMISSION_DENIED), "INVALID_FIELD");
  std::filesystem::create_directories(directory_ + "/artifacts/taken");
  std::ofstream(directory_ + "/artifacts/taken/file") << "x";
  request.set_output_uri("taken");
  EXPECT_EQ(reason(request, grpc::StatusCode::ALREADY_EXISTS), "OUTPUT_EXISTS");
  std::ofstream(model_ + "/corrupt") << "x";
  EXPECT_EQ(reason(Compression(), grpc::StatusCode::INVALID_ARGUMENT), "MODEL_CORRUPT");
  EXPECT_EQ(store_->Stats()->jobs.at(JobState::kQueued), 0);
}

TEST_F(ServerTest, FullQueueAsksForPatience) {
  queue_limit_ = 2;
  StartServer();
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(4));
  const std::string name = Submit(request).name();
  Submit(Compression());
  v1::Job job;
  const grpc::Status full = Compress(Compression(), job);
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(full).info.reason(), "QUEUE_FULL");
  EXPECT_GT(DetailsOf(full).retry.retry_delay().seconds(), 0);
  EXPECT_EQ(Submit(request).name(), name);
}

}  // namespace
}  // namespace svdllm
