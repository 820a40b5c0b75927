#include "pipeline/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "linalg/backend.h"
#include "pipeline/block_statistics.h"
#include "pipeline/pipeline.h"

namespace svdllm {
namespace {

constexpr int64_t kDefaultSeqLen = 2048;
constexpr int64_t kBatchTokens = 4096;

absl::Status InvalidField(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, message);
}

int64_t NumbersOf(const Target& target, int64_t rank) {
  return rank == 0 ? target.rows * target.cols : FactorCost(target.rows, target.cols, rank);
}

// Windows of the evaluation; a guess where the text alone decides.
int64_t ExpectedWindows(const CompressSpec& spec) {
  if (spec.evaluation.limit < 0) return 0;
  if (spec.evaluation.text.path.empty()) return kHeldOutWindows;
  return spec.evaluation.limit > 0 ? spec.evaluation.limit : 100;
}

// Single-precision products on this machine, FLOP/s; measured once, in milliseconds.
double MeasuredRate() {
  static const double rate = [] {
    const std::unique_ptr<Backend> backend = NewCpuBackend();
    constexpr int64_t kOrder = 512;
    const absl::StatusOr<Matrix> a = backend->New(kOrder, kOrder, DType::kF32),
                                 c = backend->New(kOrder, kOrder, DType::kF32);
    if (!a.ok() || !c.ok()) return 1e11;
    double best = 1e9;
    for (int i = 0; i < 4; ++i) {
      const auto start = std::chrono::steady_clock::now();
      backend->Gemm(false, true, 1, *a, *a, 0, *c).IgnoreError();
      best = std::min(
          best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return 2.0 * kOrder * kOrder * kOrder / best;
  }();
  return rate;
}

double ExpectedFlops(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const auto length = static_cast<double>(spec.calibration.seq_len);
  const Workload calibration{static_cast<double>(spec.calibration.samples) * length, length / 2};
  return CompressFlops(spec, checkpoint, calibration,
                       {static_cast<double>(ExpectedWindows(spec) * spec.evaluation.seq_len),
                        static_cast<double>(spec.evaluation.seq_len) / 2});
}

int64_t PeakHostBytes(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  const MethodRow& method = RowOf(spec.method);
  const int64_t hidden = config.hidden_size, inter = config.intermediate_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  int64_t block = 0, decompositions = 0, statistics = 0, largest = 0;
  for (const LinearRow& row : checkpoint.arch().linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const int64_t size = shape.rows * shape.cols, order = std::min(shape.rows, shape.cols);
    block += 4 * size;
    // W, Q and C of a tall matrix, eigenvectors.
    decompositions +=
        8 * (size + (shape.rows > shape.cols ? size + order * order : 0) + 3 * order * order);
    largest = std::max(largest, size);
    LinearId reader;
    if (BlockStatistics::UsesOutputGram(config, checkpoint.arch(), row.input, &reader)) {
      statistics += 8 * shape.rows * shape.rows + 4 * 2048 * shape.cols;
    } else {
      statistics = std::max(statistics, 3 * 8 * std::max(hidden, q) * std::max(hidden, q));
    }
  }
  const int64_t streams =
      method.statistic == Statistic::kNone
          ? 0
          : 1 + (method.update ? static_cast<int64_t>(spec.keep_ratios.size()) : 0);
  const int64_t tokens = spec.calibration.samples * spec.calibration.seq_len;
  const int64_t batch = std::min(tokens, std::max(kBatchTokens, spec.calibration.seq_len));
  const int64_t activations = 4 * streams * tokens * hidden;
  const int64_t workspace = 4 * batch * (2 * hidden + 2 * q + 2 * kv + 2 * inter);
  const int64_t compress = activations + workspace +
                           (method.update ? 2 : 1) * (block + statistics) + decompositions +
                           8 * 4 * largest;
  int64_t evaluate = 0;
  if (spec.evaluation.limit >= 0) {
    const int64_t windows = std::max<int64_t>(spec.evaluation.limit, kHeldOutWindows);
    evaluate = 4 * windows * spec.evaluation.seq_len * hidden + workspace + block +
               4 * config.vocab_size * (hidden + 256);
  }
  // The mapped weights of a block and the libraries.
  return std::max(compress, evaluate) + checkpoint.weight_bytes() + (int64_t{100} << 20);
}

}  // namespace

double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    flops += 2 * static_cast<double>(shape.rows) * static_cast<double>(shape.cols) * tokens;
  }
  return flops + 4 * tokens * positions * static_cast<double>(config.num_heads * config.head_dim);
}

double StatisticsFlops(const ModelConfig& config, const Architecture& arch, Statistic statistic,
                       double tokens) {
  if (statistic != Statistic::kGram) return 0;
  std::set<Site> seen;
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    if (!seen.insert(row.input).second) continue;
    LinearId reader;
    const LinearShape shape = ShapeOf(config, row.id);
    const double order = static_cast<double>(
        BlockStatistics::UsesOutputGram(config, arch, row.input, &reader) ? shape.rows
                                                                          : shape.cols);
    flops += order * order * tokens;  // one triangle
  }
  return flops;
}

double DecomposeFlops(const ModelConfig& config, const Architecture& arch) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const double m = static_cast<double>(shape.rows), n = static_cast<double>(shape.cols);
    const double p = std::min(m, n);
    flops += 9 * p * p * p + 4 * p * p * n + (m > n ? 4 * m * n * n : 0) + 2 * m * n * n;
  }
  return 2 * flops;  // F64
}

double HeadFlops(const ModelConfig& config, double tokens) {
  return 2 * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size) *
         tokens;
}

double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  return static_cast<double>(config.num_layers) *
             BlockFlops(config, checkpoint.arch(), windows.tokens, windows.positions) +
         HeadFlops(config, windows.tokens);
}

double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  const MethodRow& method = RowOf(spec.method);
  const double layers = static_cast<double>(config.num_layers);
  const double ratios = static_cast<double>(spec.keep_ratios.size());
  const double forward = BlockFlops(config, arch, calibration.tokens, calibration.positions);
  const double pass =
      method.statistic == Statistic::kNone
          ? 0
          : forward + StatisticsFlops(config, arch, method.statistic, calibration.tokens);
  const double decompose = DecomposeFlops(config, arch);
  double work = layers * (pass + decompose * (1 + ratios * kFactorShare));
  if (method.update) work += ratios * 2 * (layers - 1) * forward;
  if (spec.allocation == Allocation::kV2) work += layers * (pass + decompose * kValuesShare);
  return work + (1 + ratios) * PerplexityFlops(checkpoint, windows);
}

std::vector<Target> Targets(const Checkpoint& checkpoint) {
  std::vector<Target> targets;
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    for (const LinearRow& row : checkpoint.arch().linears) {
      const LinearShape shape = ShapeOf(checkpoint.config(), row.id);
      const std::string module(row.module);
      targets.push_back({layer, row.id, ModulePath(checkpoint.arch(), layer, row.id),
                         module.substr(module.rfind('.') + 1), shape.rows, shape.cols});
    }
  }
  return targets;
}

absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what) {
  // Dynamic scaling is made for longer texts than the model was trained on.
  const int64_t most =
      config.rope.kind == RopeKind::kDynamic ? INT64_MAX : config.max_position_embeddings;
  if (seq_len == 0) return std::min(kDefaultSeqLen, most);
  if (seq_len < 2) return InvalidField(what + ": " + std::to_string(seq_len) + " is less than 2");
  if (seq_len > most) {
    return InvalidField(what + ": " + std::to_string(seq_len) +
                        " is more than the model's max_position_embeddings, " +
                        std::to_string(most));
  }
  return seq_len;
}

absl::StatusOr<CompressSpec> ResolveCompress(const CompressSpec& spec,
                                             const Checkpoint& checkpoint) {
  CompressSpec resolved = spec;
  const ModelConfig& config = checkpoint.config();
  if (config.is_low_rank()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kUnsupportedArchitecture,
                     "model: " + checkpoint.dir() + " is compressed already (" + config.model_type +
                         "); compress its dense original instead");
  }
  if (spec.keep_ratios.empty()) return InvalidField("keep_ratios: at least one is needed");
  for (const double ratio : spec.keep_ratios) {
    if (!(ratio > 0 && ratio <= 1)) {
      return InvalidField("keep_ratios: " + std::to_string(ratio) + " is not in (0, 1]");
    }
  }
  std::sort(resolved.keep_ratios.begin(), resolved.keep_ratios.end(), std::greater<>());
  if (std::adjacent_find(resolved.keep_ratios.begin(), resolved.keep_ratios.end()) !=
      resolved.keep_ratios.end()) {
    return InvalidField("keep_ratios: a ratio is given twice");
  }
  CalibrationSpec& calibration = resolved.calibration;
  if (calibration.samples < 1) return InvalidField("calibration.samples: must be at least 1");
  if (calibration.first_document < 0) {
    return InvalidField("calibration.first_document: must not be negative");
  }
  ASSIGN_OR_RETURN(calibration.seq_len,
                   ResolveSeqLen(calibration.seq_len, config, "calibration.seq_len"));
  PerplexitySpec& evaluation = resolved.evaluation;
  if (evaluation.name.empty()) evaluation.name = "perplexity";
  if (evaluation.text.path.empty()) {
    // Held-out windows are cut as the calibration's.
    evaluation.seq_len = calibration.seq_len;
  } else {
    ASSIGN_OR_RETURN(evaluation.seq_len,
                     ResolveSeqLen(evaluation.seq_len, config, "evaluation.seq_len"));
  }
  if (!(spec.asvd_alpha >= 0 && spec.asvd_alpha <= 1)) {
    return InvalidField("asvd_alpha: must be in [0, 1]");
  }
  return resolved;
}

CompressPlan MakePlan(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const std::vector<Target> targets = Targets(checkpoint);
  CompressPlan plan;
  plan.calibration_seq_len = spec.calibration.seq_len;
  plan.evaluation_seq_len = spec.evaluation.seq_len;
  plan.parameters = checkpoint.parameters();
  plan.weight_bytes = checkpoint.weight_bytes();
  plan.ranks_are_final = spec.allocation == Allocation::kUniform;
  for (const Target& target : targets) plan.target_parameters += target.rows * target.cols;
  for (const double keep_ratio : spec.keep_ratios) {
    ArtifactPlan artifact;
    artifact.keep_ratio = keep_ratio;
    artifact.parameters = plan.parameters;
    artifact.weight_bytes = plan.weight_bytes;
    for (const Target& target : targets) {
      const int64_t rank = RankFor(target.rows, target.cols, keep_ratio);
      artifact.matrices.push_back({target.name, target.rows, target.cols, rank});
      if (spec.output_format == OutputFormat::kDense) continue;
      const int64_t saved = target.rows * target.cols - NumbersOf(target, rank);
      const absl::StatusOr<TensorView> tensor = checkpoint.Tensor(target.name + ".weight");
      artifact.parameters -= saved;
      if (tensor.ok()) artifact.weight_bytes -= saved * static_cast<int64_t>(SizeOf(tensor->dtype));
    }
    plan.scratch_bytes += artifact.weight_bytes + (int64_t{64} << 20);
    plan.artifacts.push_back(std::move(artifact));
  }
  plan.peak_host_bytes = PeakHostBytes(spec, checkpoint);
  plan.expected_seconds = ExpectedFlops(spec, checkpoint) / MeasuredRate();
  return plan;
}

absl::StatusOr<CompressPlan> PlanCompress(const CompressSpec& spec) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const CompressSpec resolved, ResolveCompress(spec, checkpoint));
  return MakePlan(resolved, checkpoint);
}

std::vector<std::string> OutputUris(const CompressSpec& spec) {
  if (spec.keep_ratios.size() == 1) return {spec.output_uri};
  std::vector<std::string> uris;
  for (const double ratio : spec.keep_ratios) {
    // Two decimals where they say it all: keep-0.80, keep-0.125.
    const bool is_short = std::abs(ratio * 100 - std::round(ratio * 100)) < 1e-9;
    uris.push_back(spec.output_uri + "/keep-" +
                   (is_short ? fmt::format("{:.2f}", ratio) : fmt::format("{}", ratio)));
  }
  return uris;
}

std::vector<std::string> SupportedFamilies() { return KnownFamilies(); }

std::vector<std::string> SupportedMethods() {
  std::vector<std::string> names;
  for (const MethodRow& row : Methods()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> SupportedAllocations() {
  return {AllocationName(Allocation::kUniform), AllocationName(Allocation::kV2)};
}

std::vector<std::string> SupportedOutputFormats() {
  return {OutputFormatName(OutputFormat::kFactored), OutputFormatName(OutputFormat::kDense)};
}

std::vector<std::string> SupportedTasks() { return {"perplexity"}; }

}  // namespace svdllm
