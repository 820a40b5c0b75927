#include "pipeline/count_measurements.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "evaluate/choices.h"
#include "evaluate/generation.h"
#include "evaluate/perplexity.h"
#include "evaluate/throughput.h"
#include "model/decoder.h"
#include "tasks/task_table.h"
#include "text/text_file.h"

namespace svdllm {
namespace {

// The most tokens that a file may have: hardly a tokenizer makes more of them than there are bytes,
// and of compressed bytes a text has no more than this many times as many.
int64_t TokensIn(const std::string& path) {
  constexpr int64_t kMany = int64_t{1} << 40;
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) return kMany;
  const bool compressed = TextNameOf(path).compression != Compression::kNone;
  return std::min(static_cast<int64_t>(bytes), kMany) * (compressed ? kMaxExpansion : 1);
}

// As many questions as are answered together: their choices share a beginning, which each of them
// sees.
absl::Status CountQuestions(const TaskSpec& task, const Checkpoint& checkpoint, Backend& backend,
                            Progress& progress) {
  constexpr int64_t kChoices = 4, kExampleTokens = 128, kChoiceTokens = 32;
  const ModelConfig& config = checkpoint.config();
  const int64_t length = std::min((1 + task.num_fewshot) * kExampleTokens + kChoiceTokens,
                                  config.max_position_embeddings);
  const int64_t own = std::min(kChoiceTokens, length - 1);
  const int64_t group = kGroupBytes / (4 * config.hidden_size) / length + 1;
  const int64_t all = TokensIn(task.path) / kExampleTokens + 1;
  const int64_t asked = task.limit > 0 ? std::min(task.limit, all) : all;
  TaskData data;
  data.spec = task;
  for (int64_t i = 0; i < std::min(group, asked); ++i) {
    std::vector<EncodedChoice>& choices = data.choices.emplace_back();
    for (int64_t c = 0; c < std::min(kChoices, config.vocab_size); ++c) {
      std::vector<int32_t> ids(static_cast<size_t>(length), 0);
      std::fill(ids.end() - own, ids.end(), static_cast<int32_t>(c));
      choices.push_back({std::move(ids), {0}});
    }
  }
  int64_t tokens = 0;
  return LogLikelihoods(checkpoint, data, backend, progress, &tokens).status();
}

}  // namespace

Sequences BlankSequences(int64_t count, int64_t length) {
  Sequences sequences;
  const std::vector<int32_t> one(static_cast<size_t>(length), 0);
  for (int64_t s = 0; s < count; ++s) sequences.Append(one);
  return sequences;
}

absl::Status CountWindows(int64_t count, int64_t length, const Checkpoint& checkpoint,
                          Backend& backend, Progress& progress) {
  const int64_t bytes = 4 * checkpoint.config().hidden_size * length;
  TextWindows text;
  text.windows = BlankSequences(std::clamp<int64_t>(kGroupBytes / bytes, 1, count), length);
  WindowLosses losses;
  return MeasurePerplexity(checkpoint, text, backend, progress, &losses).status();
}

absl::Status CountStreamedMeasures(const MeasureSpec& measure, const Checkpoint& checkpoint,
                                   Backend& backend, Progress& progress) {
  for (const PerplexitySpec& text : measure.texts) {
    const int64_t most = TokensIn(text.text.path) / text.seq_len + 1;
    RETURN_IF_ERROR(CountWindows(text.limit > 0 ? std::min(text.limit, most) : most, text.seq_len,
                                 checkpoint, backend, progress));
  }
  for (const TaskSpec& task : measure.tasks) {
    ASSIGN_OR_RETURN(const TaskRow* const row, FindTask(task.task));
    if (row->kind == TaskKind::kGeneration) continue;
    RETURN_IF_ERROR(CountQuestions(task, checkpoint, backend, progress));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> CountResident(int64_t cache, const MeasureSpec& measure,
                                      const Checkpoint& checkpoint,
                                      const CountingOptions& options) {
  // Prompts that are computed together, as many as the cache holds; longer ones are rare.
  constexpr int64_t kPrompts = 32, kPromptTokens = 200;
  for (const TaskSpec& task : measure.tasks) {
    ASSIGN_OR_RETURN(const TaskRow* const row, FindTask(task.task));
    if (row->kind != TaskKind::kGeneration) continue;
    cache = std::max(cache, GenerationCacheBytes(checkpoint.config()));
  }
  const ThroughputSpec& throughput = measure.throughput;
  if (cache == 0 && !throughput.any()) return 0;
  const std::unique_ptr<Backend> backend = NewCountingBackend(options);
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Load(checkpoint, *backend, [] { return absl::OkStatus(); }));
  int64_t generating = 0;
  if (cache > 0) {
    const ModelConfig& config = checkpoint.config();
    const int64_t length = std::min(kPromptTokens, config.max_position_embeddings);
    const int64_t one = KvCacheBytes(config, length);
    const Sequences prompts = BlankSequences(std::clamp<int64_t>(cache / one, 1, kPrompts), length);
    RETURN_IF_ERROR(decoder->Prefill(prompts.ids, prompts.offsets, length).status());
    // What is computed of the prompts, and the cache once it is full.
    generating = backend->Memory().peak - prompts.count() * one + cache;
  }
  if (throughput.any()) {
    backend->ResetPeak();
    const int64_t batch = throughput.batch_sizes.back();
    const Sequences prompts = BlankSequences(batch, throughput.prompt_tokens);
    RETURN_IF_ERROR(decoder
                        ->Prefill(prompts.ids, prompts.offsets,
                                  throughput.prompt_tokens + throughput.new_tokens - 1)
                        .status());
    const std::vector<int32_t> next(static_cast<size_t>(batch), 0);
    RETURN_IF_ERROR(decoder->Step(next).status());
  }
  return std::max(throughput.any() ? backend->Memory().peak : 0, generating);
}

}  // namespace svdllm
