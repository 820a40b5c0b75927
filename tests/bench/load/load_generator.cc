// Callers of every kind at once, and how long each kind waits: submitters, readers of lists,
// watchers, and plans of large models. load.py starts a server for it and holds the figures against
// what they should be.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "svdllm/v1/compression.grpc.pb.h"

ABSL_FLAG(std::string, server, "", "Where the server is, host:port.");
ABSL_FLAG(std::string, model, "", "A small model, which the submitted jobs compress.");
ABSL_FLAG(std::string, text, "", "What they calibrate on.");
ABSL_FLAG(int64_t, samples, 4, "Their calibration sequences.");
ABSL_FLAG(int64_t, seq_len, 32, "The length of one.");
ABSL_FLAG(double, seconds, 10, "How long submitters, readers and planners go on.");
ABSL_FLAG(int64_t, fill, 0, "Jobs that are submitted before anything is measured.");
ABSL_FLAG(int, submitters, 0, "Callers that submit one job after another.");
ABSL_FLAG(double, pause_ms, 0, "What a submitter or reader waits between an answer and a call.");
ABSL_FLAG(std::string, accepted, "", "File for the names of the jobs that were accepted.");
ABSL_FLAG(int, listers, 0, "Callers that read the newest page of the list, over and over.");
ABSL_FLAG(int, planners, 0, "Callers that have --plan_model planned, over and over.");
ABSL_FLAG(std::string, plan_model, "", "A large model.");
ABSL_FLAG(int, header_planners, 0, "The same for --header_model.");
ABSL_FLAG(std::string, header_model, "", "A model that is refused, or accepted, with effort.");
ABSL_FLAG(int, watchers, 0, "Streams that are opened on one job and read to its end.");

namespace svdllm {
namespace {

using std::chrono::steady_clock;
using Stub = v1::CompressionService::Stub;

double MsSince(steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count();
}

std::shared_ptr<grpc::Channel> NewChannel() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  return grpc::CreateCustomChannel(absl::GetFlag(FLAGS_server), grpc::InsecureChannelCredentials(),
                                   arguments);
}

// What one kind of caller met with. Thread-safe.
class Figures {
 public:
  void Add(double ms, const std::string& error = "") {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (error.empty()) {
      ms_.push_back(ms);
    } else {
      ++errors_[error];
    }
  }
  // A JSON object.
  std::string Json() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::sort(ms_.begin(), ms_.end());
    std::string text = "{\"count\": " + std::to_string(ms_.size());
    const std::pair<const char*, double> percentiles[] = {
        {"p50_ms", 0.5}, {"p90_ms", 0.9}, {"p99_ms", 0.99}, {"max_ms", 1}};
    for (const auto& [name, part] : percentiles) {
      if (ms_.empty()) continue;
      const auto count = static_cast<double>(ms_.size());
      const size_t at = static_cast<size_t>(std::max(1.0, std::ceil(part * count))) - 1;
      text += ", \"" + std::string(name) + "\": " + std::to_string(ms_[at]);
    }
    text += ", \"errors\": {";
    for (const auto& [error, count] : errors_) {
      if (text.back() != '{') text += ", ";
      text += "\"" + error + "\": " + std::to_string(count);
    }
    return text + "}}";
  }

 private:
  std::mutex mutex_;
  std::vector<double> ms_;
  std::map<std::string, int64_t> errors_;
};

std::string CodeName(const grpc::Status& status) {
  return status.ok() ? "" : "code " + std::to_string(status.error_code());
}

v1::CompressModelRequest Compression(const std::string& model) {
  v1::CompressModelRequest request;
  request.set_model(model);
  request.add_keep_ratios(0.6);
  request.mutable_calibration()->mutable_text()->set_uri(absl::GetFlag(FLAGS_text));
  request.mutable_calibration()->set_samples(absl::GetFlag(FLAGS_samples));
  request.mutable_calibration()->set_seq_len(absl::GetFlag(FLAGS_seq_len));
  return request;
}

grpc::Status Submit(Stub& stub, const v1::CompressModelRequest& request, v1::Job& job) {
  grpc::ClientContext context;
  context.set_wait_for_ready(false);
  return stub.CompressModel(&context, request, &job);
}

// Names of accepted jobs, a line each, written before the next call is made.
class Accepted {
 public:
  Accepted() {
    if (!absl::GetFlag(FLAGS_accepted).empty()) file_.open(absl::GetFlag(FLAGS_accepted));
  }
  void Add(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (file_.is_open()) file_ << name << std::endl;
  }

 private:
  std::mutex mutex_;
  std::ofstream file_;
};

// One watcher's view of its job.
struct Seen {
  int64_t events = 0;
  bool in_order = true;  // each sequence number is the one before and one
  bool ended = false;
  std::string error;
};

void Watch(Stub& stub, const std::string& name, Figures& ages, Seen& seen) {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  const auto reader = stub.WatchJob(&context, request);
  v1::JobEvent event;
  while (reader->Read(&event)) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    seen.in_order = seen.in_order && event.sequence() == seen.events + 1;
    ++seen.events;
    ages.Add(1e3 * static_cast<double>(now.tv_sec - event.time().seconds()) +
             static_cast<double>(now.tv_nsec - event.time().nanos()) / 1e6);
    seen.ended = event.state_change().state() >= v1::JOB_STATE_SUCCEEDED;
  }
  seen.error = CodeName(reader->Finish());
}

// Streams of one job, all open before it runs for long, each on one of 16 connections.
std::string RunWatchers(Figures& ages) {
  const int count = absl::GetFlag(FLAGS_watchers);
  std::vector<std::unique_ptr<Stub>> stubs;
  for (int i = 0; i < 16; ++i) stubs.push_back(v1::CompressionService::NewStub(NewChannel()));
  v1::Job job;
  const grpc::Status status = Submit(*stubs[0], Compression(absl::GetFlag(FLAGS_model)), job);
  if (!status.ok()) return "{\"error\": \"the watched job was refused\"}";
  std::vector<Seen> seen(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < seen.size(); ++i) {
    threads.emplace_back([&, i] { Watch(*stubs[i % stubs.size()], job.name(), ages, seen[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t complete = 0, least = seen[0].events, most = 0;
  for (const Seen& one : seen) {
    if (one.in_order && one.ended && one.error.empty()) ++complete;
    least = std::min(least, one.events);
    most = std::max(most, one.events);
  }
  return "{\"streams\": " + std::to_string(count) + ", \"complete\": " + std::to_string(complete) +
         ", \"least_events\": " + std::to_string(least) +
         ", \"most_events\": " + std::to_string(most) + "}";
}

// Calls over and over until the time is up, from one thread with a connection of its own.
void Repeat(steady_clock::time_point end, Figures& figures,
            const std::function<grpc::Status(Stub&)>& call) {
  const auto stub = v1::CompressionService::NewStub(NewChannel());
  while (steady_clock::now() < end) {
    const auto begin = steady_clock::now();
    const grpc::Status status = call(*stub);
    figures.Add(MsSince(begin), CodeName(status));
    // Whoever is refused asks again a little later, as clients do.
    const double pause_ms = absl::GetFlag(FLAGS_pause_ms) + (status.ok() ? 0 : 20);
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(pause_ms));
  }
}

int Main() {
  const std::string model = absl::GetFlag(FLAGS_model);
  Accepted accepted;
  const auto submit = [&](Stub& stub) {
    v1::Job job;
    const grpc::Status status = Submit(stub, Compression(model), job);
    if (status.ok()) accepted.Add(job.name());
    return status;
  };
  const auto list = [](Stub& stub) {
    grpc::ClientContext context;
    v1::ListJobsRequest request;
    request.set_page_size(50);
    v1::ListJobsResponse page;
    return stub.ListJobs(&context, request, &page);
  };
  const auto plan_of = [](const std::string& path) {
    return [path](Stub& stub) {
      v1::CompressModelRequest request = Compression(path);
      request.set_validate_only(true);
      v1::Job job;
      const grpc::Status status = Submit(stub, request, job);
      if (status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE) return status;
      // An answer too: the model does not fit, or its header is none.
      return grpc::Status::OK;
    };
  };

  std::atomic<int64_t> left{absl::GetFlag(FLAGS_fill)};
  std::vector<std::thread> fillers;
  for (int i = 0; i < 8 && left > 0; ++i) {
    fillers.emplace_back([&] {
      const auto stub = v1::CompressionService::NewStub(NewChannel());
      while (left-- > 0) {
        if (const grpc::Status status = submit(*stub); !status.ok()) {
          std::fprintf(stderr, "refused: %s\n", status.error_message().c_str());
          return;
        }
      }
    });
  }
  for (std::thread& filler : fillers) filler.join();

  Figures submits, lists, plans, headers, ages;
  const auto end =
      steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(
                                std::chrono::duration<double>(absl::GetFlag(FLAGS_seconds)));
  std::vector<std::thread> callers;
  const auto start = [&](int count, Figures& figures,
                         const std::function<grpc::Status(Stub&)>& call) {
    for (int i = 0; i < count; ++i) {
      callers.emplace_back([&figures, call, end] { Repeat(end, figures, call); });
    }
  };
  start(absl::GetFlag(FLAGS_planners), plans, plan_of(absl::GetFlag(FLAGS_plan_model)));
  start(absl::GetFlag(FLAGS_header_planners), headers, plan_of(absl::GetFlag(FLAGS_header_model)));
  start(absl::GetFlag(FLAGS_submitters), submits, submit);
  start(absl::GetFlag(FLAGS_listers), lists, list);
  std::string watch = "{}";
  if (absl::GetFlag(FLAGS_watchers) > 0) watch = RunWatchers(ages);
  for (std::thread& caller : callers) caller.join();
  std::printf(
      "{\"submit\": %s,\n \"list\": %s,\n \"plan\": %s,\n \"header\": %s,\n \"watch\": %s,\n "
      "\"event_age\": %s}\n",
      submits.Json().c_str(), lists.Json().c_str(), plans.Json().c_str(), headers.Json().c_str(),
      watch.c_str(), ages.Json().c_str());
  return 0;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return svdllm::Main();
}
