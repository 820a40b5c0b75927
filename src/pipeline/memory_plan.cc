#include "pipeline/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/format.h"
#include "base/machine.h"
#include "compress/allocate.h"
#include "compress/layers.h"
#include "compress/rank_rules.h"
#include "corpus/model_samples.h"
#include "pipeline/count_measurements.h"
#include "pipeline/pipeline.h"
#include "text/text_file.h"

namespace svdllm {
namespace {

// Layers that are gone through: one in front, one in the middle, one at the end.
constexpr int64_t kLayers = 3;
// All that a job on the CPU takes for computing.
constexpr CountingOptions kHostWithScratch{.on_device = false, .host_scratch = true};

// Whether a compression reads what it has published.
bool Measures(const CompressSpec& spec) {
  const MeasureSpec& measure = spec.measure;
  return spec.evaluate_held_out || !measure.texts.empty() || !measure.tasks.empty() ||
         measure.throughput.any();
}

// What the residual streams of so many tokens take together.
int64_t StreamBytes(const CompressSpec& spec, const ModelConfig& config, int64_t tokens) {
  if (RowOf(spec.method).statistic == Statistic::kNone) return 0;
  const auto ratios = static_cast<int64_t>(spec.keep_ratios.size());
  const int64_t streams = 1 + WayOf(spec.method).streams_per_ratio * ratios;
  return 4 * config.hidden_size * tokens * streams;
}

absl::StatusOr<int64_t> CountResident(const CompressJob& job, const CountingOptions& options) {
  return CountResident(SamplingCacheBytes(job.spec, job.checkpoint.config()), job.spec.measure,
                       job.checkpoint, options);
}

// Everything that streams the model through, a layer at a time.
absl::StatusOr<int64_t> CountStreamed(const CompressJob& job, const Placement& placement,
                                      const CountingOptions& options) {
  const CompressSpec& spec = job.spec;
  // The list of linear layers stays whole: what all of them leave behind, such as the streams of KL
  // probes, is counted for all.
  const Checkpoint checkpoint = job.checkpoint.FirstLayers(kLayers);
  // Behind so many tokens more of them only make the residual streams longer.
  constexpr int64_t kManyTokens = int64_t{1} << 20;
  const int64_t length = spec.calibration.seq_len;
  const int64_t samples = std::min(spec.calibration.samples, (kManyTokens - 1) / length + 1);
  const int64_t left_out =
      placement.host_streams
          ? 0
          : StreamBytes(spec, checkpoint.config(), (spec.calibration.samples - samples) * length);
  const Sequences calibration = BlankSequences(samples, length);
  const std::unique_ptr<Backend> backend = NewCountingBackend(options);
  const RunHooks hooks;
  Progress progress(hooks, 1, checkpoint.config().num_layers);
  const CompressRun run{spec, checkpoint, job.linears, calibration, *backend, progress, placement};
  // Its ranks mean nothing: there are no spectra.
  RETURN_IF_ERROR(AllocateRanks(run).status());
  std::vector<FactorSink> sinks;
  for (std::vector<int64_t>& ranks : UniformRanks(spec, job.linears)) {
    sinks.push_back({std::move(ranks), {}});
  }
  RETURN_IF_ERROR(CompressLayers(run, sinks).status());
  const int64_t compression = backend->Memory().peak + left_out;
  backend->ResetPeak();
  if (spec.evaluate_held_out) {
    RETURN_IF_ERROR(CountWindows(kHeldOutWindows, length, checkpoint, *backend, progress));
  }
  RETURN_IF_ERROR(CountStreamedMeasures(spec.measure, checkpoint, *backend, progress));
  return std::max(compression, backend->Memory().peak);
}

CountingOptions OptionsOf(const DeviceBudget& budget) {
  return {.on_device = budget.on_device, .exact = budget.exact, .bf16 = budget.bf16};
}

// Who asks for too much, in the words of the message.
struct Asker {
  std::string dir;
  const char* job;
  const char* advice;
};
constexpr char kLessCompression[] =
    "fewer or shorter calibration samples, fewer keep ratios or another method";
constexpr char kLessEvaluation[] = "shorter windows and smaller batches";

absl::Status TooMuch(const Asker& asker, int64_t bytes, const DeviceBudget& budget) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      budget.on_device ? kDeviceOutOfMemory : kHostOutOfMemory,
      fmt::format("{}: this {} takes {} of {} memory, and {} may be used; {} take less", asker.dir,
                  asker.job, GiB(bytes), budget.on_device ? "device" : "host",
                  GiB(budget.memory_bytes), asker.advice));
}

// OK where what must fit into the host's memory does, beside the process that serves the API.
absl::Status CheckHost(const Asker& asker, const HostMemory& host) {
  constexpr int64_t kServerBytes = int64_t{48} << 20;
  if (host.total == 0 || host.anonymous + kServerBytes <= host.total) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kResourceExhausted, kHostOutOfMemory,
      fmt::format("{}: this {} takes {} of its own of the host's memory, beside the {} of the "
                  "server, and there are {}; {} take less",
                  asker.dir, asker.job, GiB(host.anonymous), GiB(kServerBytes), GiB(host.total),
                  asker.advice));
}

int64_t BytesOf(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

// A text's bytes; of a compressed one what a text usually becomes.
int64_t TextBytesOf(const std::string& path) {
  constexpr int64_t kUsualExpansion = 5;
  return BytesOf(path) * (TextNameOf(path).compression == Compression::kNone ? 1 : kUsualExpansion);
}

// A tokenizer as it is read in, and as it is held.
int64_t TokenizerBytes(const std::string& model_dir) {
  constexpr int64_t kOfTokenizer = 14;  // bytes per byte of its file, most while that is read
  int64_t bytes = 0;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"}) {
    bytes = std::max(bytes, BytesOf(model_dir + "/" + name));
  }
  return kOfTokenizer * bytes;
}

// Texts are held whole while they are cut into tokens.
int64_t TextBytes(const MeasureSpec& measure, const std::vector<CalibrationSource>& sources) {
  constexpr int64_t kOfText =
      4;  // the file, its documents, the text they are joined to, its tokens
  int64_t most = 0;
  for (const PerplexitySpec& text : measure.texts) {
    most = std::max(most, TextBytesOf(text.text.path));
  }
  for (const TaskSpec& task : measure.tasks) most = std::max(most, TextBytesOf(task.path));
  for (const CalibrationSource& source : sources) {
    if (!source.model_samples) most = std::max(most, TextBytesOf(source.text.path));
  }
  return kOfText * most;
}

// What a job's process takes beside what it computes with and reads in: itself, with what its
// libraries hold per thread, the more the larger the matrices are; of a device also the driver,
// pinned buffers and a matrix on its way. Measured: docs/performance.md.
int64_t ProcessBytes(int64_t of_job, bool on_device) {
  constexpr int64_t kProcess = int64_t{2} << 20, kMostOfThread = int64_t{16} << 20,
                    kDevice = int64_t{800} << 20;
  return kProcess + UsableCores() * std::min(kMostOfThread, of_job / 32) +
         (on_device ? kDevice : 0);
}

HostMemory HostOf(int64_t of_backend, int64_t mapped, const std::string& model_dir, int64_t texts,
                  const DeviceBudget& budget) {
  // The heap holds more than what is in use at a time.
  const int64_t of_heap = of_backend + of_backend / 10;
  const int64_t of_job = TokenizerBytes(model_dir) + texts + of_heap;
  return {ProcessBytes(of_job, budget.on_device) + of_job, mapped, budget.host_memory_bytes};
}

}  // namespace

absl::StatusOr<int64_t> CountPeak(const CompressJob& job, const Placement& placement,
                                  const CountingOptions& options) {
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(job, options));
  ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(job, placement, options));
  return std::max(resident, streamed);
}

absl::StatusOr<MemoryPlan> PlanMemory(const CompressJob& job, const DeviceBudget& budget) {
  // From the fastest to the least demanding.
  std::vector<Placement> placements;
  if (budget.on_device) {
    placements = {{.overlap = true},
                  {.host_streams = true, .overlap = true},
                  {.host_streams = true},
                  {.host_streams = true, .one_matrix = true}};
  } else {
    placements = {{}, {.one_matrix = true}};
  }
  const CountingOptions options = OptionsOf(budget);
  const CalibrationSpec& calibration = job.spec.calibration;
  const int64_t texts = TextBytes(job.spec.measure, calibration.sources);
  // What is published is measured, too.
  const int64_t mapped = job.checkpoint.weight_bytes() * (Measures(job.spec) ? 2 : 1);
  MemoryPlan plan;
  plan.stream_bytes =
      StreamBytes(job.spec, job.checkpoint.config(), calibration.samples * calibration.seq_len);
  const Asker asker{job.spec.model_dir, "compression, laid out to take little,", kLessCompression};
  absl::Status refused;
  for (const Placement& placement : placements) {
    plan.placement = placement;
    ASSIGN_OR_RETURN(plan.peak_bytes, CountPeak(job, placement, options));
    if (budget.memory_bytes > 0 && plan.peak_bytes > budget.memory_bytes) {
      refused = TooMuch(asker, plan.peak_bytes, budget);
      continue;
    }
    int64_t of_backend = placement.host_streams ? plan.stream_bytes : 0;
    if (!budget.on_device) {
      ASSIGN_OR_RETURN(of_backend, CountPeak(job, placement, kHostWithScratch));
    }
    plan.host = HostOf(of_backend, mapped, job.spec.model_dir, texts, budget);
    refused = CheckHost(asker, plan.host);
    if (refused.ok()) return plan;
  }
  return refused;
}

absl::StatusOr<MemoryPlan> PlanMemory(const EvaluateJob& job, const DeviceBudget& budget) {
  const CountingOptions options = OptionsOf(budget);
  MemoryPlan plan;
  int64_t mapped = 0;
  for (const Subject& subject : job.models) {
    const Asker asker{subject.checkpoint.dir(), "evaluation", kLessEvaluation};
    ASSIGN_OR_RETURN(int64_t peak, CountResident(0, subject.measure, subject.checkpoint, options));
    // The layers of an artifact differ in their ranks.
    const Checkpoint checkpoint = subject.checkpoint.config().is_low_rank()
                                      ? subject.checkpoint
                                      : subject.checkpoint.FirstLayers(kLayers);
    const std::unique_ptr<Backend> backend = NewCountingBackend(options);
    const RunHooks hooks;
    Progress progress(hooks, 1, checkpoint.config().num_layers);
    RETURN_IF_ERROR(CountStreamedMeasures(subject.measure, checkpoint, *backend, progress));
    peak = std::max(peak, backend->Memory().peak);
    if (budget.memory_bytes > 0 && peak > budget.memory_bytes) return TooMuch(asker, peak, budget);
    plan.peak_bytes = std::max(plan.peak_bytes, peak);
    mapped += subject.checkpoint.weight_bytes();
    plan.host = HostOf(budget.on_device ? 0 : plan.peak_bytes, mapped, subject.checkpoint.dir(),
                       TextBytes(subject.measure, {}), budget);
    RETURN_IF_ERROR(CheckHost(asker, plan.host));
  }
  return plan;
}

std::vector<std::string> MemoryWarnings(const HostMemory& host) {
  constexpr double kTight = 0.8;
  const int64_t all = host.anonymous + host.mapped;
  const bool tight = static_cast<double>(host.anonymous) > kTight * static_cast<double>(host.total);
  if (host.total == 0 || (all <= host.total && !tight)) return {};
  return {
      fmt::format("memory is tight: {} of {}, {} of the job's own and {} of the model's files, "
                  "which are read again, at the cost of time, where they do not fit",
                  Bytes(all), Bytes(host.total), Bytes(host.anonymous), Bytes(host.mapped))};
}

DeviceBudget BudgetOf(const Backend& backend) {
  return {.on_device = backend.OnDevice(),
          .memory_bytes = backend.Memory().limit,
          .exact = backend.WeightType(DType::kF16) == DType::kF32,
          .bf16 = backend.WeightType(DType::kBF16) == DType::kBF16,
          .host_memory_bytes = UsableMemoryBytes()};
}

}  // namespace svdllm
