#include "client/client.h"

#include <grpcpp/grpcpp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/address.h"
#include "client/error.h"
#include "svdllm/v1/compression.grpc.pb.h"

namespace svdllm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{3000};
// A stream, or a call that waits, that lasted this long was up, though it may have delivered
// nothing.
constexpr milliseconds kStreamWasUp{2000};
constexpr milliseconds kConnectSoon{1000};
// One WaitJob call: short enough for whatever lies between to let it live.
constexpr milliseconds kLongestPoll{60'000};
// A job of a big model lists thousands of matrices.
constexpr int kMaxReceivedBytes = 64 << 20;
constexpr size_t kMaxTokenBytes = 4096;

std::string WithPort(const std::string& address) {
  return address.find(':') == std::string::npos ? absl::StrCat(address, ":7070") : address;
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address, const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(options.keepalive.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // Else gRPC stops pinging after two pings without data, and a job may be silent for longer.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // gRPC's own pause between connection attempts grows to two minutes; ours bounds the tries
  // already.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   5000);  // what one attempt to connect may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // http_proxy is meant for web pages; a loopback server behind it would be out of reach.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetUserAgentPrefix("svdllm-client/" SVDLLM_VERSION);
  const auto credentials = options.tls
                               ? grpc::SslCredentials({options.ca_certificates, options.private_key,
                                                       options.certificate})
                               : grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

// Whether what is sent there stays on this machine.
bool IsHere(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const auto parsed = ParseAddress(address);
  return parsed.ok() && IsLoopback(*parsed);
}

// Growing pauses with jitter, so that the clients of a restarted server do not come all at once.
class Backoff {
 public:
  milliseconds Next() {
    const milliseconds pause = pause_;
    pause_ = std::min(pause_ * 2, kLongestPause);
    return milliseconds(
        std::uniform_int_distribution<int64_t>(pause.count() / 2, pause.count())(random_));
  }

 private:
  milliseconds pause_ = kFirstPause;
  std::minstd_rand random_{std::random_device{}()};
};

// False where stop was requested meanwhile.
bool Pause(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

// The stream broke, or the server shuts down; it did not end the stream for cause, which has a
// reason. (CANCELLED is not ours: that is returned before.)
bool IsBroken(const absl::Status& status) {
  if (absl::IsUnavailable(status) || absl::IsCancelled(status)) return true;
  return ErrorReason(status).empty() && (absl::IsUnknown(status) || absl::IsInternal(status));
}

}  // namespace

absl::Status CheckClientOptions(const std::string& address, const ClientOptions& options) {
  const std::string& token = options.token;
  if (token.empty()) return absl::OkStatus();
  const bool whole =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; });
  if (!whole || token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(
        "a token has at most 4096 bytes, printable ASCII without blanks; this one is none");
  }
  const std::string target = WithPort(address);
  if (options.tls || IsHere(target)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a token is not sent to ", target, " without TLS: others could read it"));
}

std::string NewRequestId() {
  unsigned char bytes[16];
  if (RAND_bytes(bytes, sizeof bytes) != 1) {
    std::random_device device;
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(device());
  }
  bytes[6] = (bytes[6] & 0x0f) | 0x40;  // version 4: random
  bytes[8] = (bytes[8] & 0x3f) | 0x80;  // the variant of RFC 4122
  std::string text;
  for (int i = 0; i < 16; ++i) {
    absl::StrAppendFormat(&text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                          bytes[i]);
  }
  return text;
}

bool HasEnded(const v1::Job& job) {
  return job.state() == v1::JOB_STATE_SUCCEEDED || job.state() == v1::JOB_STATE_FAILED ||
         job.state() == v1::JOB_STATE_CANCELLED;
}

struct Client::Impl {
  Impl(const std::string& address_in, ClientOptions options_in)
      : address(WithPort(address_in)),
        options(std::move(options_in)),
        usable(CheckClientOptions(address, options)),
        channel(Connect(address, options)),
        stub(v1::CompressionService::NewStub(channel)) {}

  absl::Status ToStatus(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    const std::string details = status.error_details();
    std::string message = status.error_message();
    // Without details it was gRPC that gave up, not the server.
    if (details.empty() && status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      // Of gRPC's account the last part says it all: "Connection refused".
      constexpr char kLastPart[] = "Failed to connect to remote host: ";
      const size_t last = message.rfind(kLastPart);
      if (last != std::string::npos) message.erase(0, last + sizeof kLastPart - 1);
      message = absl::StrCat("cannot reach the server at ", address, ": ", message);
    } else if (details.empty() && status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      message = absl::StrCat("no answer in time from the server at ", address);
    }
    return MakeRpcError(status.error_code(), message, details);
  }

  // What every call carries.
  void AddToken(grpc::ClientContext& context) const {
    if (!options.token.empty()) context.AddMetadata("authorization", "Bearer " + options.token);
  }

  absl::Status Stopped() const { return absl::CancelledError("interrupted"); }

  // Calls try_once until it ends otherwise than UNAVAILABLE, or time is up. tries: how often it was
  // called, where not null.
  absl::Status Retry(const std::function<grpc::Status(grpc::ClientContext&)>& try_once,
                     int* tries = nullptr) const {
    RETURN_IF_ERROR(usable);
    const Clock::time_point give_up = Clock::now() + options.call_timeout;
    Backoff backoff;
    absl::Status last;
    while (!options.stop.stop_requested()) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + (give_up - Clock::now()));
      AddToken(context);
      {
        std::stop_callback cancel(options.stop, [&] { context.TryCancel(); });
        const absl::Status status = ToStatus(try_once(context));
        // A try cut short by our own deadline says less than the failure before it.
        if (!(absl::IsDeadlineExceeded(status) && absl::IsUnavailable(last))) last = status;
        if (tries != nullptr) ++*tries;
        if (!absl::IsUnavailable(status) || options.stop.stop_requested()) break;
      }
      const milliseconds pause = backoff.Next();
      if (Clock::now() + pause >= give_up) break;
      if (options.on_retry) options.on_retry(last);
      // gRPC gets on with connecting only while somebody waits for it: an attempt that nobody waits
      // for hangs until its time is up, whatever has happened to it.
      const Clock::time_point pause_end = Clock::now() + pause;
      WaitUntilConnected(pause_end);
      Pause(std::chrono::duration_cast<milliseconds>(pause_end - Clock::now()), options.stop);
    }
    return options.stop.stop_requested() ? Stopped() : last;
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (v1::CompressionService::Stub::*)(grpc::ClientContext*,
                                                                const Request&, Response*);
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(Method<Request, Response> method, const Request& request) const {
    Response response;
    RETURN_IF_ERROR(Retry([&](grpc::ClientContext& context) {
      response.Clear();
      return (stub.get()->*method)(&context, request, &response);
    }));
    return response;
  }

  bool WaitUntilConnected(Clock::time_point give_up) const {
    while (!options.stop.stop_requested() && Clock::now() < give_up) {
      // In slices, so that a stop is noticed.
      if (channel->WaitForConnected(std::chrono::system_clock::now() + milliseconds(100)))
        return true;
    }
    return false;
  }

  // One stream, from *sequence on; advances *sequence with every event delivered.
  absl::Status WatchOnce(const std::string& name, int64_t* sequence,
                         const std::function<void(const v1::JobEvent&)>& on_event) const {
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_sequence(*sequence);
    grpc::ClientContext context;
    AddToken(context);
    std::stop_callback cancel(options.stop, [&] { context.TryCancel(); });
    const auto reader = stub->WatchJob(&context, request);
    v1::JobEvent event;
    while (reader->Read(&event)) {
      if (event.sequence() <= *sequence || options.stop.stop_requested()) continue;
      *sequence = event.sequence();
      on_event(event);
    }
    return ToStatus(reader->Finish());
  }

  absl::Status WaitOnce(const std::string& name, milliseconds timeout, v1::Job* job) const {
    v1::WaitJobRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_seconds(timeout.count() / 1000);
    request.mutable_timeout()->set_nanos(static_cast<int32_t>(timeout.count() % 1000) * 1'000'000);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout + options.call_timeout);
    AddToken(context);
    std::stop_callback cancel(options.stop, [&] { context.TryCancel(); });
    job->Clear();
    return ToStatus(stub->WaitJob(&context, request, job));
  }

  const std::string address;
  const ClientOptions options;
  const absl::Status usable;  // CheckClientOptions
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::CompressionService::Stub> stub;
};

Client::Client(const std::string& address, ClientOptions options)
    : impl_(std::make_unique<Impl>(address, std::move(options))) {}
Client::~Client() = default;

const std::string& Client::address() const { return impl_->address; }

absl::StatusOr<v1::Job> Client::CompressModel(v1::CompressModelRequest request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  return impl_->Call(&v1::CompressionService::Stub::CompressModel, request);
}

absl::StatusOr<v1::Job> Client::Evaluate(v1::EvaluateRequest request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  return impl_->Call(&v1::CompressionService::Stub::Evaluate, request);
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  return impl_->Call(&v1::CompressionService::Stub::GetJob, request);
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(const v1::ListJobsRequest& request) {
  return impl_->Call(&v1::CompressionService::Stub::ListJobs, request);
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& name) {
  v1::CancelJobRequest request;
  request.set_name(name);
  return impl_->Call(&v1::CompressionService::Stub::CancelJob, request);
}

absl::Status Client::DeleteJob(const std::string& name) {
  v1::DeleteJobRequest request;
  request.set_name(name);
  google::protobuf::Empty response;
  int tries = 0;
  const absl::Status status = impl_->Retry(
      [&](grpc::ClientContext& context) {
        return impl_->stub->DeleteJob(&context, request, &response);
      },
      &tries);
  return tries > 1 && absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<v1::ServerInfo> Client::GetServerInfo() {
  return impl_->Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest());
}

absl::StatusOr<v1::Job> Client::Wait(const std::string& name, milliseconds timeout) {
  RETURN_IF_ERROR(impl_->usable);
  const ClientOptions& options = impl_->options;
  const Clock::time_point end = Clock::now() + timeout;
  Clock::time_point give_up = Clock::now() + options.call_timeout;
  Backoff backoff;
  absl::Status last;
  v1::Job job;
  while (!options.stop.stop_requested()) {
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    // At least 1 ms: 0 is the server's default.
    const milliseconds poll = std::clamp(left, milliseconds(1), kLongestPoll);
    const bool connected =
        impl_->WaitUntilConnected(std::min(give_up, Clock::now() + kConnectSoon));
    const Clock::time_point opened = Clock::now();
    last = impl_->WaitOnce(name, poll, &job);
    if (last.ok()) {
      if (HasEnded(job) || Clock::now() >= end) break;
      give_up = Clock::now() + options.reconnect_timeout;
      backoff = Backoff();
      continue;
    }
    if (!IsBroken(last) || options.stop.stop_requested()) break;
    const Clock::time_point closed = Clock::now();
    if (connected && closed - opened >= kStreamWasUp) give_up = closed + options.reconnect_timeout;
    const milliseconds pause = backoff.Next();
    if (closed + pause >= give_up) break;
    if (options.on_retry) options.on_retry(last);
    Pause(pause, options.stop);
  }
  if (options.stop.stop_requested()) return impl_->Stopped();
  RETURN_IF_ERROR(last);
  return job;
}

absl::Status Client::Watch(const std::string& name, int64_t after_sequence,
                           const std::function<void(const v1::JobEvent&)>& on_event) {
  RETURN_IF_ERROR(impl_->usable);
  const ClientOptions& options = impl_->options;
  int64_t sequence = after_sequence;
  Clock::time_point give_up = Clock::now() + options.call_timeout;
  Backoff backoff;
  absl::Status last;
  while (!options.stop.stop_requested()) {
    // Where it does not connect soon, the try itself finds out why.
    const bool connected =
        impl_->WaitUntilConnected(std::min(give_up, Clock::now() + kConnectSoon));
    const int64_t sequence_before = sequence;
    const Clock::time_point opened = Clock::now();
    last = impl_->WatchOnce(name, &sequence, on_event);
    if (!IsBroken(last) || options.stop.stop_requested()) break;
    const Clock::time_point closed = Clock::now();
    if (sequence > sequence_before || (connected && closed - opened >= kStreamWasUp)) {
      give_up = closed + options.reconnect_timeout;
      backoff = Backoff();
    }
    const milliseconds pause = backoff.Next();
    if (closed + pause >= give_up) break;
    if (options.on_retry) options.on_retry(last);
    Pause(pause, options.stop);
  }
  return options.stop.stop_requested() ? impl_->Stopped() : last;
}

}  // namespace svdllm
