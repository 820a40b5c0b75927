// The real server's process around a pipeline that only pretends, to be killed in every way.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "rpc/error_details.pb.h"
#include "server_process.h"
#include "svdllm/v1/compression.grpc.pb.h"
#include "tests/support/http.h"

namespace svdllm {

class ServerFaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "server_fault_" + std::to_string(std::random_device()());
    model_ = directory_ + "/model";
    std::filesystem::create_directories(model_);
    std::ofstream(model_ + "/config.json") << "{}";
    std::ofstream(directory_ + "/text.txt") << "some text";
  }
  void TearDown() override {
    if (HasFailure() && server_ != nullptr) std::cerr << server_->Log();
    stub_.reset();
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::vector<std::string> Arguments(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
                                          "--data_dir=" + directory_ + "/data",
                                          "--drain_seconds=0.5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void Start(std::vector<std::string> more = {}, int64_t max_file_bytes = 0) {
    server_.reset();
    server_ = std::make_unique<testing::ServerProcess>(FAKE_SERVER, Arguments(std::move(more)),
                                                       directory_ + "/log",
                                                       std::vector<std::string>{}, max_file_bytes);
    ASSERT_TRUE(server_->AwaitServing()) << server_->Log();
    stub_ = v1::CompressionService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_->grpc_port()), grpc::InsecureChannelCredentials()));
  }
  // What a program that ends by itself says and its exit status.
  std::pair<int, std::string> RunToEnd(const std::vector<std::string>& arguments,
                                       const std::vector<std::string>& environment = {}) {
    testing::ServerProcess process(FAKE_SERVER, arguments, directory_ + "/other_log", environment);
    const int status = process.Wait();
    return {status, process.Log()};
  }

  grpc::Status Submit(int64_t steps, int64_t step_ms, v1::Job& job) {
    v1::CompressModelRequest request;
    request.set_model(model_);
    request.add_keep_ratios(0.5);
    request.mutable_calibration()->mutable_text()->set_uri(directory_ + "/text.txt");
    request.mutable_calibration()->set_samples(steps);
    request.mutable_calibration()->set_seq_len(step_ms);
    grpc::ClientContext context;
    return stub_->CompressModel(&context, request, &job);
  }
  std::string Submit(int64_t steps, int64_t step_ms) {
    v1::Job job;
    const grpc::Status status = Submit(steps, step_ms, job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.name();
  }
  v1::Job Get(const std::string& name) {
    v1::GetJobRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    v1::Job job;
    const grpc::Status status = stub_->GetJob(&context, request, &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  // Polls; a minute at most.
  v1::Job Await(const std::string& name, const std::function<bool(const v1::Job&)>& condition) {
    v1::Job job;
    for (int i = 0; i < 6000; ++i) {
      job = Get(name);
      if (condition(job) || HasFailure()) return job;
      usleep(10'000);
    }
    ADD_FAILURE() << "did not get there: " << job.ShortDebugString();
    return job;
  }
  v1::Job AwaitEnd(const std::string& name) {
    return Await(name, [](const v1::Job& job) { return job.state() >= v1::JOB_STATE_SUCCEEDED; });
  }
  v1::Job AwaitProgress(const std::string& name) {
    return Await(name, [](const v1::Job& job) {
      return job.state() == v1::JOB_STATE_RUNNING && job.progress().layers_done() > 0;
    });
  }
  std::string Http(const std::string& path) {
    return HttpGet(server_->http_port(), "GET " + path + " HTTP/1.1\r\n\r\n");
  }
  // Stops the worker between two of its writes: within one it would hold the store's lock for as
  // long as it is stopped.
  void FreezeWorker() {
    Freeze([this](int signal) { kill(server_->worker_pid(), signal); });
  }

  void Freeze(const std::function<void(int)>& send) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((directory_ + "/data/jobs.db").c_str(), &db), SQLITE_OK);
    for (bool free = false; !free;) {
      send(SIGSTOP);
      usleep(5'000);
      for (int i = 0; i < 20 && !free; ++i) {  // the server writes, too
        free =
            sqlite3_exec(db, "BEGIN IMMEDIATE; ROLLBACK", nullptr, nullptr, nullptr) == SQLITE_OK;
        if (!free) usleep(5'000);
      }
      if (free) break;
      send(SIGCONT);
      usleep(7'000);
    }
    sqlite3_close(db);
  }
  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status rich;
    google::rpc::ErrorInfo info;
    rich.ParseFromString(status.error_details());
    for (const auto& any : rich.details()) any.UnpackTo(&info);
    return info.reason();
  }

  std::string directory_, model_;
  std::unique_ptr<testing::ServerProcess> server_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
};

}  // namespace svdllm
