#include "evaluate/throughput.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/random.h"
#include "model/cost.h"
#include "model/rope.h"

namespace svdllm {
namespace {

constexpr uint64_t kSeed = 7;
// Of all sequences: they are computed at once.
constexpr int64_t kMostPromptTokens = int64_t{1} << 20;

double SecondsBetween(std::chrono::steady_clock::time_point start,
                      std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}

absl::Status CheckRange(const std::string& field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return InvalidField(fmt::format("{}: {} is not {} to {}", field, value, least, most));
}

// The cache is as long as what is run: the last token is chosen only.
int64_t Capacity(const ThroughputSpec& spec) { return spec.prompt_tokens + spec.new_tokens - 1; }

// Of a round.
double RoundFlops(const Checkpoint& checkpoint, const ThroughputSpec& spec, int64_t batch_size) {
  const double prompt = Real(spec.prompt_tokens), steps = Real(spec.new_tokens - 1);
  return Real(batch_size) * (PerplexityFlops(checkpoint, {prompt, prompt / 2}) +
                             PerplexityFlops(checkpoint, {steps, prompt + steps / 2}));
}

}  // namespace

absl::StatusOr<ThroughputSpec> ResolveThroughput(const ThroughputSpec& spec,
                                                 const ModelConfig& config,
                                                 const std::string& field) {
  ThroughputSpec resolved = spec;
  if (!spec.any()) return resolved;
  std::vector<int64_t>& sizes = resolved.batch_sizes;
  if (static_cast<int64_t>(sizes.size()) > kMaxBatchSizes) {
    return InvalidField(
        fmt::format("{}.batch_sizes: {} are more than {}", field, sizes.size(), kMaxBatchSizes));
  }
  std::sort(sizes.begin(), sizes.end());
  for (size_t i = 0; i < sizes.size(); ++i) {
    RETURN_IF_ERROR(CheckRange(field + ".batch_sizes", sizes[i], 1, kMaxBatchSize));
    if (i > 0 && sizes[i] == sizes[i - 1]) {
      return InvalidField(fmt::format("{}.batch_sizes: {} is given twice", field, sizes[i]));
    }
  }
  RETURN_IF_ERROR(CheckRange(field + ".new_tokens", spec.new_tokens, 2, kMaxDecodedTokens));
  RETURN_IF_ERROR(CheckRange(field + ".repetitions", spec.repetitions, 1, kMaxRepetitions));
  const int64_t positions = config.max_position_embeddings, room = positions - spec.new_tokens;
  int64_t& prompt = resolved.prompt_tokens;
  if (prompt == 0) prompt = std::max<int64_t>(1, std::min(kDefaultPromptTokens, room));
  if (prompt < 1)
    return InvalidField(fmt::format("{}.prompt_tokens: {} is less than 1", field, prompt));
  if (prompt > room) {
    return InvalidField(
        fmt::format("{}.prompt_tokens: {} and {} new_tokens are more than the model's "
                    "max_position_embeddings, {}",
                    field, prompt, spec.new_tokens, positions));
  }
  if (prompt * sizes.back() > kMostPromptTokens) {
    return InvalidField(
        fmt::format("{}.batch_sizes: {} prompts of {} tokens are more than {} tokens together",
                    field, sizes.back(), prompt, kMostPromptTokens));
  }
  if (!SameFrequencies(config, prompt, Capacity(resolved))) {
    return InvalidField(fmt::format(
        "{}.prompt_tokens: the model's rotary frequencies change between {} tokens and the {} that "
        "a sequence ends with: they cannot be cached",
        field, prompt, Capacity(resolved)));
  }
  return resolved;
}

absl::StatusOr<ThroughputRound> RunThroughputRound(Decoder& decoder, const ModelConfig& config,
                                                   int64_t batch_size, int64_t prompt_tokens,
                                                   int64_t new_tokens) {
  const auto batch = static_cast<size_t>(batch_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  Random random(kSeed);
  std::vector<int32_t> ids(static_cast<size_t>(batch_size * prompt_tokens)), next(batch);
  for (int32_t& id : ids) id = static_cast<int32_t>(random.Below(vocab));
  std::vector<int64_t> offsets;
  for (int64_t s = 0; s <= batch_size; ++s) offsets.push_back(s * prompt_tokens);
  std::vector<float> host(batch * vocab);
  // The download waits for the device, so that a clock read behind this has seen all of the work.
  const auto choose = [&](MatrixRef logits) -> absl::Status {
    RETURN_IF_ERROR(decoder.backend().Download(logits, host.data(), DType::kF32));
    for (size_t s = 0; s < batch; ++s) {
      next[s] = GreedyToken(std::span<const float>(host).subspan(s * vocab, vocab));
    }
    return absl::OkStatus();
  };
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(MatrixRef logits, decoder.Prefill(ids, offsets, prompt_tokens + new_tokens - 1));
  RETURN_IF_ERROR(choose(logits));
  const auto first = std::chrono::steady_clock::now();
  for (int64_t step = 1; step < new_tokens; ++step) {
    ASSIGN_OR_RETURN(logits, decoder.Step(next));
    RETURN_IF_ERROR(choose(logits));
  }
  const auto end = std::chrono::steady_clock::now();
  if (!std::all_of(host.begin(), host.end(), [](float x) { return std::isfinite(x); })) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure, "a logit is not finite");
  }
  return ThroughputRound{Real(batch_size * prompt_tokens) / SecondsBetween(start, first),
                         Real(batch_size * (new_tokens - 1)) / SecondsBetween(first, end)};
}

RateSummary SummarizeRates(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  const size_t count = rates.size();
  return {(rates[(count - 1) / 2] + rates[count / 2]) / 2, rates.front(), rates.back()};
}

absl::StatusOr<std::vector<ThroughputResult>> MeasureThroughput(const Checkpoint& checkpoint,
                                                                const ThroughputSpec& spec,
                                                                Backend& backend,
                                                                Progress& progress) {
  std::vector<ThroughputResult> results;
  if (!spec.any()) return results;
  absl::StatusOr<std::unique_ptr<Decoder>> decoder =
      Decoder::Load(checkpoint, backend, [&progress] { return progress.Check(); });
  if (!decoder.ok()) return Annotate(decoder.status(), "throughput: loading the model");
  // Ascending: buffers grow, so that what a batch size holds is what it needs.
  for (const int64_t batch_size : spec.batch_sizes) {
    const std::string name = fmt::format("throughput: batch size {}", batch_size);
    const auto start = std::chrono::steady_clock::now();
    std::vector<double> prefill, decode;
    for (int64_t round = 0; round <= spec.repetitions; ++round) {
      const absl::StatusOr<ThroughputRound> rates = RunThroughputRound(
          **decoder, checkpoint.config(), batch_size, spec.prompt_tokens, spec.new_tokens);
      if (!rates.ok()) return Annotate(rates.status(), name);
      if (round > 0) {
        prefill.push_back(rates->prefill);
        decode.push_back(rates->decode);
      }
      RETURN_IF_ERROR(progress.Step(
          RoundFlops(checkpoint, spec, batch_size), "",
          fmt::format(
              "{}, {}: prefill {:.0f} tokens/s, decode {:.1f} tokens/s", name,
              round == 0 ? "warm-up" : fmt::format("round {} of {}", round, spec.repetitions),
              rates->prefill, rates->decode)));
      // Behind the step, which has seen it.
      if (round == 0) backend.ResetPeak();
    }
    results.push_back({batch_size, spec.prompt_tokens, spec.new_tokens, spec.repetitions,
                       SummarizeRates(std::move(prefill)), SummarizeRates(std::move(decode)),
                       backend.Memory().peak,
                       SecondsBetween(start, std::chrono::steady_clock::now())});
  }
  return results;
}

double ThroughputFlops(const Checkpoint& checkpoint, const ThroughputSpec& spec) {
  double flops = 0;
  for (const int64_t batch_size : spec.batch_sizes) {
    flops += Real(spec.repetitions + 1) * RoundFlops(checkpoint, spec, batch_size);
  }
  return flops;
}

}  // namespace svdllm
