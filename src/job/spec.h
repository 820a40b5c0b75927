// What a job is asked to do and what it answers, as plain values: the pipeline's whole interface to
// the layers above it. No protobuf, no gRPC.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "lowrank/method.h"
#include "lowrank/rank_plan.h"

namespace svdllm {

enum class OutputFormat { kFactored, kDense };
// How text becomes sequences. kConcatenated: documents joined by a blank line, tokenised as one
// text (special tokens once, in front) and cut. kDocuments: each document is one sequence (special
// tokens in front of each), cut at seq_len.
enum class Packing { kConcatenated, kDocuments };

// "factored", "dense"
std::string OutputFormatName(OutputFormat format);

// What of a plain file is a document: all of it, or every line, as the benchmarks that the papers
// report have it. kWikiTextRows: with its line break, or empty where it is blank. kStrippedRows:
// without the white space around it.
enum class TextRows { kWhole, kWikiTextRows, kStrippedRows };

// A text: a file (one document), a .jsonl file (a document a line: a string, or an object's
// text_field) or a .json file (an array of the same).
struct TextSource {
  std::string path;
  std::string text_field = "text";
  Packing packing = Packing::kConcatenated;
  TextRows rows = TextRows::kWhole;
  int64_t max_documents = 0;  // what follows is left out; 0: nothing
};

// One of the texts that calibrate: its share of the sequences is weight / Σ weights.
struct CalibrationSource {
  TextSource text;
  // Not a text: sequences that the model itself writes, sampled at temperature 1 from its
  // beginning-of-text token. text is then empty.
  bool model_samples = false;
  double weight = 1;  // above 0, at most kMaxSourceWeight
};

inline constexpr double kMaxSourceWeight = 1e6;

struct CalibrationSpec {
  std::vector<CalibrationSource> sources;  // at least one
  int64_t samples = 256;                   // sequences, of all sources together
  int64_t seq_len = 0;  // tokens; 0: 2048, or as many as the model has positions where fewer
  uint64_t seed = 3;    // draws the sequences; documents are taken in order where packing says so
  int64_t first_document = 0;  // of every source, documents before this one are passed over
                               // (kDocuments)
};

// Perplexity: non-overlapping windows of seq_len tokens, each predicted from its own start.
struct PerplexitySpec {
  // What the figure is called in reports, e.g. "perplexity"; unique in a job. In a compression not
  // kHeldOutName, nor what begins with it.
  std::string name;
  TextSource text;
  int64_t seq_len = 0;  // tokens; 0: as for calibration
  int64_t limit = 0;    // windows (or documents) at most; 0: all
};

// Questions with known answers, asked and scored as lm-evaluation-harness does.
struct TaskSpec {
  std::string task;  // a row of tasks/task_table.h: "openbookqa", "gsm8k", …
  std::string name;  // what its figures are called in reports; unique in a job
  std::string path;  // the dataset's published file, or the generic JSONL of docs/tasks.md
  // Where the dataset publishes its answers in a file of their own (PIQA, WinoGrande); else empty.
  std::string labels_path;
  // Solved examples in front of every question: the first num_fewshot of a file like path.
  std::string fewshot_path;
  int64_t num_fewshot = 0;
  int64_t limit = 0;  // items at most; 0: all
};

// Speed: prompts of random tokens are computed (prefill), then continued greedily from a cache, a
// token of every sequence at a time (decode).
struct ThroughputSpec {
  std::vector<int64_t> batch_sizes;  // sequences at a time; empty: speed is not measured
  int64_t prompt_tokens = 0;         // of a sequence; 0: kDefaultPromptTokens, or what positions
                                     // the model has beside new_tokens where those are fewer
  int64_t new_tokens = 32;           // of a sequence; prefill gives the first
  int64_t repetitions = 3;           // behind one round that warms up

  bool any() const { return !batch_sizes.empty(); }
};
inline constexpr int64_t kDefaultPromptTokens = 512;
inline constexpr int64_t kMaxBatchSize = 256;
inline constexpr int64_t kMaxBatchSizes = 8;
inline constexpr int64_t kMaxDecodedTokens = 4096;
inline constexpr int64_t kMaxRepetitions = 100;

struct CompressSpec {
  std::string job_id;     // names staging directories; recorded in the report
  int64_t attempt = 1;    // tells the staging directories of a job's attempts apart
  std::string model_dir;  // a Hugging Face directory, local
  std::string model_uri;  // as the caller named it; for reports
  Method method = Method::kSvdLlm;
  std::vector<double> keep_ratios;  // each in (0, 1], strictly decreasing after resolution
  Encoding encoding = Encoding::kPlain;
  Allocation allocation = Allocation::kUniform;
  // Ranks are multiples of this (but for those below one multiple): what a device's tiles like.
  int64_t rank_multiple = 1;
  // kDRank, kRelativeTails, kKlProbe: no rank is below the largest that fits this share of the
  // matrix's numbers. At most the least keep ratio.
  double min_keep_ratio = 0.1;
  CalibrationSpec calibration;
  OutputFormat output_format = OutputFormat::kFactored;
  double asvd_alpha = 0.5;
  // kAnchored: β of the target (1 − β) W X′ + β W X.
  double anchor_blend = 0.5;
  // kAnchored: the ridge μ, as a share of the mean diagonal of H = X′X′ᵀ.
  double anchor_ridge = 1e-6;
  // Where artifacts go: output_uri for one keep ratio, output_uri/keep-0.80 and so on for several.
  std::string output_uri;
  std::string work_dir;  // scratch of this attempt; emptied by the caller afterwards
  // Perplexity before and after, for the report and the model card: on windows of the calibration
  // text that calibration does not use, where there are any (in domain), and on these texts.
  bool evaluate_held_out = true;
  std::vector<PerplexitySpec> evaluations;
  std::vector<TaskSpec> tasks;  // before and after, likewise
  ThroughputSpec throughput;    // before and after, likewise
};

// The windows of each text that calibration leaves out for evaluate_held_out, and what their
// perplexity is called; with several texts followed by _ and a text's file name without its ending.
inline constexpr int64_t kHeldOutWindows = 8;
inline constexpr char kHeldOutName[] = "held_out_perplexity";

// What a model may lose against its baseline.
struct AcceptanceThreshold {
  // Of each task's first metric, which is a share: 0.02 allows 0.40 to become 0.38.
  std::optional<double> max_accuracy_drop;
  // Of each perplexity, relative: 0.1 allows 10 to become 11.
  std::optional<double> max_perplexity_increase;

  bool any() const { return max_accuracy_drop || max_perplexity_increase; }
};

struct EvaluateSpec {
  std::string job_id;   // as in CompressSpec
  int64_t attempt = 1;  // as in CompressSpec
  std::string model_dir;
  std::string model_uri;
  std::string baseline_dir;  // a second model, measured beside; empty: none
  std::string baseline_uri;
  std::vector<PerplexitySpec> perplexities;
  std::vector<TaskSpec> tasks;
  ThroughputSpec throughput;
  AcceptanceThreshold threshold;  // needs a baseline
  // Where report.html, evaluation_report.json and predictions.jsonl are published; empty: nowhere.
  std::string output_uri;
  std::string work_dir;  // scratch of this attempt
};

// One line of progress. percent never falls within an attempt.
struct Progress {
  std::string stage;   // load, calibrate, allocate, factorise, write, evaluate, publish
  std::string module;  // e.g. "model.layers.3.mlp.down_proj"; empty where none applies
  int64_t layers_done = 0;
  int64_t layers_total = 0;
  double percent = 0;           // of the whole job, 0..100
  double eta_seconds = -1;      // negative: not known yet
  int64_t peak_host_bytes = 0;  // of this process
  int64_t peak_device_bytes = 0;
  std::string message;  // for people: "layer 3/30: loss 0.021"
};

struct StageTime {
  std::string stage;
  double seconds = 0;
};

struct MatrixReport {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t rows = 0, cols = 0;
  int64_t rank = 0;  // 0: stays dense
  // ‖(W−W′)X‖ / ‖W X‖ from the eigenvalue tail; kAnchored: of the target W* on X′.
  double relative_loss = 0;
  double optimum_loss = 0;  // (Σ_{j>k} λ_j)^{1/2}, absolute; whitened methods only
  double rounding_excess = 0;  // ‖(W−W″)X‖²/‖(W−W′)X‖² − 1, W″ being what is stored
  // ‖tail‖ / ‖all‖ of the spectrum that the ranks are cut from, at kSpectrumPoints ranks spread
  // evenly from 0 to min(rows, cols); empty where nothing was decomposed.
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
  // In domain: of windows of a calibration text that calibration did not use. Otherwise of a text
  // that the caller chose.
  bool held_out = false;
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
};

// Of several rounds.
struct RateSummary {
  double median = 0, least = 0, largest = 0;
};

struct ThroughputResult {
  int64_t batch_size = 0;
  int64_t prompt_tokens = 0, new_tokens = 0;  // of each sequence
  int64_t repetitions = 0;
  RateSummary prefill;  // prompt tokens a second, of all sequences, up to their first new token
  RateSummary decode;   // new tokens a second, of all sequences, from the second on
  int64_t peak_memory_bytes = 0;  // of the backend, weights included, once warm
  double seconds = 0;             // of all rounds, warm-up included
};

struct ArtifactResult {
  double keep_ratio = 0;
  std::string uri;  // where it was published
  std::string manifest_sha256;
  int64_t parameters = 0;             // of the whole model
  int64_t compressed_parameters = 0;  // stored numbers of the linears in scope
  int64_t weight_bytes = 0;
  std::vector<MatrixReport> matrices;
  std::vector<PerplexityResult> perplexities;
  std::vector<TaskResult> tasks;
  std::vector<ThroughputResult> throughputs = {};  // one a batch size
};

struct CompressResult {
  int64_t parameters = 0;                          // before
  int64_t target_parameters = 0;                   // of the linears in scope, before
  int64_t weight_bytes = 0;                        // before
  std::vector<PerplexityResult> perplexities;      // before
  std::vector<TaskResult> tasks;                   // before
  std::vector<ThroughputResult> throughputs = {};  // before
  std::vector<ArtifactResult> artifacts;
  std::vector<StageTime> stages;
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  std::string device;
};

struct ModelFigures {
  std::string uri;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<PerplexityResult> perplexities;
  std::vector<TaskResult> tasks;
  std::vector<ThroughputResult> throughputs = {};  // one a batch size
};

struct Verdict {
  bool accepted = true;
  std::vector<std::string> regressions;  // "openbookqa: acc 0.190 → 0.150, more than 0.020 lower"
};

struct EvaluateResult {
  ModelFigures model;
  std::optional<ModelFigures> baseline;
  std::optional<Verdict> verdict;  // where the request has a threshold
  std::string report_uri;          // where the report was published
  std::string manifest_sha256;
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  std::string device;
};

// What a worker computes on.
struct DeviceBudget {
  bool on_device = false;    // its memory is another than the host's
  int64_t memory_bytes = 0;  // that a job may take of it; 0: as much as it likes
  bool exact = false;        // weights are held and multiplied as F32, whatever they are stored as
  bool bf16 = true;          // otherwise BF16 ones are, for want of such products
};

// What a compression would do, without doing it.
struct MatrixPlan {
  std::string name;
  int64_t rows = 0, cols = 0;
  int64_t rank = 0;  // 0: stays dense
};
struct ArtifactPlan {
  double keep_ratio = 0;
  std::vector<MatrixPlan> matrices;  // ranks of a non-uniform allocation are the uniform ones
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
};
struct CompressPlan {
  int64_t calibration_seq_len = 0;           // what a seq_len of 0 means for this model
  std::vector<int64_t> evaluation_seq_lens;  // likewise, one an evaluation of the spec
  int64_t prompt_tokens = 0;                 // likewise, of the throughput
  int64_t parameters = 0;
  int64_t target_parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<ArtifactPlan> artifacts;
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  int64_t scratch_bytes = 0;
  double expected_seconds = 0;  // 0: not known
  bool ranks_are_final = true;  // false: the allocation decides them from the spectra
};

// What an evaluation would take.
struct EvaluatePlan {
  int64_t parameters = 0, weight_bytes = 0;                    // of the model
  int64_t baseline_parameters = 0, baseline_weight_bytes = 0;  // where there is one
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
};

// How a running job talks to what runs it. All are called from the thread that runs the job.
struct RunHooks {
  std::function<void(const Progress&)> on_progress;
  // Called at least once a matrix step; a non-OK status (CANCELLED, ABORTED for a lost lease,
  // DEADLINE_EXCEEDED) ends the job with that status, nothing published.
  std::function<absl::Status()> check;
  // Called once, before the first artifact becomes visible: OK means that this attempt still holds
  // its lease and that no cancellation can come in between any more.
  std::function<absl::Status()> begin_publish;
};

}  // namespace svdllm
