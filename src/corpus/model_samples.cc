#include "corpus/model_samples.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/random.h"
#include "corpus/calibration.h"
#include "model/cost.h"
#include "model/decoder.h"

namespace svdllm {
namespace {

// Keys and values of the sequences that are made together take at most this much.
constexpr int64_t kCacheBytes = int64_t{1} << 30;

// The token that every sequence begins with; none: any.
std::optional<int32_t> FirstToken(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  const absl::StatusOr<std::vector<int32_t>> ids =
      tokenizer.Encode("", /*add_special_tokens=*/true);
  if (ids.ok() && !ids->empty()) return ids->front();
  const nlohmann::json config =
      nlohmann::json::parse(checkpoint.config_text(), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return std::nullopt;
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    nlohmann::json id = config.value(key, nlohmann::json());
    if (id.is_array() && !id.empty()) id = id[0];  // several ends of a text
    if (!id.is_number_integer()) continue;
    const int64_t value = id.get<int64_t>();
    if (value >= 0 && value < checkpoint.config().vocab_size) return static_cast<int32_t>(value);
  }
  return std::nullopt;
}

int64_t SampledSequences(const CalibrationSpec& calibration) {
  if (!calibration.needed) return 0;
  const std::vector<int64_t> shares = SplitSamples(calibration.samples, calibration.sources);
  int64_t count = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (calibration.sources[i].model_samples) count += shares[i];
  }
  return count;
}

}  // namespace

absl::StatusOr<Sequences> SampleModel(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                      Backend& backend, int64_t count, int64_t seq_len,
                                      uint64_t seed, Progress& progress) {
  const ModelConfig& config = checkpoint.config();
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder, Decoder::Load(checkpoint, backend));
  const std::optional<int32_t> first = FirstToken(checkpoint, tokenizer);
  const int64_t together =
      std::clamp<int64_t>(kCacheBytes / KvCacheBytes(config, seq_len), 1, count);
  Random seeds(seed);
  Sequences sequences;
  while (sequences.count() < count) {
    const int64_t size = std::min(together, count - sequences.count());
    std::vector<Random> randoms;  // one a sequence: they do not depend on how many are together
    std::vector<int32_t> prompts;
    std::vector<int64_t> offsets(static_cast<size_t>(size) + 1);
    std::iota(offsets.begin(), offsets.end(), int64_t{0});
    for (int64_t s = 0; s < size; ++s) {
      Random& random = randoms.emplace_back(seeds.Next());
      prompts.push_back(first.has_value() ? *first
                                          : static_cast<int32_t>(random.Below(
                                                static_cast<uint64_t>(config.vocab_size))));
    }
    int64_t token = 1;
    const auto choose = [&](size_t s, std::span<const float> logits) -> absl::StatusOr<int32_t> {
      if (s == 0) {
        const Workload work{static_cast<double>(size), static_cast<double>(token)};
        RETURN_IF_ERROR(progress.Step(PerplexityFlops(checkpoint, work), "",
                                      "sequences " + std::to_string(sequences.count() + 1) + "–" +
                                          std::to_string(sequences.count() + size) + " of " +
                                          std::to_string(count) + " of the model's own, token " +
                                          std::to_string(++token) + " of " +
                                          std::to_string(seq_len)));
      }
      return SampleToken(logits, randoms[s]);
    };
    ASSIGN_OR_RETURN(const auto generated,
                     Generate(*decoder, prompts, offsets, seq_len - 1, choose));
    for (size_t s = 0; s < generated.size(); ++s) {
      std::vector<int32_t> ids = {prompts[s]};
      ids.insert(ids.end(), generated[s].begin(), generated[s].end());
      sequences.Append(ids);
    }
  }
  return sequences;
}

double SamplingFlops(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const auto length = static_cast<double>(spec.calibration.seq_len);
  const auto tokens = static_cast<double>(SampledSequences(spec.calibration)) * length;
  return PerplexityFlops(checkpoint, {tokens, length / 2});
}

int64_t SamplingCacheBytes(const CompressSpec& spec, const ModelConfig& config) {
  const int64_t count = SampledSequences(spec.calibration);
  if (count == 0) return 0;
  // A cache is never less than one sequence, nor more than all of them.
  const int64_t one = KvCacheBytes(config, spec.calibration.seq_len);
  return std::clamp(kCacheBytes, one, count * one);
}

}  // namespace svdllm
