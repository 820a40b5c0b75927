#include "server/compression_service.h"

#include <google/protobuf/util/time_util.h>
#include <grpc/grpc_security_constants.h>
#include <grpcpp/alarm.h>
#include <grpcpp/security/auth_context.h>

#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/logging.h"
#include "server/job_proto.h"
#include "server/known_parts.h"
#include "server/status_proto.h"

namespace svdllm {
namespace {

constexpr int kWatchBatch = 64;
constexpr int64_t kDefaultWaitSeconds = 60;
constexpr int64_t kLongestWaitSeconds = 3600;

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), ErrorMessage(status),
                      ErrorDetails(status));
}

std::string CodeName(const absl::Status& status) {
  const auto name = absl::StatusCodeToString(status.code());
  return std::string(name.data(), name.size());
}

// Streams a job's events from the store. It pulls: a batch is read when the one before it has been
// sent, so a slow reader costs one batch of memory and misses nothing.
class WatchStream final : public grpc::ServerWriteReactor<v1::JobEvent>,
                          public Watcher,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  WatchStream(JobStore& store, RpcMetrics::Call call, std::string job_id, int64_t after_sequence)
      : store_(store), call_(std::move(call)), job_id_(std::move(job_id)), sent_(after_sequence) {}

  // Keeps itself alive until OnDone.
  void Start(WatchHub& hub) {
    self_ = shared_from_this();
    if (const absl::Status added = hub.Add(self_); !added.ok()) return Fail(added);
    Notify();
  }
  void Fail(const absl::Status& status) {
    self_ = shared_from_this();
    std::lock_guard<std::mutex> lock(mutex_);
    End(status);
  }

  void Notify() override {
    std::lock_guard<std::mutex> lock(mutex_);
    Pump();
  }
  void Shutdown() override {
    std::lock_guard<std::mutex> lock(mutex_);
    End(MakeError(absl::StatusCode::kUnavailable, kStoreUnavailable,
                  "the server is shutting down; watch again after the last sequence number seen"));
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (ended_) return Finish(ToGrpc(end_status_));
    if (!ok) return End(absl::CancelledError("the client is gone"));
    Pump();
  }
  void OnCancel() override {
    std::lock_guard<std::mutex> lock(mutex_);
    End(absl::CancelledError("the client is gone"));
  }
  void OnDone() override {
    call_.Finish(CodeName(end_status_));
    const std::shared_ptr<WatchStream> last = std::move(self_);  // destroys this on return
  }

 private:
  // Sends what there is to send, unless a write is under way.
  void Pump() {
    if (ended_ || writing_) return;
    if (batch_.empty()) Read();
    if (ended_ || batch_.empty()) return;
    current_ = ToProto(batch_.front());
    sent_ = batch_.front().sequence;
    batch_.pop_front();
    writing_ = true;
    StartWrite(&current_);
  }

  void Read() {
    // The job first: events that come in between are then only read a turn too early.
    const auto job = store_.Get(job_id_);
    if (!job.ok()) return End(job.status());
    auto events = store_.Events(job_id_, sent_, kWatchBatch);
    if (!events.ok()) return End(events.status());
    if (events->empty() && IsTerminal(job->state)) return End(absl::OkStatus());
    batch_.assign(std::make_move_iterator(events->begin()), std::make_move_iterator(events->end()));
  }

  void End(const absl::Status& status) {
    if (ended_) return;
    ended_ = true;
    end_status_ = status;
    if (!writing_) Finish(ToGrpc(status));  // else OnWriteDone does
  }

  JobStore& store_;
  RpcMetrics::Call call_;
  const std::string job_id_;
  std::shared_ptr<WatchStream> self_;
  std::mutex mutex_;
  int64_t sent_;
  std::deque<Event> batch_;
  v1::JobEvent current_;
  bool writing_ = false;
  bool ended_ = false;
  absl::Status end_status_;
};

// Answers WaitJob when the job has ended or time is up. It holds no thread meanwhile: the hub and
// an alarm wake it.
class WaitCall final : public grpc::ServerUnaryReactor,
                       public Watcher,
                       public std::enable_shared_from_this<WaitCall> {
 public:
  WaitCall(JobStore& store, RpcMetrics::Call call, std::string job_id, v1::Job* response)
      : store_(store), call_(std::move(call)), job_id_(std::move(job_id)), response_(response) {}

  // Keeps itself alive until OnDone.
  void Start(WatchHub& hub, std::chrono::milliseconds timeout) {
    self_ = shared_from_this();
    if (const absl::Status added = hub.Add(self_); !added.ok()) {
      std::lock_guard<std::mutex> lock(mutex_);
      return End(added);
    }
    // Weak, because the alarm is a part of this object.
    alarm_.Set(std::chrono::system_clock::now() + timeout, [weak = weak_from_this()](bool rang) {
      if (const auto self = weak.lock(); self != nullptr && rang) self->Look(/*time_is_up=*/true);
    });
    Notify();
  }

  void Notify() override { Look(/*time_is_up=*/false); }
  void Shutdown() override {
    std::lock_guard<std::mutex> lock(mutex_);
    End(MakeError(absl::StatusCode::kUnavailable, kStoreUnavailable,
                  "the server is shutting down; wait again"));
  }
  void OnCancel() override {
    std::lock_guard<std::mutex> lock(mutex_);
    End(absl::CancelledError("the client is gone"));
  }
  void OnDone() override {
    call_.Finish(CodeName(end_status_));
    const std::shared_ptr<WaitCall> last = std::move(self_);  // destroys this on return
  }

 private:
  void Look(bool time_is_up) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) return;
    const auto job = store_.Get(job_id_);
    if (!job.ok()) return End(job.status());
    if (!time_is_up && !IsTerminal(job->state)) return;
    *response_ = ToProto(*job);
    End(absl::OkStatus());
  }
  void End(const absl::Status& status) {
    if (ended_) return;
    ended_ = true;
    end_status_ = status;
    Finish(ToGrpc(status));
  }

  JobStore& store_;
  RpcMetrics::Call call_;
  const std::string job_id_;
  v1::Job* const response_;
  std::shared_ptr<WaitCall> self_;
  grpc::Alarm alarm_;
  std::mutex mutex_;
  bool ended_ = false;
  absl::Status end_status_;
};

// How long a call waits, in milliseconds.
absl::StatusOr<int64_t> WaitMs(const v1::WaitJobRequest& request) {
  const google::protobuf::Duration& timeout = request.timeout();
  const bool known = timeout.seconds() >= 0 && timeout.nanos() >= 0 &&
                     timeout.nanos() < 1'000'000'000 &&
                     timeout.seconds() + (timeout.nanos() > 0 ? 1 : 0) <= kLongestWaitSeconds;
  if (!known) {
    return InvalidFields(
        {{"timeout", "must be 0 to " + std::to_string(kLongestWaitSeconds) + " seconds"}});
  }
  const int64_t ms = google::protobuf::util::TimeUtil::DurationToMilliseconds(timeout);
  const bool absent = timeout.seconds() == 0 && timeout.nanos() == 0;
  return absent ? kDefaultWaitSeconds * 1000 : ms;
}

template <typename T>
absl::Status Assign(absl::StatusOr<T> result, T* response) {
  RETURN_IF_ERROR(result.status());
  *response = *std::move(result);
  return absl::OkStatus();
}

}  // namespace

template <typename Request>
absl::Status CompressionService::Submitted(const Request& request, absl::StatusOr<v1::Job> job,
                                           v1::Job* response) {
  if (!job.ok() && !request.validate_only()) metrics_.CountRefusal(job.status());
  return Assign(std::move(job), response);
}

absl::StatusOr<Caller> CompressionService::Identify(
    const grpc::CallbackServerContext& context) const {
  Credentials credentials;
  const auto [first, last] = context.client_metadata().equal_range("authorization");
  for (auto header = first; header != last; ++header) {
    credentials.authorization.emplace_back(header->second.data(), header->second.size());
  }
  // There are such properties only where the handshake has found the certificate to be of a CA that
  // the server trusts.
  if (const auto connection = context.auth_context(); connection != nullptr) {
    for (const char* property : {GRPC_X509_CN_PROPERTY_NAME, GRPC_X509_SAN_PROPERTY_NAME}) {
      for (const grpc::string_ref& name : connection->FindPropertyValues(property)) {
        credentials.certificate_names.emplace_back(name.data(), name.size());
      }
    }
  }
  ASSIGN_OR_RETURN(Caller caller, identities_.Identify(credentials));
  caller.peer = context.peer();
  return caller;
}

template <typename Function>
grpc::ServerUnaryReactor* CompressionService::Unary(CallPool& pool, const char* method,
                                                    grpc::CallbackServerContext* context,
                                                    Function run) {
  const RpcMetrics::Call call = metrics_.Start("unary", method);
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const auto finish = [reactor, call](const absl::Status& status) {
    RpcMetrics::Call(call).Finish(CodeName(status));
    reactor->Finish(ToGrpc(status));
  };
  const absl::StatusOr<Caller> caller = Identify(*context);
  if (!caller.ok()) {
    if (&pool == &submissions_) metrics_.CountRefusal(caller.status());
    finish(caller.status());
    return reactor;
  }
  const bool taken = pool.Submit([context, method, caller, finish, run = std::move(run)] {
    // Nobody waits for the answer any more: a storm of deadlines costs no work.
    if (context->IsCancelled()) return finish(absl::CancelledError("the client is gone"));
    absl::Status status;
    try {
      status = run(*caller);
    } catch (const std::exception& e) {
      status = MakeError(absl::StatusCode::kInternal, kInternal, e.what());
    }
    if (absl::IsInternal(status)) {
      Log(LogLevel::kError, "RPC failed", {{"method", method}, {"error", status.ToString()}});
    }
    finish(status);
  });
  if (!taken) {
    finish(MakeError(absl::StatusCode::kResourceExhausted, kServerBusy,
                     "more calls are waiting than this server takes at a time"));
  }
  return reactor;
}

grpc::ServerUnaryReactor* CompressionService::CompressModel(grpc::CallbackServerContext* context,
                                                            const v1::CompressModelRequest* request,
                                                            v1::Job* response) {
  return Unary(submissions_, "CompressModel", context, [=, this](const Caller& caller) {
    return Submitted(*request, api_.CompressModel(*request, caller), response);
  });
}

grpc::ServerUnaryReactor* CompressionService::Evaluate(grpc::CallbackServerContext* context,
                                                       const v1::EvaluateRequest* request,
                                                       v1::Job* response) {
  return Unary(submissions_, "Evaluate", context, [=, this](const Caller& caller) {
    return Submitted(*request, api_.Evaluate(*request, caller), response);
  });
}

grpc::ServerUnaryReactor* CompressionService::GetJob(grpc::CallbackServerContext* context,
                                                     const v1::GetJobRequest* request,
                                                     v1::Job* response) {
  return Unary(reads_, "GetJob", context,
               [=, this](const Caller&) { return Assign(api_.GetJob(*request), response); });
}

grpc::ServerUnaryReactor* CompressionService::ListJobs(grpc::CallbackServerContext* context,
                                                       const v1::ListJobsRequest* request,
                                                       v1::ListJobsResponse* response) {
  return Unary(reads_, "ListJobs", context,
               [=, this](const Caller&) { return Assign(api_.ListJobs(*request), response); });
}

grpc::ServerUnaryReactor* CompressionService::CancelJob(grpc::CallbackServerContext* context,
                                                        const v1::CancelJobRequest* request,
                                                        v1::Job* response) {
  return Unary(changes_, "CancelJob", context, [=, this](const Caller& caller) {
    return Assign(api_.CancelJob(*request, caller), response);
  });
}

grpc::ServerUnaryReactor* CompressionService::DeleteJob(grpc::CallbackServerContext* context,
                                                        const v1::DeleteJobRequest* request,
                                                        google::protobuf::Empty*) {
  return Unary(changes_, "DeleteJob", context,
               [=, this](const Caller& caller) { return api_.DeleteJob(*request, caller); });
}

grpc::ServerUnaryReactor* CompressionService::GetServerInfo(grpc::CallbackServerContext* context,
                                                            const v1::GetServerInfoRequest*,
                                                            v1::ServerInfo* response) {
  return Unary(reads_, "GetServerInfo", context, [=, this](const Caller&) {
    *response = api_.GetServerInfo();
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* CompressionService::WaitJob(grpc::CallbackServerContext* context,
                                                      const v1::WaitJobRequest* request,
                                                      v1::Job* response) {
  const auto id = ParseJobName(request->name());
  const auto timeout_ms = WaitMs(*request);
  absl::Status valid = CheckKnown(*request);
  valid.Update(id.status());
  valid.Update(timeout_ms.status());
  if (!valid.ok() || !Identify(*context).ok()) {
    return Unary(reads_, "WaitJob", context, [valid](const Caller&) { return valid; });
  }
  const auto call =
      std::make_shared<WaitCall>(store_, metrics_.Start("unary", "WaitJob"), *id, response);
  call->Start(hub_, std::chrono::milliseconds(*timeout_ms));
  return call.get();
}

grpc::ServerWriteReactor<v1::JobEvent>* CompressionService::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) {
  RpcMetrics::Call call = metrics_.Start("server_stream", "WatchJob");
  const auto id = ParseJobName(request->name());
  auto stream = std::make_shared<WatchStream>(store_, std::move(call), id.ok() ? *id : "",
                                              request->after_sequence());
  if (const absl::Status identified = Identify(*context).status(); !identified.ok()) {
    stream->Fail(identified);
  } else if (!id.ok()) {
    stream->Fail(id.status());
  } else if (const absl::Status known = CheckKnown(*request); !known.ok()) {
    stream->Fail(known);
  } else if (request->after_sequence() < 0) {
    stream->Fail(InvalidFields({{"after_sequence", "must not be negative"}}));
  } else {
    stream->Start(hub_);
  }
  return stream.get();
}

}  // namespace svdllm
