#include "queue/worker.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "base/logging.h"

namespace svdllm {
namespace {

constexpr char kStopping[] = "the worker is being stopped";

int64_t SteadyMs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

bool IsLeaseLost(const absl::Status& status) { return ErrorReason(status) == kLeaseLost; }

LogFields Fields(const JobContext& context) {
  return {{"job", context.job().id}, {"attempt", context.job().attempt}};
}

LogFields Fields(const JobContext& context, const absl::Status& status) {
  LogFields fields = Fields(context);
  // Without the payloads: a request's violations are bytes of a message, and no text.
  fields.emplace_back("reason", ErrorReason(status));
  fields.emplace_back("error", status.ToString(absl::StatusToStringMode::kWithNoExtraData));
  return fields;
}

absl::StatusOr<HandlerResult> RunHandler(const JobHandler& handler, JobContext& context) {
  try {
    return handler(context);
  } catch (const std::bad_alloc&) {
    return MakeError(absl::StatusCode::kResourceExhausted, kHostOutOfMemory,
                     "the host's memory does not suffice for this job");
  } catch (const std::exception& e) {
    return MakeError(absl::StatusCode::kInternal, kInternal,
                     std::string("unexpected exception: ") + e.what());
  }
}

// With a reason, or it would pass for that of a worker that is being stopped.
absl::Status DeviceFailed(const absl::Status& unusable, const absl::Status& attempt) {
  return MakeError(absl::StatusCode::kUnavailable, kInternal,
                   "the device failed: " + std::string(unusable.message()) +
                       "; the attempt ended with: " + std::string(attempt.message()));
}

}  // namespace

JobContext::JobContext(JobStore& store, ClaimedJob claimed, const std::atomic<bool>& stopping,
                       int64_t keep_ms)
    : store_(store),
      claimed_(std::move(claimed)),
      stopping_(stopping),
      keep_ms_(keep_ms),
      start_ms_(SteadyMs()) {}

absl::Status JobContext::Check() const {
  ++steps_;
  if (lost_) {
    return MakeError(absl::StatusCode::kAborted, kLeaseLost, "the lease of this attempt has ended");
  }
  if (publishing_) return absl::OkStatus();
  if (cancelled_) return absl::CancelledError("the job is being cancelled");
  if (stopping_ && !MayFinish()) return absl::UnavailableError(kStopping);
  return IsLate() ? Late() : absl::OkStatus();
}

bool JobContext::MayFinish() const {
  if (kept_after_ms_ == 0) return false;
  const int64_t now_ms = SteadyMs();
  int64_t never = 0;
  stop_seen_ms_.compare_exchange_strong(never, now_ms);
  // As long as the step before, and a quarter more.
  const int64_t done_ms = std::max(kept_at_ms_ + kept_after_ms_ * 5 / 4, now_ms);
  return done_ms <= stop_seen_ms_ + keep_ms_;
}

absl::Status JobContext::CheckKept() {
  const int64_t now_ms = SteadyMs();
  const int64_t before_ms = kept_at_ms_ == 0 ? start_ms_ : kept_at_ms_.load();
  kept_after_ms_ = std::max<int64_t>(now_ms - before_ms, 1);
  kept_at_ms_ = now_ms;
  RETURN_IF_ERROR(Check());
  return stopping_ && !publishing_ ? absl::UnavailableError(kStopping) : absl::OkStatus();
}

bool JobContext::IsLate() const {
  return job().timeout_ms > 0 && job().used_ms + RanMs() > job().timeout_ms;
}

absl::Status JobContext::Late() const {
  return MakeError(absl::StatusCode::kDeadlineExceeded, kDeadlineExceeded,
                   "the job's timeout of " + std::to_string(job().timeout_ms) + " ms has passed");
}

int64_t JobContext::RanMs() const { return SteadyMs() - start_ms_; }

void JobContext::Report(NewEvent event) {
  ++steps_;
  if (lost_) return;
  const absl::Status status = store_.Append(lease(), {&event, 1});
  if (IsLeaseLost(status)) {
    lost_ = true;
  } else if (!status.ok()) {
    Log(LogLevel::kWarning, "an event could not be stored", Fields(*this, status));
  }
}

absl::Status JobContext::BeginPublish() {
  RETURN_IF_ERROR(Check());
  const absl::Status status = store_.BeginPublish(lease());
  if (IsLeaseLost(status)) lost_ = true;
  if (absl::IsCancelled(status)) cancelled_ = true;
  if (status.ok()) publishing_ = true;
  return status;
}

Worker::Worker(JobStore& store, JobHandler handler, WorkerOptions options)
    : store_(store), handler_(std::move(handler)), options_(std::move(options)) {}

void Worker::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
}

bool Worker::Sleep(int64_t ms) {
  if (options_.beat) options_.beat();
  std::unique_lock<std::mutex> lock(mutex_);
  return wake_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stopping_.load(); });
}

absl::Status Worker::Run() {
  if (options_.prepare) RETURN_IF_ERROR(options_.prepare());
  if (options_.beat) options_.beat();
  // A claim takes the store's write lock, so an idle worker claims when something has changed, and
  // once a second for jobs whose pause has passed.
  int64_t version = -1;
  int64_t last_claim_ms = 0;
  while (!stopping_) {
    const auto now_version = store_.Version();
    const bool changed = now_version.ok() && *now_version != version;
    if (!changed && SteadyMs() - last_claim_ms < 1000) {
      Sleep(options_.poll_ms);
      continue;
    }
    if (now_version.ok()) version = *now_version;
    last_claim_ms = SteadyMs();
    auto claimed = store_.Claim(options_.id, options_.lease_ms, options_.can_run);
    if (!claimed.ok()) {
      Log(LogLevel::kWarning, "no job could be claimed", {{"error", claimed.status().ToString()}});
      Sleep(1000);
    } else if (claimed->has_value()) {
      RETURN_IF_ERROR(RunJob(std::move(**claimed)));
      version = -1;  // the next one may be waiting
    }
  }
  return absl::OkStatus();
}

absl::Status Worker::RunJob(ClaimedJob claimed) {
  JobContext context(store_, std::move(claimed), stopping_, options_.keep_ms);
  Log(LogLevel::kInfo, "attempt started", Fields(context));
  clockid_t clock{};
  pthread_getcpuclockid(pthread_self(), &clock);
  std::thread keeper([&] { KeepLease(context, clock); });
  auto result = RunHandler(handler_, context);
  absl::Status unusable;
  if (!result.ok() && options_.check_after_failure) unusable = options_.check_after_failure();
  // Not the job's doing, unless it ended because it was told to.
  if (!unusable.ok() && result.status().code() != context.Check().code()) {
    result = DeviceFailed(unusable, result.status());
  }
  EndAttempt(context, std::move(result));
  context.ended_ = true;
  keeper.join();
  return unusable;
}

void Worker::Abandon(JobContext& context, const Outcome* outcome, const std::string& why) {
  if (!options_.abandon) return;
  Log(LogLevel::kError, "the attempt does not return, this process is ended",
      {{"job", context.job().id}, {"why", why}});
  std::unique_lock<std::mutex> lock(context.lease_mutex_);
  if (context.ended_) return;
  // Without it the job is given back by whoever finds this process gone.
  if (outcome != nullptr) store_.Finish(context.lease(), *outcome).IgnoreError();
  options_.abandon(why);
}

void Worker::EnforceEnd(JobContext& context, Watch& watch) {
  const int64_t now_ms = SteadyMs();
  const bool over = context.cancelled_ || context.IsLate();
  if (!over || context.publishing_) {
    watch.over_since_ms = 0;
  } else if (watch.over_since_ms == 0) {
    watch.over_since_ms = now_ms;
  } else if (now_ms - watch.over_since_ms > options_.stop_ms) {
    Outcome outcome;
    outcome.kind = context.cancelled_ ? Outcome::Kind::kCancelled : Outcome::Kind::kFailed;
    if (!context.cancelled_) outcome.error = ToJobError(context.Late());
    Abandon(context, &outcome, context.cancelled_ ? "it is cancelled" : "its time is up");
  }
  timespec used{};
  clock_gettime(watch.clock, &used);
  const int64_t steps = context.steps_;
  const int64_t used_us = int64_t{used.tv_sec} * 1000000 + used.tv_nsec / 1000;
  if (steps != watch.steps || used_us != watch.used_us) {
    watch.steps = steps;
    watch.used_us = used_us;
    watch.moved_ms = now_ms;
  } else if (now_ms - watch.moved_ms > options_.stall_ms) {
    Abandon(context, nullptr,
            "its thread has neither computed nor got on for " +
                std::to_string(options_.stall_ms / 1000) + " s");
  }
}

void Worker::KeepLease(JobContext& context, clockid_t clock) {
  int64_t version = -1;
  int64_t renewed_ms = SteadyMs();
  int64_t tried_ms = renewed_ms;
  Watch watch{.clock = clock, .moved_ms = renewed_ms};
  const auto tick = std::chrono::milliseconds(std::min(options_.poll_ms, options_.lease_ms / 10));
  while (!context.ended_ && !context.lost_) {
    std::this_thread::sleep_for(tick);  // not Sleep: a stopping worker still holds its lease
    if (options_.beat) options_.beat();
    EnforceEnd(context, watch);
    const int64_t now_ms = SteadyMs();
    if (now_ms - tried_ms >= options_.lease_ms / 3) {
      tried_ms = now_ms;
      std::lock_guard<std::mutex> lock(context.lease_mutex_);
      if (context.ended_) break;
      const auto cancelling = store_.Renew(context.lease(), options_.lease_ms, context.RanMs());
      if (cancelling.ok()) {
        renewed_ms = now_ms;
        if (*cancelling) context.cancelled_ = true;
      } else {
        if (IsLeaseLost(cancelling.status())) context.lost_ = true;
        Log(LogLevel::kWarning, "the lease was not renewed", Fields(context, cancelling.status()));
      }
    }
    // Out of reach of the store for a whole lease: somebody else may hold the job by now.
    if (now_ms - renewed_ms > options_.lease_ms) context.lost_ = true;
    const auto now_version = store_.Version();
    if (!now_version.ok() || *now_version == version) continue;
    version = *now_version;
    const auto job = store_.Get(context.job().id);
    if (job.ok() && job->state == JobState::kCancelling) context.cancelled_ = true;
  }
}

void Worker::EndAttempt(JobContext& context, absl::StatusOr<HandlerResult> result) {
  const absl::Status status = result.ok() ? result->failure : result.status();
  const bool stopped = absl::IsUnavailable(status) && stopping_ && ErrorReason(status).empty();
  Outcome outcome;
  if (result.ok()) {
    if (!result->failure.ok()) {
      outcome.kind = Outcome::Kind::kFailed;
      outcome.error = ToJobError(result->failure);
    }
    outcome.result = std::move(result->result);
    outcome.events = std::move(result->events);
    outcome.counters = std::move(result->counters);
    outcome.timing = std::move(result->timing);
  } else if (absl::IsCancelled(status) && context.cancelled_) {
    outcome.kind = Outcome::Kind::kCancelled;
  } else {
    outcome.kind = Outcome::Kind::kFailed;
    outcome.error = ToJobError(status);
    outcome.retry = absl::IsUnavailable(status);
  }
  // A verdict is worth waiting for a store that is out of reach: the lease says how long.
  while (!context.lost_) {
    absl::Status stored;
    JobState state = JobState::kQueued;
    {
      std::lock_guard<std::mutex> lock(context.lease_mutex_);
      if (stopped) {
        stored = store_.Release(context.lease());
      } else if (auto finished = store_.Finish(context.lease(), outcome); finished.ok()) {
        state = *finished;
      } else {
        stored = finished.status();
      }
      if (stored.ok()) context.ended_ = true;
    }
    if (stored.ok()) {
      LogFields fields = status.ok() ? Fields(context) : Fields(context, status);
      fields.emplace_back("state", JobStateName(state));
      Log(LogLevel::kInfo, "attempt ended", fields);
      if (options_.ended && IsTerminal(state)) options_.ended(context.job().id);
      return;
    }
    if (IsLeaseLost(stored)) break;
    Log(LogLevel::kWarning, "the outcome could not be stored", Fields(context, stored));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  context.lost_ = true;
  Log(LogLevel::kWarning, "attempt abandoned: its lease has ended", Fields(context));
}

}  // namespace svdllm
