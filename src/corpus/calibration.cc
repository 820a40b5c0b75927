#include "corpus/calibration.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>
#include <span>

#include "base/format.h"
#include "base/random.h"
#include "corpus/documents.h"
#include "corpus/encode.h"
#include "job/data_file.h"
#include "text/text_file.h"

namespace svdllm {
namespace {

// A text of the calibration, as far as it was read, and what is asked of it.
struct Part {
  const TextSource& text;
  FirstDocuments first;
  int64_t samples = 0;
  uint64_t seed = 0;

  bool whole() const { return first.times == 1; }
  // A count of what was read, for the whole text.
  int64_t Extrapolate(int64_t count) const {
    return whole() ? count : std::llround(static_cast<double>(count) * first.times);
  }
  std::string where() const { return "calibration: " + text.path; }
  std::string file() const {
    return "calibration: " + std::filesystem::path(text.path).filename().string();
  }
};

// What a part gives.
struct Drawn {
  Sequences calibration, held_out;
  SourceUse use;
  std::vector<std::string> warnings;
  bool exact = true;  // the text was read to its end
};

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kCalibrationInvalid, message);
}

void Append(const Sequences& more, Sequences& sequences) {
  for (int64_t s = 0; s < more.count(); ++s) {
    const auto begin = static_cast<size_t>(more.offsets[static_cast<size_t>(s)]);
    const auto end = static_cast<size_t>(more.offsets[static_cast<size_t>(s) + 1]);
    sequences.Append(std::span<const int32_t>(more.ids).subspan(begin, end - begin));
  }
}

// One that is not yet among names; it is then.
std::string HeldOutName(const TextSource& text, bool several, std::set<std::string>& names) {
  const std::string base = kHeldOutName + (several ? "_" + TextNameOf(text.path).stem : "");
  std::string name = base;
  for (int n = 2; !names.insert(name).second; ++n) name = base + "_" + std::to_string(n);
  return name;
}

std::string About(const Part& part) { return part.whole() ? "" : "about "; }

// What everybody who asked for held_out windows has to know.
void WarnOfNoneHeldOut(const Part& part, int64_t held_out, int64_t windows, Drawn& drawn) {
  if (held_out == 0 || windows > 0) return;
  drawn.warnings.push_back(part.file() +
                           ": nothing of it is left over to measure its perplexity on");
}

absl::Status TakeDocuments(const Part& part, const CalibrationSpec& spec, int64_t held_out,
                           const Tokenizer& tokenizer, const ModelConfig& config, Drawn& drawn) {
  const std::vector<std::string>& documents = part.first.documents;
  ASSIGN_OR_RETURN(
      const size_t next,
      AppendDocuments(documents, static_cast<size_t>(spec.first_document), part.samples,
                      spec.seq_len, tokenizer, config, part.where(), drawn.calibration));
  RETURN_IF_ERROR(AppendDocuments(documents, next, 4 * held_out, spec.seq_len, tokenizer, config,
                                  part.where(), drawn.held_out)
                      .status());
  const int64_t found = drawn.calibration.count();
  const std::string behind =
      spec.first_document > 0 ? " behind document " + std::to_string(spec.first_document) : "";
  if (found == 0 && part.whole()) {
    return Invalid(part.where() + " has no document of two tokens or more" + behind);
  }
  SourceUse& use = drawn.use;
  use.documents = part.first.count;
  // Of a text whose beginning had not enough, the rest may have it.
  const bool all_read = part.whole() || found == part.samples;
  use.sequences = all_read ? found : std::min(part.samples, part.Extrapolate(found));
  use.tokens = drawn.calibration.tokens();
  if (found > 0 && !all_read) {
    use.tokens = std::llround(static_cast<double>(use.tokens) / static_cast<double>(found) *
                              static_cast<double>(use.sequences));
  }
  use.available_tokens = use.tokens;
  if (found == 0) return absl::OkStatus();  // nothing is known of the rest
  if (use.sequences < part.samples) {
    drawn.warnings.push_back(part.file() + ": it has " + About(part) + Grouped(use.sequences) +
                             " documents of two tokens or more" + behind + ", fewer than the " +
                             Grouped(part.samples) + " sequences asked for: so many are used");
  }
  const bool rest_may_do = !part.whole() && use.sequences == part.samples;
  if (!rest_may_do) WarnOfNoneHeldOut(part, held_out, drawn.held_out.count(), drawn);
  return absl::OkStatus();
}

// draw: else nothing is drawn, only looked at.
absl::Status TakeWindows(const Part& part, const CalibrationSpec& spec, int64_t held_out, bool draw,
                         const Tokenizer& tokenizer, const ModelConfig& config, Drawn& drawn) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   EncodeJoined(part.first.documents, tokenizer, config, part.where()));
  const int64_t length = spec.seq_len;
  const int64_t total = part.Extrapolate(static_cast<int64_t>(ids.size()));
  if (total < length) {
    if (!part.whole()) return absl::OkStatus();  // a document as long as what was read of it
    return Invalid(part.where() + " has " + std::to_string(total) +
                   " tokens, fewer than one sequence of " + std::to_string(length));
  }
  const int64_t windows = std::min(held_out, total / 10 / length);
  const int64_t usable = total - windows * length;
  drawn.use = {part.first.count, part.samples, part.samples * length, usable};
  if (drawn.use.tokens > usable) {
    drawn.warnings.push_back(part.file() + ": " + Grouped(part.samples) + " sequences of " +
                             Grouped(length) + " tokens are " + Grouped(drawn.use.tokens) +
                             ", drawn from " + About(part) + Grouped(usable) +
                             ": they overlap; a longer text or fewer samples would serve better");
  }
  WarnOfNoneHeldOut(part, held_out, windows, drawn);
  if (!draw) return absl::OkStatus();
  const auto slice = [&ids, length](int64_t begin) {
    return std::span<const int32_t>(ids).subspan(static_cast<size_t>(begin),
                                                 static_cast<size_t>(length));
  };
  Random random(part.seed);
  for (int64_t i = 0; i < part.samples; ++i) {
    drawn.calibration.Append(
        slice(static_cast<int64_t>(random.Below(static_cast<uint64_t>(usable - length + 1)))));
  }
  for (int64_t i = 0; i < windows; ++i) drawn.held_out.Append(slice(usable + i * length));
  return absl::OkStatus();
}

// first_bytes: of the text, to look at them; 0: all of it, to draw.
absl::StatusOr<Drawn> Take(const TextSource& text, const CalibrationSpec& spec, int64_t samples,
                           uint64_t seed, int64_t held_out, int64_t first_bytes,
                           const Tokenizer& tokenizer, const ModelConfig& config) {
  Part part{text, {}, samples, seed};
  const auto load = [&]() -> absl::Status {
    if (first_bytes > 0) {
      // Hardly a token has more bytes on average, and who asks for few is answered soon.
      constexpr int64_t kTokenBytes = 16, kFewBytes = int64_t{256} << 10;
      const int64_t enough = text.packing == Packing::kDocuments
                                 ? first_bytes
                                 : std::max(kFewBytes, kTokenBytes * samples * spec.seq_len);
      ASSIGN_OR_RETURN(part.first, LoadFirstDocuments(text, std::min(first_bytes, enough)));
    } else {
      ASSIGN_OR_RETURN(part.first.documents, LoadDocuments(text));
      part.first.count = static_cast<int64_t>(part.first.documents.size());
    }
    return absl::OkStatus();
  };
  if (const absl::Status loaded = load(); !loaded.ok()) {
    return MakeError(loaded.code(), kCalibrationInvalid,
                     "calibration: " + std::string(loaded.message()));
  }
  Drawn drawn;
  drawn.exact = part.whole();
  if (text.packing == Packing::kDocuments) {
    RETURN_IF_ERROR(TakeDocuments(part, spec, held_out, tokenizer, config, drawn));
  } else {
    RETURN_IF_ERROR(TakeWindows(part, spec, held_out, first_bytes == 0, tokenizer, config, drawn));
  }
  return drawn;
}

// Of all sources together: a layer's inputs span a space that so many tokens must fill.
void WarnOfFewTokens(const std::vector<SourceUse>& sources, const ModelConfig& config,
                     std::vector<std::string>& warnings) {
  int64_t tokens = 0;
  for (const SourceUse& use : sources) {
    if (use.tokens == 0) return;  // of this one nothing is known
    tokens += use.different_tokens();
  }
  const int64_t inputs =
      std::max({config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim});
  if (tokens >= inputs) return;
  warnings.push_back("calibration: " + Grouped(tokens) + " different tokens are fewer than the " +
                     Grouped(inputs) + " inputs of the widest layer, which so few cannot cover");
}

}  // namespace

std::vector<int64_t> SplitSamples(int64_t samples, const std::vector<CalibrationSource>& sources) {
  double total = 0;
  for (const CalibrationSource& source : sources) total += source.weight;
  std::vector<int64_t> shares(sources.size());
  std::vector<double> remainders(sources.size());
  for (size_t i = 0; i < sources.size(); ++i) {
    const double quota = static_cast<double>(samples) * (sources[i].weight / total);
    shares[i] = static_cast<int64_t>(quota);
    remainders[i] = quota - std::floor(quota);
  }
  std::vector<size_t> order(sources.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  int64_t left = samples - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (size_t i = 0; left > 0; i = (i + 1) % order.size(), --left) ++shares[order[i]];
  for (int64_t& share : shares) {
    if (share > 0) continue;
    --*std::max_element(shares.begin(), shares.end());
    share = 1;
  }
  return shares;
}

absl::StatusOr<CalibrationData> DrawCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                const Tokenizer& tokenizer,
                                                const ModelConfig& config,
                                                const ModelSampler& sampler) {
  const std::vector<int64_t> shares = SplitSamples(spec.samples, spec.sources);
  const auto texts = std::count_if(spec.sources.begin(), spec.sources.end(),
                                   [](const CalibrationSource& s) { return !s.model_samples; });
  std::set<std::string> names;
  CalibrationData data;
  for (size_t i = 0; i < spec.sources.size(); ++i) {
    const CalibrationSource& source = spec.sources[i];
    const uint64_t seed = spec.seed + i;
    if (source.model_samples) {
      if (!sampler) {
        return MakeError(absl::StatusCode::kUnimplemented, kCalibrationInvalid,
                         "calibration: samples of the model itself are not available");
      }
      ASSIGN_OR_RETURN(const Sequences samples, sampler(shares[i], spec.seq_len, seed));
      Append(samples, data.calibration);
      data.sources.push_back({0, samples.count(), samples.tokens(), samples.tokens()});
      continue;
    }
    const std::string name = HeldOutName(source.text, texts > 1, names);
    ASSIGN_OR_RETURN(Drawn drawn, Take(source.text, spec, shares[i], seed, held_out,
                                       /*first_bytes=*/0, tokenizer, config));
    Append(drawn.calibration, data.calibration);
    if (drawn.held_out.count() > 0) {
      ASSIGN_OR_RETURN(DataFile file, DescribeFile(source.text.path));
      data.held_out.push_back(
          {name, std::move(drawn.held_out), 0, true, spec.seq_len, std::move(file)});
    }
    data.sources.push_back(drawn.use);
    data.warnings.insert(data.warnings.end(), drawn.warnings.begin(), drawn.warnings.end());
  }
  WarnOfFewTokens(data.sources, config, data.warnings);
  return data;
}

absl::StatusOr<CalibrationCheck> CheckCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                  const Tokenizer& tokenizer,
                                                  const ModelConfig& config) {
  const std::vector<int64_t> shares = SplitSamples(spec.samples, spec.sources);
  CalibrationCheck check;
  for (size_t i = 0; i < spec.sources.size(); ++i) {
    const CalibrationSource& source = spec.sources[i];
    if (source.model_samples) {
      const int64_t tokens = shares[i] * spec.seq_len;
      check.sources.push_back({0, shares[i], tokens, tokens});
      continue;
    }
    ASSIGN_OR_RETURN(const Drawn drawn, Take(source.text, spec, shares[i], spec.seed + i, held_out,
                                             kCheckedBytes, tokenizer, config));
    check.sources.push_back(drawn.use);
    check.warnings.insert(check.warnings.end(), drawn.warnings.begin(), drawn.warnings.end());
    check.exact = check.exact && drawn.exact;
  }
  WarnOfFewTokens(check.sources, config, check.warnings);
  return check;
}

}  // namespace svdllm
