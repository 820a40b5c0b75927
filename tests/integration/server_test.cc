// The service as a client sees it, over real gRPC and HTTP, with a pretended pipeline.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/time_util.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/client_unary_call.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "fake_operations.h"
#include "jobs/worker.h"
#include "server/api_server.h"
#include "server/job_handlers.h"
#include "svdllm/rpc/error_details.pb.h"
#include "svdllm/v1/compression.grpc.pb.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::string Uuid(int n) {
  char text[64];
  std::snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012d", n);
  return text;
}

std::string HttpGet(int port, const std::string& request) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    EXPECT_EQ(send(connection, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    char buffer[65536];
    ssize_t size;
    while ((size = recv(connection, buffer, sizeof(buffer), 0)) > 0) {
      reply.append(buffer, static_cast<size_t>(size));
    }
  }
  close(connection);
  return reply;
}

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "server_" + NewJobId();
    model_ = directory_ + "/model";
    text_ = directory_ + "/text.txt";
    std::filesystem::create_directories(model_);
    std::ofstream(model_ + "/config.json") << "{}";
    std::ofstream(text_) << "some text";
    SqliteStoreOptions store;
    store.path = directory_ + "/jobs.db";
    store_ = *OpenSqliteJobStore(store);
    artifacts_ = *NewFileStore({{directory_}, directory_ + "/artifacts"});
    operations_ = FakeOperations();
    StartServer();
  }
  void TearDown() override {
    StopWorker();
    stub_.reset();
    server_.reset();
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  void StartServer() {
    server_.reset();
    ApiServerOptions options;
    options.artifact_root = directory_ + "/artifacts";
    options.queue_limit = queue_limit_;
    auto server = ApiServer::Start(options, *store_, *artifacts_, operations_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::CompressionService::NewStub(channel_);
  }
  void StartWorker() {
    worker_ = std::make_unique<Worker>(
        *store_, MakeJobHandler(operations_, *artifacts_, directory_ + "/work"),
        WorkerOptions{"w1", 30000, 10});
    worker_thread_ = std::thread([this] { worker_->Run(); });
  }
  void StopWorker() {
    if (worker_ == nullptr) return;
    worker_->Stop();
    worker_thread_.join();
    worker_.reset();
  }

  // A job of this many steps of this many milliseconds.
  v1::CompressModelRequest Compression(int64_t steps = 2, int64_t step_ms = 2) const {
    v1::CompressModelRequest request;
    request.set_model(model_);
    request.add_keep_ratios(0.8);
    request.mutable_calibration()->mutable_text()->set_uri(text_);
    request.mutable_calibration()->set_samples(steps);
    request.mutable_calibration()->set_seq_len(step_ms);
    return request;
  }
  v1::EvaluateRequest Evaluation() const {
    v1::EvaluateRequest request;
    request.set_model(model_);
    v1::EvaluationTask& task = *request.add_tasks();
    task.set_name("perplexity");
    task.mutable_dataset()->set_uri(text_);
    task.set_limit(2);
    task.set_seq_len(2);
    return request;
  }

  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::CompressionService::Stub::*method)(grpc::ClientContext*,
                                                                         const Request&, Response*),
                    const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    return (stub_.get()->*method)(&context, request, &response);
  }
  grpc::Status Compress(const v1::CompressModelRequest& request, v1::Job& job) {
    return Call(&v1::CompressionService::Stub::CompressModel, request, job);
  }
  grpc::Status Evaluate(const v1::EvaluateRequest& request, v1::Job& job) {
    return Call(&v1::CompressionService::Stub::Evaluate, request, job);
  }
  v1::Job Submit(const v1::CompressModelRequest& request) {
    v1::Job job;
    const grpc::Status status = Compress(request, job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  v1::Job Get(const std::string& name) {
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    const grpc::Status status = Call(&v1::CompressionService::Stub::GetJob, request, job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  grpc::Status Cancel(const std::string& name, v1::Job& job) {
    v1::CancelJobRequest request;
    request.set_name(name);
    return Call(&v1::CompressionService::Stub::CancelJob, request, job);
  }

  // Reads a job's events; at most this many.
  grpc::Status Watch(const std::string& name, int64_t after, std::vector<v1::JobEvent>& events,
                     size_t at_most = 1 << 20) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_sequence(after);
    const auto reader = stub_->WatchJob(&context, request);
    v1::JobEvent event;
    size_t count = 0;
    while (count++ < at_most && reader->Read(&event)) events.push_back(event);
    if (count > at_most) context.TryCancel();
    return reader->Finish();
  }
  v1::Job AwaitEnd(const std::string& name) {
    std::vector<v1::JobEvent> events;
    const grpc::Status status = Watch(name, 0, events);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return Get(name);
  }

  struct Details {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    std::vector<std::string> fields() const {
      std::vector<std::string> fields;
      for (const auto& violation : bad_request.field_violations()) {
        fields.push_back(violation.field());
      }
      return fields;
    }
  };
  static Details DetailsOf(const grpc::Status& status) {
    google::rpc::Status rich;
    EXPECT_TRUE(rich.ParseFromString(status.error_details()));
    EXPECT_EQ(rich.code(), static_cast<int>(status.error_code()));
    EXPECT_EQ(rich.message(), status.error_message());
    Details details;
    for (const auto& any : rich.details()) {
      if (any.Is<google::rpc::ErrorInfo>()) any.UnpackTo(&details.info);
      if (any.Is<google::rpc::BadRequest>()) any.UnpackTo(&details.bad_request);
      if (any.Is<google::rpc::RetryInfo>()) any.UnpackTo(&details.retry);
    }
    EXPECT_EQ(details.info.domain(), "svdllm");
    return details;
  }
  std::string Http(const std::string& path) {
    return HttpGet(server_->http_port(), "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  // gRPC's own health service, called with hand-made bytes: no package has its messages.
  int Health(const std::string& service);

  int64_t queue_limit_ = 1000;
  std::string directory_, model_, text_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<ArtifactStore> artifacts_;
  Operations operations_;
  std::unique_ptr<ApiServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
  std::unique_ptr<Worker> worker_;
  std::thread worker_thread_;
};

TEST_F(ServerTest, CompressionRunsToItsArtifact) {
  StartWorker();
  v1::CompressModelRequest request = Compression();
  request.add_keep_ratios(0.9);
  (*request.mutable_labels())["team"] = "a";
  const v1::Job queued = Submit(request);
  EXPECT_THAT(queued.name(), ::testing::StartsWith("jobs/"));
  EXPECT_EQ(queued.state(), v1::QUEUED);
  EXPECT_EQ(queued.kind(), v1::COMPRESS_MODEL);
  const v1::Job job = AwaitEnd(queued.name());
  ASSERT_EQ(job.state(), v1::SUCCEEDED) << job.DebugString();
  EXPECT_EQ(job.labels().at("team"), "a");
  EXPECT_EQ(job.attempt(), 1);
  EXPECT_EQ(job.progress().percent(), 100);
  EXPECT_THAT(job.compress_model_request().keep_ratios(), ElementsAre(0.9, 0.8));
  EXPECT_EQ(job.compress_model_request().method(), v1::SVD_LLM);
  EXPECT_EQ(job.compress_model_request().calibration().seed(), 3u);
  EXPECT_EQ(job.compress_model_result().parameters(), 1000);
  ASSERT_EQ(job.artifact_uris_size(), 2);
  for (const std::string& uri : job.artifact_uris()) {
    EXPECT_TRUE(std::filesystem::exists(uri.substr(7) + "/compression_manifest.json")) << uri;
  }
  EXPECT_EQ(job.compress_model_result().artifacts(0).matrices_size(), 1);
  EXPECT_GE(google::protobuf::util::TimeUtil::TimestampToMilliseconds(job.end_time()),
            google::protobuf::util::TimeUtil::TimestampToMilliseconds(job.start_time()));
}

TEST_F(ServerTest, EvaluationRunsToItsFigures) {
  StartWorker();
  v1::Job job;
  ASSERT_TRUE(Evaluate(Evaluation(), job).ok());
  EXPECT_EQ(job.kind(), v1::EVALUATE);
  job = AwaitEnd(job.name());
  ASSERT_EQ(job.state(), v1::SUCCEEDED) << job.DebugString();
  EXPECT_EQ(job.evaluate_result().perplexities(0).perplexity(), 12.5);
  EXPECT_EQ(job.evaluate_result().perplexities(0).name(), "perplexity");
}

TEST_F(ServerTest, WatchReplaysFollowsAndEndsAndReconnectingMissesNothing) {
  StartWorker();
  const std::string name = Submit(Compression(20, 20)).name();
  std::vector<v1::JobEvent> events;
  // Broken off again and again, in mid-job.
  grpc::Status status;
  do {
    status = Watch(name, events.empty() ? 0 : events.back().sequence(), events, 4);
  } while (status.error_code() == grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(status.ok()) << status.error_message();
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i) + 1);
  }
  EXPECT_EQ(events[0].state_change().state(), v1::QUEUED);
  EXPECT_EQ(events[1].state_change().state(), v1::RUNNING);
  EXPECT_EQ(events.back().state_change().state(), v1::SUCCEEDED);
  EXPECT_TRUE(events[events.size() - 2].has_artifact());
  EXPECT_EQ(events.size(), 2u + 20u + 2u);

  std::vector<v1::JobEvent> replay;
  ASSERT_TRUE(Watch(name, 0, replay).ok());
  ASSERT_EQ(replay.size(), events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(replay[i].SerializeAsString(), events[i].SerializeAsString());
  }
  replay.clear();
  EXPECT_TRUE(Watch(name, events.back().sequence(), replay).ok());
  EXPECT_THAT(replay, IsEmpty());
}

TEST_F(ServerTest, WatchOfAnUnknownJobIsAnError) {
  std::vector<v1::JobEvent> events;
  const grpc::Status absent = Watch("jobs/nope", 0, events);
  EXPECT_EQ(absent.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(absent).info.reason(), "JOB_NOT_FOUND");
  const grpc::Status bad = Watch("nope", -1, events);
  EXPECT_EQ(bad.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, ManyWatchersThatLeaveCostNothing) {
  const std::string name = Submit(Compression()).name();
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      std::vector<v1::JobEvent> events;
      Watch(name, 0, events, 1);  // leaves while the job waits
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 100; ++i) {
    if (Http("/metrics").find("svdllm_watch_streams 0") != std::string::npos) return;
    std::this_thread::sleep_for(milliseconds(20));
  }
  FAIL() << "streams are left: " << Http("/metrics");
}

TEST_F(ServerTest, SubmissionIsIdempotentByRequestId) {
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(1));
  const std::string name = Submit(request).name();
  EXPECT_EQ(Submit(request).name(), name);
  std::filesystem::remove_all(model_);  // a repetition asks nothing of the world
  EXPECT_EQ(Submit(request).name(), name);
  request.set_method(v1::ASVD);
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
  request.mutable_evaluation()->set_limit(-5);
  v1::Job job;
  const grpc::Status status = Compress(request, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const Details details = DetailsOf(status);
  EXPECT_EQ(details.info.reason(), "INVALID_FIELD");
  EXPECT_THAT(
      details.fields(),
      UnorderedElementsAre("request_id", "labels[]", "timeout", "model", "method", "keep_ratios[0]",
                           "keep_ratios[1]", "calibration.text.uri", "calibration.samples",
                           "calibration.seq_len", "asvd_alpha", "evaluation.limit"));
  v1::EvaluateRequest evaluation = Evaluation();
  *evaluation.add_tasks() = evaluation.tasks(0);
  evaluation.mutable_tasks(0)->set_name("arc");
  evaluation.mutable_tasks(0)->set_label("perplexity");
  EXPECT_THAT(DetailsOf(Evaluate(evaluation, job)).fields(),
              UnorderedElementsAre("tasks[0].name", "tasks[1].label"));
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

TEST_F(ServerTest, FailureWhileRunningIsInTheJob) {
  StartWorker();
  std::ofstream(model_ + "/fail") << "9 NUMERICAL_FAILURE";
  const v1::Job job = AwaitEnd(Submit(Compression()).name());
  EXPECT_EQ(job.state(), v1::FAILED);
  EXPECT_EQ(job.error().reason(), "NUMERICAL_FAILURE");
  EXPECT_EQ(job.error().code(), 9);
  EXPECT_EQ(job.attempts(0).outcome(), "failed");
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/artifacts"));
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/work"));
  std::filesystem::remove(model_ + "/fail");
  EXPECT_EQ(AwaitEnd(Submit(Compression()).name()).state(), v1::SUCCEEDED);
}

TEST_F(ServerTest, CancelStopsQueuedAndRunningJobsAndPublishesNothing) {
  v1::Job job;
  const std::string queued = Submit(Compression()).name();
  ASSERT_TRUE(Cancel(queued, job).ok());
  EXPECT_EQ(job.state(), v1::CANCELLED);
  StartWorker();
  const std::string running = Submit(Compression(1000, 20)).name();
  while (Get(running).state() != v1::RUNNING) std::this_thread::sleep_for(milliseconds(5));
  ASSERT_TRUE(Cancel(running, job).ok());
  EXPECT_EQ(job.state(), v1::CANCELLING);
  EXPECT_EQ(AwaitEnd(running).state(), v1::CANCELLED);
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/artifacts"));
  const std::string done = Submit(Compression()).name();
  AwaitEnd(done);
  const grpc::Status late = Cancel(done, job);
  EXPECT_EQ(late.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(late).info.reason(), "JOB_STATE");
}

TEST_F(ServerTest, DeadlineOfACallCancelsNoJob) {
  grpc::ClientContext context;
  const std::string name = Submit(Compression(20, 10)).name();
  std::vector<v1::JobEvent> events;
  Watch(name, 0, events, 1);
  StartWorker();
  EXPECT_EQ(AwaitEnd(name).state(), v1::SUCCEEDED);
}

TEST_F(ServerTest, ListPagesFiltersAndDeletes) {
  for (int i = 0; i < 5; ++i) {
    v1::CompressModelRequest request = Compression();
    (*request.mutable_labels())["parity"] = i % 2 == 0 ? "even" : "odd";
    Submit(request);
  }
  v1::Job evaluation;
  ASSERT_TRUE(Evaluate(Evaluation(), evaluation).ok());
  v1::ListJobsRequest request;
  request.set_page_size(2);
  request.add_kinds(v1::COMPRESS_MODEL);
  (*request.mutable_labels())["parity"] = "even";
  std::vector<std::string> names;
  int pages = 0;
  do {
    v1::ListJobsResponse response;
    ASSERT_TRUE(Call(&v1::CompressionService::Stub::ListJobs, request, response).ok());
    for (const v1::Job& job : response.jobs()) names.push_back(job.name());
    request.set_page_token(response.next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(pages, 2);
  EXPECT_EQ(names.size(), 3u);
  EXPECT_GT(names[0], names[2]) << "newest first";

  google::protobuf::Empty empty;
  v1::DeleteJobRequest deletion;
  deletion.set_name(names[0]);
  EXPECT_EQ(Call(&v1::CompressionService::Stub::DeleteJob, deletion, empty).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  v1::Job job;
  ASSERT_TRUE(Cancel(names[0], job).ok());
  EXPECT_TRUE(Call(&v1::CompressionService::Stub::DeleteJob, deletion, empty).ok());
  EXPECT_EQ(Call(&v1::CompressionService::Stub::DeleteJob, deletion, empty).error_code(),
            grpc::StatusCode::NOT_FOUND);

  request.set_page_token("nonsense");
  v1::ListJobsResponse response;
  const grpc::Status bad = Call(&v1::CompressionService::Stub::ListJobs, request, response);
  EXPECT_THAT(DetailsOf(bad).fields(), ElementsAre("page_token"));
}

TEST_F(ServerTest, ListLeavesPerMatrixReportsOut) {
  StartWorker();
  const std::string name = Submit(Compression()).name();
  AwaitEnd(name);
  v1::ListJobsResponse list;
  ASSERT_TRUE(Call(&v1::CompressionService::Stub::ListJobs, v1::ListJobsRequest(), list).ok());
  EXPECT_EQ(list.jobs(0).compress_model_result().artifacts(0).matrices_size(), 0);
  EXPECT_EQ(Get(name).compress_model_result().artifacts(0).matrices_size(), 1);
}

TEST_F(ServerTest, ServerInfoSaysWhatThereIs) {
  v1::ServerInfo info;
  ASSERT_TRUE(
      Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  EXPECT_EQ(info.version(), SVDLLM_VERSION);
  EXPECT_EQ(info.devices(0).name(), "cpu");
  EXPECT_THAT(info.families(), ElementsAre("llama"));
  EXPECT_THAT(info.methods(), Contains(v1::SVD_LLM_UPDATE));
  EXPECT_EQ(info.limits().max_queued_jobs(), 1000);
  EXPECT_EQ(info.limits().lease_duration().seconds(), 30);
}

int ServerTest::Health(const std::string& service) {
  // HealthCheckRequest{service = 1}; HealthCheckResponse{status = 1}: google.rpc.Status begins
  // alike (code = 1), BadRequest.FieldViolation too (field = 1).
  google::rpc::BadRequest::FieldViolation request;
  request.set_field(service);
  google::rpc::Status response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC, channel_);
  const grpc::Status status =
      grpc::internal::BlockingUnaryCall(channel_.get(), method, &context, request, &response);
  return status.ok() ? response.code() : -static_cast<int>(status.error_code());
}

TEST_F(ServerTest, HealthFollowsReadiness) {
  constexpr int kServing = 1, kNotServing = 2;
  EXPECT_EQ(Health(""), kServing);
  EXPECT_EQ(Health("liveness"), kServing);
  EXPECT_EQ(Health("readiness"), kServing);
  EXPECT_EQ(Health("other"), -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  EXPECT_THAT(Http("/readyz"), HasSubstr("200 OK"));
  server_->SetNotReady();
  EXPECT_EQ(Health(""), kNotServing);
  EXPECT_EQ(Health("liveness"), kServing);
  EXPECT_EQ(Health("readiness"), kNotServing);
  EXPECT_THAT(Http("/readyz"), HasSubstr("503"));
  EXPECT_THAT(Http("/livez"), HasSubstr("200 OK"));
  EXPECT_NE(Submit(Compression()).name(), "") << "still served";
}

TEST_F(ServerTest, UnwritableArtifactRootIsNotReady) {
  std::filesystem::rename(directory_ + "/artifacts", directory_ + "/moved");
  EXPECT_THAT(Http("/readyz"), HasSubstr("artifact root"));
}

TEST_F(ServerTest, ReflectionListsTheServices) {
  // ServerReflectionRequest{list_services = 7}; the answer's strings are searched as bytes.
  const std::string request("\x3a\x01*", 3);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  const grpc::internal::RpcMethod method(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
          channel_.get(), method, &context));
  const grpc::Slice slice(request);
  ASSERT_TRUE(stream->Write(grpc::ByteBuffer(&slice, 1)));
  grpc::ByteBuffer reply;
  ASSERT_TRUE(stream->Read(&reply));
  grpc::Slice bytes;
  ASSERT_TRUE(reply.DumpToSingleSlice(&bytes).ok());
  const std::string text(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
  EXPECT_THAT(text, HasSubstr("svdllm.v1.CompressionService"));
  EXPECT_THAT(text, HasSubstr("grpc.health.v1.Health"));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServerTest, MetricsTellWhatHappened) {
  StartWorker();
  AwaitEnd(Submit(Compression()).name());
  StopWorker();
  Submit(Compression());
  v1::Job job;
  v1::GetJobRequest absent;
  absent.set_name("jobs/nope");
  Call(&v1::CompressionService::Stub::GetJob, absent, job);
  const std::string text = Http("/metrics");
  EXPECT_THAT(text, HasSubstr("text/plain; version=0.0.4"));
  for (const char* line :
       {"grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CompressModel\",grpc_service="
        "\"svdllm.v1.CompressionService\",grpc_type=\"unary\"} 2",
        "grpc_server_handled_total{grpc_code=\"NOT_FOUND\",grpc_method=\"GetJob\"",
        "grpc_server_started_total{grpc_method=\"WatchJob\",grpc_service="
        "\"svdllm.v1.CompressionService\",grpc_type=\"server_stream\"} 1",
        "grpc_server_handling_seconds_count{grpc_method=\"CompressModel\"",
        "svdllm_jobs{state=\"SUCCEEDED\"} 1", "svdllm_jobs{state=\"QUEUED\"} 1",
        "svdllm_queue_depth 1", "svdllm_queue_oldest_age_seconds 0.",
        "svdllm_job_attempts_total{outcome=\"succeeded\"} 1", "svdllm_leases_lost_total 0",
        "svdllm_fenced_writes_total 0", "svdllm_artifact_bytes_total 1800",
        "svdllm_stage_duration_seconds_count{stage=\"calibrate\"} 1",
        "svdllm_host_memory_bytes{process=\"api\"}",
        "svdllm_build_info{version=\"" SVDLLM_VERSION "\"} 1"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(ServerTest, HttpRefusesWhatItDoesNotServe) {
  EXPECT_THAT(Http("/other"), HasSubstr("404"));
  const int port = server_->http_port();
  EXPECT_THAT(HttpGet(port, "POST /livez HTTP/1.1\r\n\r\n"), HasSubstr("405"));
  EXPECT_THAT(HttpGet(port, "nonsense\r\n\r\n"), HasSubstr("400"));
  EXPECT_THAT(HttpGet(port, std::string(20000, 'x')), ::testing::Not(HasSubstr("200")));
  EXPECT_THAT(Http("/livez?x=1"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(port, "HEAD /livez HTTP/1.1\r\n\r\n"), ::testing::Not(HasSubstr("ok\n")));
}

TEST_F(ServerTest, ShutdownEndsStreamsWithUnavailable) {
  const std::string name = Submit(Compression()).name();
  std::vector<v1::JobEvent> events;
  grpc::Status status;
  std::thread watcher([&] { status = Watch(name, 0, events); });
  while (Http("/metrics").find("svdllm_watch_streams 1") == std::string::npos) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  std::this_thread::sleep_for(milliseconds(50));
  server_->Shutdown();
  watcher.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(events.size(), 1u);
}

TEST_F(ServerTest, TakenPortIsAnError) {
  ApiServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = ApiServer::Start(options, *store_, *artifacts_, operations_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.listen));
  options.listen = "127.0.0.1:0";
  options.http_listen = "127.0.0.1:" + std::to_string(server_->http_port());
  EXPECT_FALSE(ApiServer::Start(options, *store_, *artifacts_, operations_).ok());
}

}  // namespace
}  // namespace svdllm
