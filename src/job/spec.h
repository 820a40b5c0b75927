// What a job is asked to do, as plain values. Together with result.h, plan.h and progress.h it is
// the pipeline's whole interface to the layers above it. It has no protobuf and no gRPC.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lowrank/method.h"
#include "lowrank/rank_plan.h"

namespace svdllm {

enum class OutputFormat { kFactored, kDense };
// How text becomes sequences. kConcatenated: documents are joined by a blank line, tokenised as one
// text (special tokens once, in front) and cut. kDocuments: each document is one sequence, with
// special tokens in front of it, cut at seq_len.
enum class Packing { kConcatenated, kDocuments };

struct PackingRow {
  Packing packing;
  // "documents"; in capitals, behind PACKING_, the API's value.
  std::string_view name;
};
std::span<const PackingRow> Packings();
// "concatenated", "documents"
std::string PackingName(Packing packing);

// Where the tokens stand that the tokenizer puts in front of a text (BOS, mostly) when its
// documents are joined. kText: once, in front of the whole text, as papers have it. kWindow: in
// front of every window, among its seq_len tokens.
enum class WindowStart { kText, kWindow };

struct WindowStartRow {
  WindowStart window_start;
  // "window"; in capitals, behind WINDOW_START_, the API's value.
  std::string_view name;
};
std::span<const WindowStartRow> WindowStarts();
// "text", "window"
std::string WindowStartName(WindowStart window_start);

struct OutputFormatRow {
  OutputFormat format;
  // "factored". In capitals and behind OUTPUT_FORMAT_ it is the API's value.
  std::string_view name;
};
std::span<const OutputFormatRow> OutputFormats();
// "factored", "dense"
std::string OutputFormatName(OutputFormat format);

// Which parts of a plain file are documents: all of it, or every line, as the benchmarks have it
// that papers report. kWikiTextRows keeps a line's break and makes a blank line empty.
// kStrippedRows takes off the white space around a line.
enum class TextRows { kWhole, kWikiTextRows, kStrippedRows };

// A text: a file of UTF-8 (one document), or JSON: .jsonl, .ndjson or .jsonlines (a document on
// every line: a string, or an object's text_field) or .json (an array of the same, or the same
// lines). Any of them compressed as .gz or .zst, and in either case of letters.
struct TextSource {
  std::string path;
  std::string text_field = "text";
  Packing packing = Packing::kConcatenated;
  TextRows rows = TextRows::kWhole;
  int64_t max_documents = 0;  // documents after these are left out; 0: none is
  std::string uri = {};       // as the caller named it, for records; empty: as path
};

// One of the texts to calibrate on. Its share of the sequences is weight / Σ weights.
struct CalibrationSource {
  TextSource text;
  // Set where it is no text but sequences that the model itself writes, sampled at temperature 1
  // from its beginning-of-text token. `text` is then empty.
  bool model_samples = false;
  double weight = 1;  // above 0 and at most kMaxSourceWeight
};

inline constexpr double kMaxSourceWeight = 1e6;

struct CalibrationSpec {
  std::vector<CalibrationSource> sources;  // may be empty where none is needed
  // As resolved. False: the method and the allocation read nothing of what goes into the layers, so
  // no sequence is drawn, and texts are there to be measured on.
  bool needed = true;
  int64_t samples = 256;  // sequences, of all sources together
  int64_t seq_len = 0;    // tokens; 0: 2048, or the model's positions where those are fewer
  uint64_t seed = 3;      // draws the sequences; documents are taken in order where packing says so
  // Documents of every source that are passed over (kDocuments only).
  int64_t first_document = 0;
  // Of kConcatenated, the held-out windows too. Absent: by the model's family; after resolution,
  // where no text is kConcatenated.
  std::optional<WindowStart> window_start = {};
};

// Perplexity: non-overlapping windows of seq_len tokens, each predicted from its own start.
struct PerplexitySpec {
  // What the figure is called in reports, for example "perplexity". Unique in a job. In a
  // compression it must not begin with kHeldOutName.
  std::string name;
  TextSource text;
  int64_t seq_len = 0;                           // tokens; 0: as for calibration
  int64_t limit = 0;                             // the most windows (or documents); 0: all
  std::optional<WindowStart> window_start = {};  // as for calibration
};

// Questions with known answers, asked and scored as lm-evaluation-harness does.
struct TaskSpec {
  std::string task;  // a row of tasks/task_table.h: "openbookqa", "gsm8k", …
  std::string name;  // what its figures are called in reports; unique in a job
  std::string path;  // the dataset's published file, or the generic JSONL of docs/tasks.md
  // The file of the answers, for datasets that publish them in a file of their own (PIQA,
  // WinoGrande); else empty.
  std::string labels_path;
  // Solved examples to put in front of every question: the first num_fewshot of this file, which is
  // like path.
  std::string fewshot_path;
  int64_t num_fewshot = 0;
  int64_t limit = 0;  // the most items; 0: all
};

// Speed: prompts of random tokens are computed (prefill), then continued greedily from a cache, one
// token of every sequence at a time (decode).
struct ThroughputSpec {
  std::vector<int64_t> batch_sizes;  // sequences at a time; empty: speed is not measured
  // Per sequence. 0: kDefaultPromptTokens, or what positions the model has beside new_tokens where
  // those are fewer.
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 32;  // of a sequence; prefill gives the first
  int64_t repetitions = 3;  // after one round that warms up

  bool any() const { return !batch_sizes.empty(); }
};
inline constexpr int64_t kDefaultPromptTokens = 512;
inline constexpr int64_t kMaxBatchSize = 256;
inline constexpr int64_t kMaxBatchSizes = 8;
inline constexpr int64_t kMaxDecodedTokens = 4096;
inline constexpr int64_t kMaxRepetitions = 100;

// What a model is measured by. Both kinds of job ask in this form, and Figures (result.h) answers
// in the same order: Figures::perplexities[1] is the perplexity of texts[1].
struct MeasureSpec {
  std::vector<PerplexitySpec> texts;
  std::vector<TaskSpec> tasks;
  ThroughputSpec throughput;
};

// What a model may lose against its baseline, or an artifact against the model before.
struct AcceptanceThreshold {
  // For each task's first metric, which is a share: 0.02 allows 0.40 to become 0.38.
  std::optional<double> max_accuracy_drop;
  // For each perplexity, relative: 0.1 allows 10 to become 11.
  std::optional<double> max_perplexity_increase;

  bool any() const { return max_accuracy_drop || max_perplexity_increase; }
};

struct CompressSpec {
  std::string job_id;     // names staging directories; recorded in the report
  int64_t attempt = 1;    // tells the staging directories of a job's attempts apart
  std::string model_dir;  // a Hugging Face directory, local
  std::string model_uri;  // as the caller named it; for reports
  Method method = kPaperMethod;
  std::vector<double> keep_ratios;  // each in (0, 1], strictly decreasing after resolution
  Encoding encoding = Encoding::kPlain;
  Allocation allocation = Allocation::kUniform;
  // Ranks are multiples of this, which devices' tiles like. Those below one multiple are as they
  // are.
  int64_t rank_multiple = 1;
  // For allocations with a floor (AllocationRow::has_floor): no rank is below the largest that fits
  // this share of the matrix's numbers. At most the smallest keep ratio.
  double min_keep_ratio = 0.1;
  CalibrationSpec calibration;
  OutputFormat output_format = OutputFormat::kFactored;
  double asvd_alpha = 0.5;
  // β of the target (1 − β) W X′ + β W X, for methods with Prefix::kTarget.
  double anchor_blend = 0.5;
  // The ridge μ, as a share of the mean diagonal of H = X′X′ᵀ, for methods with Prefix::kTarget.
  double anchor_ridge = 1e-6;
  // Where artifacts go: output_uri for one keep ratio, output_uri/keep-0.80 and so on for several.
  std::string output_uri;
  std::string work_dir;  // scratch of this attempt; emptied by the caller afterwards
  // Where what is finished is kept for the job's next attempt, should this one be lost. It is the
  // job's alone, and removed by the caller when the job has ended. Empty: nothing is kept.
  std::string journal_dir;
  // What is measured before and after, for the report and the model card.
  MeasureSpec measure;
  // Whether the perplexity is measured besides on windows of the calibration texts that calibration
  // does not use, where there are any (in domain).
  bool evaluate_held_out = true;
  // What an artifact may lose of what is measured. Where one loses more, none of the job's is
  // published, unless keep_rejected is set.
  AcceptanceThreshold threshold;
  bool keep_rejected = false;
};

// A setting that only some methods read (MethodRow::settings). It is a share in [0, 1].
struct MethodSetting {
  std::string_view name;  // as in the API: "asvd_alpha"
  double CompressSpec::*value;
};
std::span<const MethodSetting> MethodSettings();
// Returns nullptr where there is none of this name.
const MethodSetting* FindSetting(std::string_view name);

// Returns where the artifacts go, in the order of spec.keep_ratios: the output itself for one keep
// ratio; keep-0.80 and so on below it for several.
std::vector<std::string> OutputUris(const CompressSpec& spec);

// kHeldOutWindows is the number of windows of each text that calibration leaves out for
// evaluate_held_out. kHeldOutName is what their perplexity is called; with several texts, _ and a
// text's file name without its ending follow.
inline constexpr int64_t kHeldOutWindows = 8;
inline constexpr char kHeldOutName[] = "held_out_perplexity";

struct EvaluateSpec {
  std::string job_id;   // as in CompressSpec
  int64_t attempt = 1;  // as in CompressSpec
  std::string model_dir;
  std::string model_uri;
  std::string baseline_dir;  // a second model that is measured as well; empty: none
  std::string baseline_uri;
  MeasureSpec measure;
  AcceptanceThreshold threshold;  // needs a baseline
  // Where report.html, evaluation_report.json and predictions.jsonl are published; empty: nowhere.
  std::string output_uri;
  std::string work_dir;     // scratch of this attempt
  std::string journal_dir;  // as in CompressSpec
};

}  // namespace svdllm
