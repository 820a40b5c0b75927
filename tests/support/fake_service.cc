#include "tests/support/fake_service.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <thread>

#include "svdllm/v1/compression.grpc.pb.h"

namespace svdllm {
namespace {

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "going away"}; }

class Service final : public v1::CompressionService::Service {
 public:
  explicit Service(FakeScript& script) : script_(script) {}

  grpc::Status CompressModel(grpc::ServerContext* context, const v1::CompressModelRequest* request,
                             v1::Job* job) override {
    return Answer(*context, [&] {
      script_.compress_requests.push_back(*request);
      *job = script_.submitted;
      *job->mutable_compress_model_request() = *request;
      if (!request->validate_only()) script_.jobs[job->name()] = *job;
      return grpc::Status::OK;
    });
  }
  grpc::Status Evaluate(grpc::ServerContext* context, const v1::EvaluateRequest* request,
                        v1::Job* job) override {
    return Answer(*context, [&] {
      script_.evaluate_requests.push_back(*request);
      *job = script_.submitted;
      *job->mutable_evaluate_request() = *request;
      if (!request->validate_only()) script_.jobs[job->name()] = *job;
      return grpc::Status::OK;
    });
  }
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    return Answer(*context, [&] { return Find(request->name(), job); });
  }
  grpc::Status ListJobs(grpc::ServerContext* context, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    return Answer(*context, [&] {
      script_.list_requests.push_back(*request);
      // The token is the number of jobs before the page.
      size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
      for (auto job = std::next(script_.jobs.begin(), at); job != script_.jobs.end(); ++job, ++at) {
        if (response->jobs_size() == request->page_size()) {
          response->set_next_page_token(std::to_string(at));
          break;
        }
        *response->add_jobs() = job->second;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status CancelJob(grpc::ServerContext* context, const v1::CancelJobRequest* request,
                         v1::Job* job) override {
    return Answer(*context, [&] {
      if (script_.jobs.count(request->name()) > 0) {
        script_.jobs[request->name()].set_state(v1::JOB_STATE_CANCELLING);
      }
      return Find(request->name(), job);
    });
  }
  grpc::Status DeleteJob(grpc::ServerContext* context, const v1::DeleteJobRequest* request,
                         google::protobuf::Empty*) override {
    return Answer(*context, [&] {
      v1::Job job;
      const grpc::Status status = Find(request->name(), &job);
      script_.jobs.erase(request->name());
      return status;
    });
  }
  grpc::Status GetServerInfo(grpc::ServerContext* context, const v1::GetServerInfoRequest*,
                             v1::ServerInfo* info) override {
    return Answer(*context, [&] {
      *info = script_.info;
      return grpc::Status::OK;
    });
  }
  // Answers at once, with the job as it is.
  grpc::Status WaitJob(grpc::ServerContext* context, const v1::WaitJobRequest* request,
                       v1::Job* job) override {
    return Answer(*context, [&] {
      script_.wait_requests.push_back(*request);
      return Find(request->name(), job);
    });
  }
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::JobEvent>* writer) override {
    std::vector<v1::JobEvent> events;
    int most = 0;
    int64_t first = 0;
    {
      std::lock_guard lock(script_.mutex);
      script_.watched_after.push_back(request->after_sequence());
      KeepToken(*context);
      v1::Job job;
      if (const grpc::Status found = Find(request->name(), &job); !found.ok()) return found;
      events = script_.events[request->name()];
      most = script_.events_per_stream;
      first = request->after_sequence() - script_.overlap;
    }
    int sent = 0;
    for (const v1::JobEvent& event : events) {
      if (event.sequence() <= first) continue;
      if (most > 0 && sent++ == most) return Unavailable();
      writer->Write(event);
    }
    while (!context->IsCancelled()) {
      {
        std::lock_guard lock(script_.mutex);
        if (!script_.streams_hang) return grpc::Status::OK;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return Unavailable();
  }

 private:
  // With the lock.
  void KeepToken(const grpc::ServerContext& context) {
    const auto header = context.client_metadata().find("authorization");
    script_.authorization = header == context.client_metadata().end()
                                ? ""
                                : std::string(header->second.data(), header->second.size());
  }
  template <typename Function>
  grpc::Status Answer(const grpc::ServerContext& context, Function answer) {
    int delay_ms = 0;
    {
      std::lock_guard lock(script_.mutex);
      delay_ms = script_.delay_ms;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    std::lock_guard lock(script_.mutex);
    ++script_.calls;
    KeepToken(context);
    if (script_.unavailable_calls > 0) {
      --script_.unavailable_calls;
      return Unavailable();
    }
    if (script_.refusal.code() != 0) return ToGrpc(script_.refusal);
    const grpc::Status status = answer();
    return std::exchange(script_.lose_next_answer, false) ? Unavailable() : status;
  }
  static grpc::Status ToGrpc(const google::rpc::Status& status) {
    return {static_cast<grpc::StatusCode>(status.code()), status.message(),
            status.SerializeAsString()};
  }
  grpc::Status Find(const std::string& name, v1::Job* job) {
    const auto found = script_.jobs.find(name);
    if (found == script_.jobs.end()) {
      return ToGrpc(Refusal(grpc::StatusCode::NOT_FOUND, "JOB_NOT_FOUND", "no job " + name));
    }
    *job = found->second;
    return grpc::Status::OK;
  }

  FakeScript& script_;
};

}  // namespace

struct FakeServer::Impl {
  explicit Impl(FakeScript& script) : service(script) {}
  Service service;
  std::unique_ptr<grpc::Server> server;
};

FakeServer::FakeServer() : address_("127.0.0.1:0") { Start(); }

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Start() {
  impl_ = std::make_unique<Impl>(script_);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&impl_->service);
  impl_->server = builder.BuildAndStart();
  if (impl_->server == nullptr) throw std::runtime_error("nothing listens at " + address_);
  address_ = "127.0.0.1:" + std::to_string(port);
}

void FakeServer::Stop() {
  if (impl_ == nullptr) return;
  impl_->server->Shutdown(std::chrono::system_clock::now());
  impl_->server->Wait();
  impl_.reset();
}

std::vector<v1::JobEvent> SampleEvents(int count) {
  std::vector<v1::JobEvent> events;
  for (int i = 1; i <= count; ++i) {
    v1::JobEvent& event = events.emplace_back();
    event.set_sequence(i);
    event.mutable_time()->set_seconds(1'700'000'000 + i);
    event.set_attempt(i == 1 ? 0 : 1);
    if (i <= 2 || i == count) {
      event.mutable_state_change()->set_state(i == 1   ? v1::JOB_STATE_QUEUED
                                              : i == 2 ? v1::JOB_STATE_RUNNING
                                                       : v1::JOB_STATE_SUCCEEDED);
      continue;
    }
    v1::Progress* progress = event.mutable_progress();
    progress->set_stage("calibrate");
    progress->set_layers_done(i - 2);
    progress->set_layers_total(count - 3);
    progress->set_percent(100.0 * (i - 2) / (count - 3));
    progress->set_module("model.layers." + std::to_string(i - 3) + ".mlp.down_proj");
    progress->mutable_eta()->set_seconds(count - i);
  }
  return events;
}

google::rpc::Status Refusal(int code, const std::string& reason, const std::string& message) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("svdllm");
  status.add_details()->PackFrom(info);
  return status;
}

}  // namespace svdllm
