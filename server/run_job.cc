#include "server/run_job.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/files.h"
#include "base/format.h"
#include "base/logging.h"
#include "base/machine.h"
#include "base/map_guard.h"
#include "metrics/metrics.h"
#include "pipeline/pipeline.h"
#include "server/job_proto.h"
#include "server/spec_proto.h"
#include "server/tidy_texts.h"
#include "server/understood.h"

namespace svdllm {
namespace {

constexpr std::chrono::milliseconds kProgressInterval(100);

// An attempt's scratch space; freed before the outcome is stored, which may need the room.
class WorkDir {
 public:
  static absl::StatusOr<WorkDir> Create(const std::string& path) {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    std::filesystem::create_directories(path, error);
    if (error) return ErrnoToStatus(error.value(), "create", path);
    return WorkDir(path);
  }
  WorkDir(WorkDir&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ~WorkDir() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
    if (error) Log(LogLevel::kWarning, "work directory not removed", {{"path", path_}});
  }
  const std::string& path() const { return path_; }

 private:
  explicit WorkDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

template <typename Message>
std::string Recorded(Message message) {
  TidyTexts(message);
  return message.SerializeAsString();
}

// Stores progress, but not more often than anybody can look: every change of stage or layer, and in
// between ten a second. The last one is never lost.
class ProgressSink {
 public:
  explicit ProgressSink(JobContext& context) : context_(context) {}

  void Add(const ProgressEvent& progress) {
    const auto now = std::chrono::steady_clock::now();
    const bool step = progress.stage != stage_ || progress.layers_done != layers_done_;
    pending_ = Recorded(ToProto(progress));
    if (!step && now - stored_at_ < kProgressInterval) return;
    if (progress.stage != stage_) {
      Log(LogLevel::kDebug, "stage",
          {{"job", context_.job().id},
           {"attempt", context_.job().attempt},
           {"stage", progress.stage}});
    }
    stage_ = progress.stage;
    layers_done_ = progress.layers_done;
    stored_at_ = now;
    Flush();
  }
  void Flush() {
    if (pending_.has_value()) context_.Report({EventKind::kProgress, std::move(*pending_)});
    pending_.reset();
  }

 private:
  JobContext& context_;
  std::string stage_;
  int64_t layers_done_ = -1;
  std::chrono::steady_clock::time_point stored_at_;
  std::optional<std::string> pending_;
};

NewEvent Warning(const std::string& text) {
  v1::LogMessage message;
  message.set_level("warning");
  message.set_text(text);
  return {EventKind::kLog, Recorded(message)};
}

// Of this process, all threads together.
double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// As main.cc sets them.
int Threads() {
  const char* const threads = std::getenv("OMP_NUM_THREADS");
  return std::max(threads != nullptr ? std::atoi(threads) : UsableCores(), 1);
}

// What the job took of the time and of the processor, for the plans of jobs like it.
Timing TimingOf(const CompressSpec& spec, const DeviceInfo& device, const CompressResult& result,
                double processor_seconds) {
  double seconds = 0;
  for (const StageTime& stage : result.stages) seconds += stage.seconds;
  if (device.name == "cpu") seconds = SecondsAlone(seconds, processor_seconds, Threads());
  return {JobsLike(spec, device), result.planned_work, seconds};
}

HandlerResult ToHandlerResult(const CompressResult& result) {
  HandlerResult handled;
  handled.result = Recorded(ToProto(result));
  handled.failure = CheckVerdicts(result);
  for (const ArtifactResult& artifact : result.artifacts) {
    for (const std::string& warning : artifact.warnings) {
      handled.events.push_back(
          Warning("keep ratio " + Number(artifact.keep_ratio) + ": " + warning));
    }
    if (artifact.uri.empty()) continue;
    v1::ArtifactPublished event;
    event.set_keep_ratio(artifact.keep_ratio);
    event.set_uri(artifact.uri);
    event.set_manifest_sha256(artifact.manifest_sha256);
    event.set_weight_bytes(artifact.weight_bytes);
    handled.events.push_back({EventKind::kArtifact, Recorded(event)});
    handled.counters[kArtifactBytes] += static_cast<double>(artifact.weight_bytes);
  }
  for (const std::string& warning : result.calibration.warnings) {
    handled.events.push_back(Warning(warning));
  }
  for (const StageTime& stage : result.stages) {
    CountSeconds(kStageDuration, {JobKindName(JobKind::kCompressModel), stage.stage}, stage.seconds,
                 handled.counters);
  }
  return handled;
}

HandlerResult ToHandlerResult(const EvaluateResult& result) {
  HandlerResult handled;
  handled.result = Recorded(ToProto(result));
  for (const std::string& warning : result.warnings) handled.events.push_back(Warning(warning));
  if (!result.report_uri.empty()) {
    v1::ArtifactPublished event;
    event.set_uri(result.report_uri);
    event.set_manifest_sha256(result.manifest_sha256);
    handled.events.push_back({EventKind::kArtifact, Recorded(event)});
  }
  double seconds = 0;
  const auto add = [&seconds](const Figures& figures) {
    for (const PerplexityResult& perplexity : figures.perplexities) seconds += perplexity.seconds;
    for (const TaskResult& task : figures.tasks) seconds += task.seconds;
    for (const ThroughputResult& speed : figures.throughputs) seconds += speed.seconds;
  };
  add(result.model.figures);
  if (result.baseline.has_value()) add(result.baseline->figures);
  CountSeconds(kStageDuration, {JobKindName(JobKind::kEvaluate), "evaluate"}, seconds,
               handled.counters);
  return handled;
}

// One attempt, from the request's bytes to the result's.
absl::StatusOr<HandlerResult> RunAttempt(const Engine& engine, ArtifactStore& artifacts,
                                         const JobVolumes& volumes, JobContext& context) {
  const Job& job = context.job();
  const std::string attempt = job.id + "." + std::to_string(context.lease().token);
  ASSIGN_OR_RETURN(const WorkDir work_dir, WorkDir::Create(volumes.work_root + "/" + attempt));
  ProgressSink sink(context);
  RunHooks hooks;
  hooks.on_progress = [&](const ProgressEvent& progress) { sink.Add(progress); };
  hooks.check = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckMaps());
    return context.Check();
  };
  hooks.kept = [&] { return context.CheckKept(); };
  hooks.note = [&](const std::string& text) { context.Report(Warning(text)); };
  hooks.begin_publish = [&]() -> absl::Status {
    RETURN_IF_ERROR(CheckMaps());
    return context.BeginPublish();
  };
  const auto set_attempt = [&](auto& spec) {
    spec.job_id = job.id;
    spec.attempt = context.lease().token;  // unlike the attempt's number, never used twice
    spec.journal_dir = JournalDir(volumes.work_root, job.id);
  };
  if (job.kind == JobKind::kEvaluate) {
    v1::EvaluateRequest request;
    request.ParseFromString(job.request);
    ASSIGN_OR_RETURN(EvaluateSpec spec, ToSpec(request, artifacts, work_dir.path()));
    set_attempt(spec);
    ASSIGN_OR_RETURN(const EvaluateResult result, engine.run_evaluate(spec, artifacts, hooks));
    sink.Flush();
    return ToHandlerResult(result);
  }
  v1::CompressModelRequest request;
  request.ParseFromString(job.request);
  ASSIGN_OR_RETURN(CompressSpec spec, ToSpec(request, artifacts, work_dir.path()));
  set_attempt(spec);
  // A later attempt goes on with what is on the disk already, and is not counted out for it.
  if (job.attempt == 1 && job.used_ms == 0) {
    const auto plan = engine.plan_compress(spec);  // where it fails, the run says why
    if (plan.ok()) RETURN_IF_ERROR(ReserveRoom(NeedsOf(*plan), volumes, attempt));
  }
  const double before = ProcessorSeconds();
  ASSIGN_OR_RETURN(const CompressResult result, engine.run_compress(spec, artifacts, hooks));
  sink.Flush();
  HandlerResult handled = ToHandlerResult(result);
  if (result.planned_work > 0) {
    handled.timing = TimingOf(spec, engine.devices.front(), result, ProcessorSeconds() - before);
  }
  return handled;
}

}  // namespace

std::string JobsLike(const CompressSpec& spec, const DeviceInfo& device) {
  return MethodName(spec.method) + " on " + device.description;
}

double SecondsAlone(double seconds, double processor_seconds, int threads) {
  constexpr double kShort = 5, kWaiting = 1.25;
  return seconds < kShort ? seconds : std::min(seconds, kWaiting * processor_seconds / threads);
}

std::string JournalDir(const std::string& work_root, const std::string& job_id) {
  return work_root + "/" + job_id + std::string(kJournalEnding);
}

void RemoveJournal(const std::string& work_root, const std::string& job_id) {
  std::error_code error;
  std::filesystem::remove_all(JournalDir(work_root, job_id), error);
  if (error) Log(LogLevel::kWarning, "journal not removed", {{"job", job_id}});
}

JobHandler MakeJobHandler(const Engine& engine, ArtifactStore& artifacts,
                          const JobVolumes& volumes) {
  return [&engine, &artifacts, volumes](JobContext& context) -> absl::StatusOr<HandlerResult> {
    RETURN_IF_ERROR(CheckUnderstood(context.job()));
    RETURN_IF_ERROR(context.Check());  // e.g. a job whose time ran out while it waited again
    ResetMapGuard();
    absl::StatusOr<HandlerResult> handled = RunAttempt(engine, artifacts, volumes, context);
    // Whatever came of zeros in place of weights: that is why.
    if (!handled.ok() && !CheckMaps().ok()) handled = CheckMaps();
    if (handled.ok() || ErrorReason(handled.status()) == kScratchFull) {
      RemoveJournal(volumes.work_root, context.job().id);
    }
    return handled;
  };
}

}  // namespace svdllm
