#include "evaluate/generation.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "model/cost.h"
#include "model/decoder.h"
#include "model/rope.h"

namespace svdllm {
namespace {

// Keys and values of the texts that are made together take at most this much.
constexpr int64_t kCacheBytes = int64_t{1} << 30;
constexpr int64_t kMostTogether = 32;

// Tokens that end a text: what generation_config.json names, or config.json, or the tokenizer.
std::set<int32_t> EndTokens(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  const absl::StatusOr<std::string> generation =
      ReadFile(checkpoint.dir() + "/generation_config.json", int64_t{1} << 20);
  for (const std::string& text :
       {generation.ok() ? *generation : std::string(), checkpoint.config_text()}) {
    const absl::StatusOr<nlohmann::json> config = ParseJson(text);
    if (!config.ok() || !config->is_object() || !config->contains("eos_token_id")) continue;
    const nlohmann::json& ids = (*config)["eos_token_id"];
    std::set<int32_t> ends;
    for (const nlohmann::json& id : ids.is_array() ? ids : nlohmann::json::array({ids})) {
      if (id.is_number_integer()) ends.insert(id.get<int32_t>());
    }
    if (!ends.empty()) return ends;
  }
  const std::optional<int32_t> eos = tokenizer.eos_id();
  return eos ? std::set<int32_t>{*eos} : std::set<int32_t>{};
}

size_t SharedByAll(const std::vector<std::vector<int32_t>>& prompts) {
  size_t shared = prompts[0].size();
  for (const std::vector<int32_t>& prompt : prompts) {
    // Every prompt keeps a token of its own.
    shared = std::min({shared, prompt.size() - 1, SharedBeginning(prompts[0], prompt)});
  }
  return shared;
}

// Rows of a cache for prompts of up to so many tokens and what is written behind them; the last
// token is chosen, not run. In steps, because caches of one size keep the shared beginning; but not
// where the steps would change the rotary frequencies.
int64_t CapacityFor(const ModelConfig& config, int64_t longest, int64_t new_tokens) {
  constexpr int64_t kStep = 256;
  const int64_t exact = longest + new_tokens - 1;
  const int64_t rounded = (exact + kStep - 1) / kStep * kStep;
  return SameFrequencies(config, longest, rounded) ? rounded : exact;
}

class Generator {
 public:
  Generator(const Checkpoint& checkpoint, const Tokenizer& tokenizer, const TaskData& data,
            Decoder& decoder, Progress& progress)
      : checkpoint_(checkpoint),
        tokenizer_(tokenizer),
        data_(data),
        decoder_(decoder),
        log_(progress),
        ends_(EndTokens(checkpoint, tokenizer)),
        stops_(data.task->stops),
        shared_(SharedByAll(data.prompts)) {
    if (const std::optional<int32_t> eos = tokenizer.eos_id()) {
      const std::string text = tokenizer.Decode(std::span(&*eos, 1), false);
      if (!text.empty()) stops_.push_back(text);
    }
  }

  // The texts of the prompts with these numbers.
  absl::Status Run(std::span<const size_t> numbers, std::vector<std::string>& texts) {
    std::vector<int32_t> ids;
    std::vector<int64_t> offsets = {0};
    int64_t longest = 0;
    for (const size_t number : numbers) {
      const std::vector<int32_t>& prompt = data_.prompts[number];
      ids.insert(ids.end(), prompt.begin() + static_cast<std::ptrdiff_t>(shared_), prompt.end());
      offsets.push_back(static_cast<int64_t>(ids.size()));
      longest = std::max(longest, static_cast<int64_t>(prompt.size()));
    }
    const int64_t capacity = CapacityFor(checkpoint_.config(), longest, data_.new_tokens);
    ASSIGN_OR_RETURN(
        MatrixRef logits,
        decoder_.Prefill(ids, offsets, capacity, std::span(data_.prompts[0]).first(shared_)));
    int64_t computed = static_cast<int64_t>(ids.size());
    if (std::exchange(capacity_, capacity) != capacity) computed += static_cast<int64_t>(shared_);
    RETURN_IF_ERROR(Count(computed, longest / 2, numbers));
    std::vector<size_t> rows(numbers.begin(), numbers.end());  // whose text a row of logits is
    std::map<size_t, std::vector<int32_t>> written;
    std::set<size_t> done;
    for (int64_t step = 1;; ++step) {
      ASSIGN_OR_RETURN(std::vector<int32_t> next, Choose(logits));
      std::vector<size_t> open;
      for (size_t row = 0; row < rows.size(); ++row) {
        const size_t number = rows[row];
        if (done.count(number) > 0) continue;
        std::vector<int32_t>& text = written[number];
        const bool ends = ends_.count(next[row]) > 0;
        if (!ends) text.push_back(next[row]);
        if (ends || step == data_.new_tokens || Stopped(tokenizer_.Decode(text, false))) {
          done.insert(number);
        } else {
          open.push_back(row);
        }
      }
      if (open.empty()) break;
      // A row more or less costs little, moving the cache together does.
      if (2 * open.size() <= rows.size()) {
        RETURN_IF_ERROR(decoder_.Keep(open));
        for (size_t i = 0; i < open.size(); ++i) {
          rows[i] = rows[open[i]];
          next[i] = next[open[i]];
        }
        rows.resize(open.size());
        next.resize(open.size());
      }
      ASSIGN_OR_RETURN(logits, decoder_.Step(next));
      RETURN_IF_ERROR(Count(static_cast<int64_t>(next.size()), longest + step, numbers));
    }
    for (const auto& [number, tokens] : written) texts[number] = Cut(tokens);
    return absl::OkStatus();
  }

  int64_t tokens() const { return tokens_; }
  double flops() const { return flops_; }

 private:
  bool Stopped(const std::string& text) const {
    return std::any_of(stops_.begin(), stops_.end(), [&](const std::string& stop) {
      return text.find(stop) != std::string::npos;
    });
  }
  std::string Cut(std::span<const int32_t> tokens) const {
    std::string text = tokenizer_.Decode(tokens, /*skip_special_tokens=*/true);
    for (const std::string& stop : stops_) text.resize(std::min(text.find(stop), text.size()));
    return text;
  }
  absl::StatusOr<std::vector<int32_t>> Choose(MatrixRef logits) {
    ASSIGN_OR_RETURN(const bool finite, decoder_.backend().AllFinite(logits));
    if (!finite) {
      return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                       data_.spec.name + ": a logit is not finite");
    }
    host_.resize(static_cast<size_t>(logits.size()));
    RETURN_IF_ERROR(decoder_.backend().Download(logits, host_.data(), DType::kF32));
    std::vector<int32_t> next;
    for (int64_t row = 0; row < logits.rows; ++row) {
      next.push_back(GreedyToken(std::span<const float>(host_).subspan(
          static_cast<size_t>(row * logits.cols), static_cast<size_t>(logits.cols))));
    }
    return next;
  }
  absl::Status Count(int64_t tokens, int64_t positions, std::span<const size_t> numbers) {
    tokens_ += tokens;
    const double work =
        PerplexityFlops(checkpoint_, {static_cast<double>(tokens), static_cast<double>(positions)});
    flops_ += work;
    return log_.Step(work, "",
                     data_.spec.name + ": " + std::to_string(numbers.size()) + " texts together, " +
                         std::to_string(tokens_) + " tokens so far");
  }

  const Checkpoint& checkpoint_;
  const Tokenizer& tokenizer_;
  const TaskData& data_;
  Decoder& decoder_;
  Progress& log_;
  const std::set<int32_t> ends_;
  std::vector<std::string> stops_;
  const size_t shared_;
  std::vector<float> host_;
  int64_t capacity_ = 0;  // of the last batch: the next one finds the shared beginning there
  int64_t tokens_ = 0;
  double flops_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> GenerateTexts(const Checkpoint& checkpoint,
                                                       const Tokenizer& tokenizer,
                                                       const TaskData& data, Backend& backend,
                                                       Progress& progress, int64_t* tokens) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Load(checkpoint, backend, [&progress] { return progress.Check(); }));
  Generator generator(checkpoint, tokenizer, data, *decoder, progress);
  // Long ones first: the caches of a batch are as long as its longest text.
  std::vector<size_t> order(data.prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return data.prompts[a].size() > data.prompts[b].size();
  });
  std::vector<std::string> texts(data.prompts.size());
  for (size_t first = 0; first < order.size();) {
    const ModelConfig& config = checkpoint.config();
    const int64_t capacity = CapacityFor(
        config, static_cast<int64_t>(data.prompts[order[first]].size()), data.new_tokens);
    const auto together = static_cast<size_t>(
        std::clamp<int64_t>(kCacheBytes / KvCacheBytes(config, capacity), 1, kMostTogether));
    size_t count = 1;
    while (count < together && first + count < order.size() &&
           SameFrequencies(config, static_cast<int64_t>(data.prompts[order[first + count]].size()),
                           capacity)) {
      ++count;
    }
    RETURN_IF_ERROR(generator.Run(std::span<const size_t>(order).subspan(first, count), texts));
    first += count;
  }
  *tokens = generator.tokens();
  RETURN_IF_ERROR(progress.Step(GenerationFlops(checkpoint, data) - generator.flops(), "",
                                data.spec.name + ": done"));
  return texts;
}

int64_t GenerationCacheBytes(const ModelConfig& config) {
  // Prompts are not known here; few are longer.
  constexpr int64_t kUsualTokens = 1536;
  const int64_t one = KvCacheBytes(config, std::min(config.max_position_embeddings, kUsualTokens));
  return std::clamp(kCacheBytes, one, kMostTogether * one);
}

double GenerationFlops(const Checkpoint& checkpoint, const TaskData& data) {
  double tokens = 0;
  for (const std::vector<int32_t>& prompt : data.prompts) {
    tokens += static_cast<double>(prompt.size()) + static_cast<double>(data.new_tokens) / 2;
  }
  return PerplexityFlops(checkpoint,
                         {tokens, tokens / static_cast<double>(2 * data.prompts.size())});
}

}  // namespace svdllm
