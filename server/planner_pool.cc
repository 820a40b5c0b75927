#include "server/planner_pool.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/cord.h"
#include "base/logging.h"
#include "base/utf8.h"
#include "queue/job.h"
#include "rpc/planner.pb.h"
#include "server/child_process.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLook(50);  // between two looks at what a planner has used
constexpr uint32_t kMaxFrameBytes = 256 << 20;
// Killed ones that will not end: more of them, and it is the machine that is ill.
constexpr size_t kMostKilled = 8;

// What a process has had of the processors; 0 where that is not known.
int64_t UsedMs(pid_t pid) {
  clockid_t clock;
  timespec used{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
  return int64_t{used.tv_sec} * 1000 + used.tv_nsec / 1'000'000;
}

// Waits for a socket; false where the deadline has passed.
bool Await(int socket, short what, std::optional<steady_clock::time_point> deadline) {
  while (true) {
    int wait_ms = -1;
    if (deadline.has_value()) {
      const auto left = std::chrono::ceil<milliseconds>(*deadline - steady_clock::now());
      if (left.count() <= 0) return false;
      wait_ms = static_cast<int>(left.count());
    }
    pollfd entry{socket, what, 0};
    if (poll(&entry, 1, wait_ms) > 0) return true;
  }
}

template <typename Byte, typename Function>
Transfer Move(int socket, short what, Byte* bytes, size_t size,
              std::optional<steady_clock::time_point> deadline, const Function& step) {
  while (size > 0) {
    const ssize_t n = step(bytes, size);
    if (n > 0) {
      bytes += n;
      size -= static_cast<size_t>(n);
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      if (!Await(socket, what, deadline)) return Transfer::kLate;
    } else {
      return Transfer::kClosed;
    }
  }
  return Transfer::kDone;
}

Transfer SendFrame(int socket, const std::string& frame,
                   std::optional<steady_clock::time_point> deadline) {
  const auto size = static_cast<uint32_t>(frame.size());
  const auto step = [socket](const char* bytes, size_t left) {
    return send(socket, bytes, left, MSG_DONTWAIT | MSG_NOSIGNAL);
  };
  const auto* head = reinterpret_cast<const char*>(&size);
  const Transfer sent = Move(socket, POLLOUT, head, sizeof(size), deadline, step);
  if (sent != Transfer::kDone) return sent;
  return Move(socket, POLLOUT, frame.data(), frame.size(), deadline, step);
}

Transfer ReceiveFrame(int socket, std::string& frame,
                      std::optional<steady_clock::time_point> deadline) {
  uint32_t size = 0;
  const auto step = [socket](char* bytes, size_t left) {
    return recv(socket, bytes, left, MSG_DONTWAIT);
  };
  auto* head = reinterpret_cast<char*>(&size);
  const Transfer received = Move(socket, POLLIN, head, sizeof(size), deadline, step);
  if (received != Transfer::kDone) return received;
  if (size > kMaxFrameBytes) return Transfer::kClosed;
  frame.resize(size);
  return Move(socket, POLLIN, frame.data(), frame.size(), deadline, step);
}

internal::CheckReply ToReply(const absl::Status& status) {
  internal::CheckReply reply;
  reply.set_code(static_cast<int>(status.code()));
  reply.set_message(ToValidUtf8({status.message().data(), status.message().size()}));
  status.ForEachPayload([&reply](absl::string_view url, const absl::Cord& payload) {
    (*reply.mutable_payloads())[std::string(url.data(), url.size())] = std::string(payload);
  });
  return reply;
}

absl::Status ToStatus(const internal::CheckReply& reply) {
  absl::Status status(static_cast<absl::StatusCode>(reply.code()), reply.message());
  for (const auto& [url, payload] : reply.payloads()) status.SetPayload(url, absl::Cord(payload));
  return status;
}

// One check, of the kind of its function.
template <typename Request, typename Function>
absl::Status Check(const Function& check, const internal::CheckRequest& asked,
                   const std::string& bytes, internal::CheckReply& reply) {
  Request request;
  CheckedSubmission checked;
  if (!request.ParseFromString(bytes)) return absl::InternalError("a request cannot be read");
  RETURN_IF_ERROR(check(asked.job_id(), request, checked));
  reply.set_request(request.SerializeAsString());
  reply.set_preview(checked.preview.SerializeAsString());
  reply.mutable_outputs()->Assign(checked.outputs.begin(), checked.outputs.end());
  reply.mutable_jobs_like()->Assign(checked.jobs_like.begin(), checked.jobs_like.end());
  reply.set_work(checked.work);
  return absl::OkStatus();
}

internal::CheckReply Answer(const SubmissionChecker& checker, const internal::CheckRequest& asked) {
  internal::CheckReply reply;
  absl::Status status;
  try {
    status = asked.has_evaluate()
                 ? Check<v1::EvaluateRequest>(checker.evaluate, asked, asked.evaluate(), reply)
                 : Check<v1::CompressModelRequest>(checker.compress, asked, asked.compress_model(),
                                                   reply);
  } catch (const std::bad_alloc&) {
    status = MakeError(absl::StatusCode::kResourceExhausted, kHostOutOfMemory,
                       "looking at the model and the texts takes more memory than there is for it");
  } catch (const std::exception& e) {
    status = MakeError(absl::StatusCode::kInternal, kInternal, e.what());
  }
  return status.ok() ? reply : ToReply(status);
}

}  // namespace

absl::Status ServeChecks(int socket, const SubmissionChecker& checker) {
  std::string frame;
  while (ReceiveFrame(socket, frame, std::nullopt) == Transfer::kDone) {
    internal::CheckRequest asked;
    if (!asked.ParseFromString(frame)) return absl::InternalError("a check cannot be read");
    frame = Answer(checker, asked).SerializeAsString();
    if (SendFrame(socket, frame, std::nullopt) != Transfer::kDone) break;
    malloc_trim(0);  // a large header leaves nothing behind
  }
  return absl::OkStatus();
}

PlannerPool::PlannerPool(std::vector<std::string> arguments, PlannerOptions options)
    : arguments_(std::move(arguments)),
      options_(options),
      planners_(static_cast<size_t>(options.processes)) {}

PlannerPool::~PlannerPool() {
  Stop();
  std::unique_lock<std::mutex> lock(mutex_);
  freed_.wait(lock, [this] {
    for (const Planner& planner : planners_) {
      if (planner.busy) return false;
    }
    return true;
  });
  for (Planner& planner : planners_) {
    if (planner.pid == 0) continue;
    close(planner.socket);
    killed_.push_back(planner.pid);
  }
  Reap();
}

void PlannerPool::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  for (const Planner& planner : planners_) {
    if (planner.pid > 0) kill(planner.pid, SIGKILL);
  }
  freed_.notify_all();
}

void PlannerPool::Reap() {
  std::erase_if(killed_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
}

absl::StatusOr<PlannerPool::Planner*> PlannerPool::Acquire(Deadline deadline) {
  const auto refused = [](const std::string& why) {
    return MakeError(absl::StatusCode::kUnavailable, kServerBusy, why);
  };
  std::unique_lock<std::mutex> lock(mutex_);
  Planner* free = nullptr;
  const bool found = freed_.wait_until(lock, deadline, [&] {
    if (stopping_) return true;
    for (Planner& planner : planners_) {
      // One that runs before one that would have to be started.
      if (!planner.busy && (free == nullptr || free->pid == 0)) free = &planner;
    }
    return free != nullptr;
  });
  if (stopping_) return refused("the server is shutting down");
  if (!found) return refused("all planners were busy for as long as a check may take");
  Reap();
  // One that died while nobody asked it anything, killed for want of memory say, is no answer.
  int status = 0;
  if (free->pid > 0 && waitpid(free->pid, &status, WNOHANG) == free->pid) {
    Log(LogLevel::kWarning, "an idle planner died", {{"how", EndOf(status)}});
    close(free->socket);
    free->pid = 0;
    free->socket = -1;
  }
  if (free->pid == 0 && killed_.size() >= kMostKilled) {
    return refused(std::to_string(killed_.size()) +
                   " planners hang in files that the system cannot read");
  }
  free->busy = true;
  return free;
}

void PlannerPool::Release(Planner& planner) {
  std::lock_guard<std::mutex> lock(mutex_);
  planner.busy = false;
  freed_.notify_all();
}

absl::Status PlannerPool::Start(Planner& planner) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return MakeError(absl::StatusCode::kUnavailable, kServerBusy,
                     std::string("no planner can be started: ") + strerror(errno));
  }
  std::vector<std::string> words = arguments_;
  words.push_back("--role=planner");
  words.push_back("--parent_pid=" + std::to_string(getpid()));
  words.push_back("--planner_fd=" + std::to_string(ends[1]));
  const auto pid = SpawnSelf(words, {&ends[1], 1});
  close(ends[1]);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!pid.ok()) {
    close(ends[0]);
    return MakeError(absl::StatusCode::kUnavailable, kServerBusy,
                     "no planner can be started: " + std::string(pid.status().message()));
  }
  planner.pid = *pid;
  planner.socket = ends[0];
  if (stopping_) kill(*pid, SIGKILL);
  return absl::OkStatus();
}

std::string PlannerPool::End(Planner& planner) {
  int status = 0;
  pid_t ended = 0;
  // One that died is there in a moment; one that hangs is killed, and need not be waited for.
  for (int i = 0; i < 50 && ended == 0; ++i) {
    ended = waitpid(planner.pid, &status, WNOHANG);
    if (ended == 0 && i == 10) kill(planner.pid, SIGKILL);
    if (ended == 0) std::this_thread::sleep_for(milliseconds(10));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended == 0) killed_.push_back(planner.pid);
  close(planner.socket);
  planner.pid = 0;
  planner.socket = -1;
  return ended > 0 ? EndOf(status) : "was killed, and has not ended yet";
}

bool PlannerPool::TakeTurn(const Planner& planner, Deadline deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto may_go_on = [this] { return stopping_ || turns_taken_ < options_.turns; };
  if (!may_go_on()) {
    kill(planner.pid, SIGSTOP);
    const bool found = freed_.wait_until(lock, deadline, may_go_on);
    kill(planner.pid, SIGCONT);
    if (!found) return false;
  }
  if (stopping_) return false;
  ++turns_taken_;
  return true;
}

void PlannerPool::GiveTurnBack() {
  std::lock_guard<std::mutex> lock(mutex_);
  --turns_taken_;
  freed_.notify_all();
}

Transfer PlannerPool::Receive(const Planner& planner, std::string& answer, Deadline deadline) {
  // Not by the time that has gone by: where others have the processors, everything takes long.
  const int64_t begin_ms = UsedMs(planner.pid);
  do {
    if (Await(planner.socket, POLLIN, std::min(steady_clock::now() + kLook, deadline))) {
      return ReceiveFrame(planner.socket, answer, deadline);
    }
    if (steady_clock::now() >= deadline) return Transfer::kLate;
  } while (UsedMs(planner.pid) - begin_ms < options_.quick_ms);
  if (!TakeTurn(planner, deadline)) return Transfer::kLate;
  const Transfer transfer = ReceiveFrame(planner.socket, answer, deadline);
  GiveTurnBack();
  return transfer;
}

absl::StatusOr<std::string> PlannerPool::Ask(const std::string& message) {
  const Deadline deadline = steady_clock::now() + milliseconds(options_.deadline_ms);
  ASSIGN_OR_RETURN(Planner* const planner, Acquire(deadline));
  absl::StatusOr<std::string> answer = std::string();
  absl::Status started = planner->pid == 0 ? Start(*planner) : absl::OkStatus();
  if (started.ok()) {
    Transfer transfer = SendFrame(planner->socket, message, deadline);
    if (transfer == Transfer::kDone) transfer = Receive(*planner, *answer, deadline);
    if (transfer == Transfer::kLate) {
      answer = MakeError(absl::StatusCode::kDeadlineExceeded, kPlanTimeout,
                         "the model, the texts and the output could not be looked at within " +
                             std::to_string(options_.deadline_ms / 1000) + " s");
      kill(planner->pid, SIGKILL);
      Log(LogLevel::kWarning, "a planner was killed", {{"planner", std::to_string(planner->pid)}});
      End(*planner);
    } else if (transfer == Transfer::kClosed) {
      const std::string how = End(*planner);
      answer = MakeError(absl::StatusCode::kInternal, kPlannerDied,
                         "the process that looked at the model and the texts ended: " + how);
      Log(LogLevel::kWarning, "a planner died", {{"how", how}});
    }
  } else {
    answer = started;
  }
  Release(*planner);
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_ && !answer.ok()) {
    return MakeError(absl::StatusCode::kUnavailable, kServerBusy, "the server is shutting down");
  }
  return answer;
}

SubmissionChecker PlannerPool::checker() {
  const auto check = [this](const internal::CheckRequest& asked, auto& request,
                            CheckedSubmission& checked) -> absl::Status {
    ASSIGN_OR_RETURN(const std::string frame, Ask(asked.SerializeAsString()));
    internal::CheckReply reply;
    if (!reply.ParseFromString(frame)) return absl::InternalError("a planner's answer is broken");
    if (reply.code() != 0) return ToStatus(reply);
    if (!request.ParseFromString(reply.request()) ||
        !checked.preview.ParseFromString(reply.preview())) {
      return absl::InternalError("a planner's answer is broken");
    }
    checked.outputs.assign(reply.outputs().begin(), reply.outputs().end());
    checked.jobs_like.assign(reply.jobs_like().begin(), reply.jobs_like().end());
    checked.work = reply.work();
    return absl::OkStatus();
  };
  SubmissionChecker checker;
  checker.compress = [check](const std::string& id, v1::CompressModelRequest& request,
                             CheckedSubmission& checked) {
    internal::CheckRequest asked;
    asked.set_job_id(id);
    asked.set_compress_model(request.SerializeAsString());
    return check(asked, request, checked);
  };
  checker.evaluate = [check](const std::string& id, v1::EvaluateRequest& request,
                             CheckedSubmission& checked) {
    internal::CheckRequest asked;
    asked.set_job_id(id);
    asked.set_evaluate(request.SerializeAsString());
    return check(asked, request, checked);
  };
  return checker;
}

}  // namespace svdllm
