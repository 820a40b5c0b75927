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

  bool whole() const { return first.whole(); }
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
  std::optional<WindowStart> window_start;
  bool known = true;  // false: what was read of the text does not tell whether it gives a sequence
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
  const int64_t tokens = drawn.calibration.tokens();
  const std::string behind =
      spec.first_document > 0 ? " behind document " + std::to_string(spec.first_document) : "";
  if (found == 0 && part.whole()) {
    return Invalid(part.where() + " has no document of two tokens or more" + behind);
  }
  SourceUse& use = drawn.use;
  use.documents = part.first.count;
  drawn.known = found > 0;
  if (!drawn.known) return absl::OkStatus();
  use.sequences = found;
  use.tokens = use.available_tokens = tokens;
  if (found < part.samples && !part.whole()) {  // the rest may have more, as many of its documents
    const double share = static_cast<double>(found) /
                         static_cast<double>(std::ssize(documents) - spec.first_document);
    const auto rest = static_cast<double>(part.first.count - spec.first_document);
    use.sequences = std::min<int64_t>(part.samples, std::llround(share * rest));
    use.tokens = use.available_tokens =
        std::llround(static_cast<double>(tokens) / static_cast<double>(found) *
                     static_cast<double>(use.sequences));
  }
  if (use.sequences < part.samples && spec.needed) {
    drawn.warnings.push_back(part.file() + ": it has " + About(part) + Grouped(use.sequences) +
                             " documents of two tokens or more" + behind + ", fewer than the " +
                             Grouped(part.samples) + " asked for: so many sequences are used");
  }
  const bool rest_may_do = !part.whole() && use.sequences == part.samples;
  if (!rest_may_do) WarnOfNoneHeldOut(part, held_out, drawn.held_out.count(), drawn);
  if (!spec.needed) {
    drawn.calibration = {};
    use = {use.documents};
  }
  return absl::OkStatus();
}

// draw: else nothing is drawn, only looked at.
absl::Status TakeWindows(const Part& part, const CalibrationSpec& spec, int64_t held_out, bool draw,
                         const Tokenizer& tokenizer, const ModelConfig& config, Drawn& drawn) {
  ASSIGN_OR_RETURN(
      const JoinedText joined,
      EncodeJoined(part.first.documents, spec.window_start.value_or(WindowStart::kText),
                   spec.seq_len, tokenizer, config, part.where()));
  drawn.window_start = joined.window_start();
  const int64_t length = joined.length;
  const int64_t total = part.Extrapolate(std::ssize(joined.ids));
  drawn.known = std::ssize(joined.ids) >= length;
  if (!drawn.known) {
    if (!part.whole()) return absl::OkStatus();  // the rest may have more
    return Invalid(part.where() + " has " + std::to_string(total + std::ssize(joined.start)) +
                   " tokens, fewer than one sequence of " + std::to_string(spec.seq_len));
  }
  const int64_t windows = std::min(held_out, total / 10 / length);
  const int64_t usable = total - windows * length;
  drawn.use.documents = part.first.count;
  if (spec.needed) {
    drawn.use = {part.first.count, part.samples, part.samples * spec.seq_len, usable,
                 part.samples * std::ssize(joined.start)};
    if (part.samples * length > usable) {
      drawn.warnings.push_back(part.file() + ": " + Grouped(part.samples) + " sequences of " +
                               Grouped(length) + " tokens are " + Grouped(part.samples * length) +
                               ", drawn from " + About(part) + Grouped(usable) +
                               ": they overlap; a longer text or fewer samples would serve better");
    }
  }
  WarnOfNoneHeldOut(part, held_out, windows, drawn);
  if (!draw) return absl::OkStatus();
  Random random(part.seed);
  for (int64_t i = 0; i < drawn.use.sequences; ++i) {
    const uint64_t begin = random.Below(static_cast<uint64_t>(usable - length + 1));
    joined.AppendWindow(static_cast<int64_t>(begin), length, drawn.calibration);
  }
  for (int64_t i = 0; i < windows; ++i) {
    joined.AppendWindow(usable + i * length, length, drawn.held_out);
  }
  return absl::OkStatus();
}

absl::Status AsCalibrationError(const absl::Status& status) {
  return MakeError(status.code(), kCalibrationInvalid,
                   "calibration: " + std::string(status.message()));
}

// Of all that part has read.
absl::StatusOr<Drawn> TakeRead(const Part& part, const CalibrationSpec& spec, int64_t held_out,
                               bool draw, const Tokenizer& tokenizer, const ModelConfig& config) {
  Drawn drawn;
  if (part.text.packing == Packing::kDocuments) {
    RETURN_IF_ERROR(TakeDocuments(part, spec, held_out, tokenizer, config, drawn));
  } else {
    RETURN_IF_ERROR(TakeWindows(part, spec, held_out, draw, tokenizer, config, drawn));
  }
  return drawn;
}

absl::StatusOr<Drawn> Take(Part part, const CalibrationSpec& spec, int64_t held_out,
                           const Tokenizer& tokenizer, const ModelConfig& config) {
  absl::StatusOr<std::vector<std::string>> documents = LoadDocuments(part.text);
  if (!documents.ok()) return AsCalibrationError(documents.status());
  part.first.documents = *std::move(documents);
  part.first.count = std::ssize(part.first.documents);
  return TakeRead(part, spec, held_out, /*draw=*/true, tokenizer, config);
}

// Of the text's beginning, draws nothing.
absl::StatusOr<Drawn> Look(Part part, const CalibrationSpec& spec, int64_t held_out,
                           int64_t read_bytes, const Tokenizer& tokenizer,
                           const ModelConfig& config, bool& exact) {
  // Hardly a token has more bytes on average, and who asks for few is answered soon.
  constexpr int64_t kTokenBytes = 16, kFewBytes = int64_t{256} << 10;
  int64_t kept = kCheckedBytes;
  if (part.text.packing != Packing::kDocuments) {
    kept = std::clamp(kTokenBytes * part.samples * spec.seq_len, kFewBytes, kCheckedBytes);
  }
  for (;; kept = std::min(4 * kept, read_bytes)) {
    absl::StatusOr<FirstDocuments> first = LoadFirstDocuments(part.text, kept, read_bytes);
    if (!first.ok()) return AsCalibrationError(first.status());
    part.first = *std::move(first);
    ASSIGN_OR_RETURN(Drawn drawn,
                     TakeRead(part, spec, held_out, /*draw=*/false, tokenizer, config));
    if (!drawn.known && kept < read_bytes) continue;  // long tokens, or a late first document
    exact = exact && part.whole();
    return drawn;
  }
}

// A family that needs the token computes badly without it, and who asks for it means to have it.
void WarnOfNoStart(const CalibrationSpec& spec, std::optional<WindowStart> used,
                   std::vector<std::string>& warnings) {
  if (spec.window_start != WindowStart::kWindow || used != WindowStart::kText) return;
  warnings.push_back(
      "calibration: the model's tokenizer puts no token in front of a text, so windows begin as "
      "with window_start text");
}

// Of all sources together: a layer's inputs span a space that so many tokens must fill.
void WarnOfFewTokens(const CalibrationSpec& spec, const std::vector<SourceUse>& sources,
                     const ModelConfig& config, std::vector<std::string>& warnings) {
  if (!spec.needed) return;
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
    if (source.model_samples && !spec.needed) {
      data.sources.emplace_back();
      continue;
    }
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
    ASSIGN_OR_RETURN(Drawn drawn,
                     Take({source.text, {}, shares[i], seed}, spec, held_out, tokenizer, config));
    const std::string& uri = source.text.uri.empty() ? source.text.path : source.text.uri;
    ASSIGN_OR_RETURN(data.data.emplace_back(), DataFileOf(uri, source.text.path));
    Append(drawn.calibration, data.calibration);
    if (drawn.held_out.count() > 0) {
      data.held_out.push_back({name, std::move(drawn.held_out), 0, true, spec.seq_len,
                               drawn.window_start, data.data.back()});
    }
    if (drawn.window_start) data.window_start = drawn.window_start;
    data.sources.push_back(drawn.use);
    data.warnings.insert(data.warnings.end(), drawn.warnings.begin(), drawn.warnings.end());
  }
  WarnOfNoStart(spec, data.window_start, data.warnings);
  WarnOfFewTokens(spec, data.sources, config, data.warnings);
  return data;
}

int64_t ReadBytesOf(size_t texts) {
  return std::max(kReadBytes / std::max<int64_t>(static_cast<int64_t>(texts), 1), kCheckedBytes);
}

int64_t CalibrationCheck::sequences() const {
  int64_t all = 0;
  for (const SourceUse& use : sources) all += use.sequences;
  return all;
}

absl::StatusOr<CalibrationCheck> CheckCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                  const Tokenizer& tokenizer,
                                                  const ModelConfig& config) {
  const std::vector<int64_t> shares = SplitSamples(spec.samples, spec.sources);
  CalibrationCheck check;
  std::optional<WindowStart> window_start;
  for (size_t i = 0; i < spec.sources.size(); ++i) {
    const CalibrationSource& source = spec.sources[i];
    if (source.model_samples) {
      const int64_t sequences = spec.needed ? shares[i] : 0, tokens = sequences * spec.seq_len;
      check.sources.push_back({0, sequences, tokens, tokens});
      continue;
    }
    ASSIGN_OR_RETURN(const Drawn drawn,
                     Look({source.text, {}, shares[i], spec.seed + i}, spec, held_out,
                          ReadBytesOf(spec.sources.size()), tokenizer, config, check.exact));
    check.sources.push_back(drawn.use);
    check.warnings.insert(check.warnings.end(), drawn.warnings.begin(), drawn.warnings.end());
    if (drawn.window_start) window_start = drawn.window_start;
  }
  WarnOfNoStart(spec, window_start, check.warnings);
  WarnOfFewTokens(spec, check.sources, config, check.warnings);
  return check;
}

}  // namespace svdllm
