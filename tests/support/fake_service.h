// A scripted CompressionService on a loopback port. (Only fake_service.cc includes gRPC.)
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rpc/error_details.pb.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

// What the service does, and what it was asked. Lock mutex to touch it while calls may run.
struct FakeScript {
  std::mutex mutex;

  std::map<std::string, v1::Job> jobs;
  std::map<std::string, std::vector<v1::JobEvent>> events;
  // Submissions answer with this job, which becomes part of jobs; its request is filled in.
  v1::Job submitted;
  v1::ServerInfo info;
  // The next calls (not streams) that end UNAVAILABLE.
  int unavailable_calls = 0;
  // The call is done, but its answer is lost.
  bool lose_next_answer = false;
  // What every call (not stream) answers, where set.
  google::rpc::Status refusal;
  int delay_ms = 0;  // before every call's answer
  // A stream breaks off (UNAVAILABLE) after this many events; 0: never.
  int events_per_stream = 0;
  // Streams start this many events too early, as a faulty server might.
  int64_t overlap = 0;
  // Streams stay open behind their last event.
  bool streams_hang = false;

  int calls = 0;  // not streams
  std::vector<v1::CompressModelRequest> compress_requests;
  std::vector<v1::EvaluateRequest> evaluate_requests;
  std::vector<v1::ListJobsRequest> list_requests;
  std::vector<v1::WaitJobRequest> wait_requests;
  std::string authorization;           // the header of the latest call or stream
  std::vector<int64_t> watched_after;  // after_sequence of each stream
};

class FakeServer {
 public:
  FakeServer();
  ~FakeServer();
  const std::string& address() const { return address_; }
  FakeScript& script() { return script_; }
  void Stop();   // breaks what is under way; nothing listens any more
  void Start();  // again, at the same address

 private:
  struct Impl;
  FakeScript script_;
  std::string address_;
  std::unique_ptr<Impl> impl_;
};

// Events 1 to count of a job: QUEUED, RUNNING, progress through as many layers, SUCCEEDED.
std::vector<v1::JobEvent> SampleEvents(int count);
// A refusal with an ErrorInfo.
google::rpc::Status Refusal(int code, const std::string& reason, const std::string& message);

}  // namespace svdllm
