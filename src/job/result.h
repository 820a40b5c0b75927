// What a job answers, as plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "job/data_file.h"
#include "job/spec.h"

namespace svdllm {

struct StageTime {
  std::string stage;
  double seconds = 0;
};

// What became of one weight matrix.
struct MatrixReport {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t rows = 0, cols = 0;
  int64_t rank = 0;  // 0: stays dense
  // ‖(W−W′)X‖ / ‖W X‖, from the tail of the eigenvalues. For methods whose prefix is
  // Prefix::kTarget, it is that of the target W* on X′.
  double relative_loss = 0;
  double optimum_loss = 0;  // (Σ_{j>k} λ_j)^{1/2}, absolute; whitened methods only
  double rounding_excess = 0;  // ‖(W−W″)X‖²/‖(W−W′)X‖² − 1, W″ being what is stored
  // ‖tail‖ / ‖all‖ of the spectrum that the ranks are cut from, at kSpectrumPoints ranks that are
  // spread evenly from 0 to min(rows, cols): spectrum[0] is 1, and spectrum[16] is what half of the
  // ranks leave. Empty where nothing was decomposed.
  std::vector<float> spectrum = {};
};
inline constexpr int kSpectrumPoints = 33;

struct PerplexityResult {
  std::string name;
  double perplexity = 0;
  int64_t predicted_tokens = 0;
  int64_t windows = 0;
  int64_t leftover_tokens = 0;  // behind the last whole window, not scored
  double seconds = 0;
  double tokens_per_second = 0;  // prefill: tokens of the windows / seconds
  // Whether it is in domain: measured on windows of a calibration text that calibration did not
  // use. Otherwise it is of a text that the caller chose.
  bool held_out = false;
  int64_t seq_len = 0;                           // tokens per window, at most
  std::optional<WindowStart> window_start = {};  // as it was measured; absent: of documents
  DataFile data = {};                            // the text that was read
  // Of ln(perplexity), over the windows; negative: fewer than two windows.
  double log_std_error = -1;
};

struct TaskMetric {
  std::string name;  // "acc", "acc_norm", "bleu_acc", "bleu_max", "bleu_diff", "exact_match", …
  double value = 0;  // a share in [0, 1]; bleu_max and bleu_diff: points of 100
  double std_error = -1;  // of the mean over the items; negative: fewer than two items
};

struct TaskResult {
  std::string task;
  std::string name;
  std::vector<TaskMetric> metrics;  // the first is the one that thresholds look at
  int64_t items = 0;
  int64_t tokens = 0;  // computed: a prompt that several choices share counts once
  double seconds = 0;
  std::vector<DataFile> data = {};  // the dataset's file, then those of labels and of examples
  int64_t num_fewshot = 0;
};

// The rates of several rounds.
struct RateSummary {
  double median = 0, least = 0, largest = 0;
};

struct ThroughputResult {
  int64_t batch_size = 0;
  int64_t prompt_tokens = 0, new_tokens = 0;  // of each sequence
  int64_t repetitions = 0;
  RateSummary prefill;  // prompt tokens per second, of all sequences, up to their first new token
  RateSummary decode;   // new tokens per second, of all sequences, from the second on
  int64_t peak_memory_bytes = 0;  // of the backend, weights included, once warm
  double seconds = 0;             // of all rounds, warm-up included
};

// What was measured of one model, in the order of the MeasureSpec that asked for it. Held-out
// perplexities come first.
struct Figures {
  std::vector<PerplexityResult> perplexities;
  std::vector<TaskResult> tasks;
  std::vector<ThroughputResult> throughputs;  // one per batch size
};

// One figure of two models that were measured on the same windows or items.
struct Comparison {
  std::string name;    // of the task or of the perplexity
  std::string metric;  // kPerplexityMetric, or as in TaskMetric
  double baseline = 0, value = 0;
  // Of a perplexity relative, 0.1 where 10 became 11; of a metric the difference.
  double change = 0;
  // Of change, from the paired differences per window or item; negative: fewer than two of them, or
  // not the same ones.
  double std_error = -1;
  // What change may be: a perplexity's at most this, a metric's at least minus this. Empty: no
  // threshold looks at it.
  std::optional<double> limit = {};
  bool accepted = true;  // false: worse than limit

  bool is_perplexity() const { return metric == kPerplexityMetric; }

  static constexpr char kPerplexityMetric[] = "perplexity";
};

// A perplexity more than so many times that of the model before: what is left is no model.
inline constexpr double kDestroyedRatio = 10;

struct Verdict {
  bool accepted = true;
  // "openbookqa: acc 0.190 → 0.150, more than 0.020 lower"
  std::vector<std::string> regressions = {};
  std::vector<std::string> warnings = {};  // limits that chance alone can pass or break, for people
};

// One artifact of a compression: what one keep ratio made of the model.
struct ArtifactResult {
  double keep_ratio = 0;
  std::string uri;  // where it was published; empty: a threshold refused it, or another of its job
  std::string manifest_sha256;
  int64_t parameters = 0;             // of the whole model
  int64_t compressed_parameters = 0;  // stored numbers of the linears in scope
  int64_t weight_bytes = 0;
  std::vector<MatrixReport> matrices;
  Figures figures;                      // after
  std::vector<Comparison> comparisons;  // with the model before: all figures but speed
  std::optional<Verdict> verdict;       // where the request has a threshold
  std::vector<std::string> warnings;    // for people: that the model is destroyed, say

  bool rejected() const { return verdict.has_value() && !verdict->accepted; }
};

// What a compression calibrated on, which may be less than was asked for.
struct CalibrationUse {
  int64_t sequences = 0;  // of all texts; 0: none was drawn
  int64_t tokens = 0;
  std::vector<std::string> warnings;  // for people: "few.jsonl: 3 documents are fewer than …"
  std::vector<DataFile> data = {};    // one per text, in order; none for the model's own samples
  // As it was drawn; absent: no text was Packing::kConcatenated.
  std::optional<WindowStart> window_start = {};
};

struct CompressResult {
  int64_t parameters = 0;         // before
  int64_t target_parameters = 0;  // of the linear layers in scope, before
  int64_t weight_bytes = 0;       // before
  Figures before;
  CalibrationUse calibration;
  std::vector<ArtifactResult> artifacts;
  std::vector<StageTime> stages;
  double planned_work = 0;     // CompressPlan::work; 0 where a part of it had been done before
  int64_t resumed_layers = 0;  // that earlier attempts had finished; the stages are this one's
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  std::string device;
  std::string started;  // when the attempt began, UTC: "2026-01-31T12:00:00Z"
};

// One model of an evaluation.
struct ModelResult {
  std::string uri;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  Figures figures;
};

struct EvaluateResult {
  ModelResult model;
  std::optional<ModelResult> baseline;
  std::vector<Comparison> comparisons;  // with a baseline: all figures but speed
  std::optional<Verdict> verdict;       // where the request has a threshold
  std::vector<std::string> warnings;    // as in ArtifactResult
  std::string report_uri;               // where the report was published
  std::string manifest_sha256;
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  std::string device;
  std::string started;  // when the attempt began, UTC: "2026-01-31T12:00:00Z"
};

// Returns the result of this name. nullptr where there is none.
template <typename Result>
const Result* FindNamed(const std::vector<Result>& results, const std::string& name) {
  for (const Result& result : results) {
    if (result.name == name) return &result;
  }
  return nullptr;
}

}  // namespace svdllm
