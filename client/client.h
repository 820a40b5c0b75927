// A client of the compression service.
//
//   svdllm::Client client("127.0.0.1:7070");
//   absl::StatusOr<v1::Job> job = client.CompressModel(request);
//   absl::Status end = client.Watch(job->name(), 0, [](const v1::JobEvent& event) { ... });
//
// Errors: a call that the server refused has the server's code and message, and details that
// client/error.h reads. UNAVAILABLE means that there is no connection, or that the server said so
// itself. It is retried with growing pauses until the call's time is up, and returned then.
// DEADLINE_EXCEEDED means that the client was connected and got no answer in time. Retrying is
// safe: submissions carry a request_id, and the other calls are idempotent.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "base/status.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

struct ClientOptions {
  // Whether the connection is TLS; without it nobody knows who answers, and who listens.
  bool tls = false;
  // Certificates of the CAs that the server's must come from, in PEM. Empty: the system's.
  std::string ca_certificates = {};
  // The caller's own certificate and its private key, in PEM. Empty: none.
  std::string certificate = {};
  std::string private_key = {};
  // Says who calls, where the server asks for that; empty: nothing does. It is sent with TLS, or to
  // this machine (CheckClientOptions).
  std::string token = {};
  // The time that one call may take in all, tries and pauses together. For Watch and Wait: the time
  // to get connected at first.
  std::chrono::milliseconds call_timeout{30'000};
  // How long Watch and Wait try to get a connection back that they had.
  std::chrono::milliseconds reconnect_timeout{300'000};
  // The time between pings on an otherwise silent connection. A peer that does not answer one is
  // gone.
  std::chrono::milliseconds keepalive{15'000};
  // Once stop is requested, all calls end with CANCELLED, also those under way.
  std::stop_token stop = {};
  // Told about each failed try that will be repeated. Called on the calling thread.
  std::function<void(const absl::Status&)> on_retry = {};
};

// INVALID_ARGUMENT where the token is none that a call can carry, or others could read it on its
// way: address is another machine's, and there is no TLS. Every call of such a client returns this.
absl::Status CheckClientOptions(const std::string& address, const ClientOptions& options);
// Returns a random (version 4) UUID.
std::string NewRequestId();
// Whether the job has SUCCEEDED, FAILED or been CANCELLED.
bool HasEnded(const v1::Job& job);

// Thread-safe; calls block. It connects at the first call, and again whenever the connection was
// lost.
class Client {
 public:
  // `address` is host:port (7070 where there is no port), or a gRPC target such as unix:/path.
  explicit Client(const std::string& address, ClientOptions options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const std::string& address() const;

  // Submit a job. Where request_id is empty, one is set, so that a retry can never queue a second
  // job.
  absl::StatusOr<v1::Job> CompressModel(v1::CompressModelRequest request);
  absl::StatusOr<v1::Job> Evaluate(v1::EvaluateRequest request);

  // Names are "jobs/{id}".
  absl::StatusOr<v1::Job> GetJob(const std::string& name);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(const std::string& name);
  // Also OK where the job is gone because an earlier try of this call succeeded and its answer was
  // lost.
  absl::Status DeleteJob(const std::string& name);
  absl::StatusOr<v1::ServerInfo> GetServerInfo();
  // Returns the job once it has ended, or as it is when the timeout is over. A lost connection is
  // taken up again, as by Watch; a server that is not there when the time is over is UNAVAILABLE.
  absl::StatusOr<v1::Job> Wait(const std::string& name, std::chrono::milliseconds timeout);

  // Calls on_event, on this thread, for the job's events after after_sequence: first for what has
  // happened, then for what happens. Returns OK when the job has ended. A lost stream is opened
  // again after the last event seen, so every event is delivered once, in order. JobEvent.sequence
  // says what a slow reader may be spared.
  absl::Status Watch(const std::string& name, int64_t after_sequence,
                     const std::function<void(const v1::JobEvent&)>& on_event);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace svdllm
