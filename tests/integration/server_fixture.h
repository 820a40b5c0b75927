// The service over real gRPC and HTTP with a pretended pipeline, and a client's calls to it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fake_engine.h"
#include "queue/worker.h"
#include "rpc/error_details.pb.h"
#include "server/api_server.h"
#include "server/run_job.h"
#include "svdllm/v1/compression.grpc.pb.h"
#include "tests/support/http.h"

namespace svdllm {

inline std::string Uuid(int n) {
  char text[64];
  std::snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012d", n);
  return text;
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
    engine_ = FakeEngine();
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
    options.model_roots = {directory_};
    options.tokens = tokens_;
    options.queue_limit = queue_limit_;
    options.nvml_library = nvml_library_;
    options.max_watchers = max_watchers_;
    auto server = ApiServer::Start(options, *store_, *artifacts_, engine_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::CompressionService::NewStub(channel_);
  }
  void StartWorker() {
    worker_ = std::make_unique<Worker>(
        *store_,
        MakeJobHandler(engine_, *artifacts_, {directory_ + "/work", directory_ + "/artifacts"}),
        WorkerOptions{.id = "w1",
                      .poll_ms = 10,
                      .prepare = engine_.open_device,
                      .check_after_failure = engine_.check_device});
    worker_thread_ = std::thread([this] { ended_ = worker_->Run(); });
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
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
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
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
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
    const std::string token = token_.empty() ? "" : "Authorization: Bearer " + token_ + "\r\n";
    return HttpGet(server_->http_port(),
                   "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + token + "\r\n");
  }

  int64_t queue_limit_ = 1000;
  size_t max_watchers_ = kMostWatchers;
  std::string tokens_;  // the file of --tokens; empty: none
  std::string token_;   // what the calls carry; empty: none
  std::string nvml_library_ = kNvmlLibrary;
  std::string directory_, model_, text_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<ArtifactStore> artifacts_;
  Engine engine_;
  std::unique_ptr<ApiServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
  std::unique_ptr<Worker> worker_;
  std::thread worker_thread_;
  absl::Status ended_;  // how the worker ended
};

}  // namespace svdllm
