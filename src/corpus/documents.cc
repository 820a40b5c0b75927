#include "corpus/documents.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

#include "base/files.h"
#include "base/json.h"
#include "base/random.h"

namespace svdllm {
namespace {

absl::Status Invalid(std::string_view reason, const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, reason, message);
}

// A document of a JSON text: a string, or an object's text field.
absl::StatusOr<std::string> DocumentOf(const nlohmann::json& value, const TextSource& source,
                                       const std::string& where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    const auto field = value.find(source.text_field);
    if (field != value.end() && field->is_string()) return field->get<std::string>();
    return Invalid(kDatasetInvalid, where + ": no string field '" + source.text_field + "'");
  }
  return Invalid(kDatasetInvalid, where + ": neither a string nor an object");
}

absl::StatusOr<nlohmann::json> Json(const std::string& text, const std::string& where) {
  absl::StatusOr<nlohmann::json> value = ParseJson(text);
  if (value.ok()) return value;
  return Invalid(kDatasetInvalid, where + ": " + std::string(value.status().message()));
}

std::vector<std::string> Rows(const std::string& text, TextRows kind) {
  constexpr char kSpace[] = " \t\r\n";
  std::vector<std::string> rows;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    std::string row = text.substr(begin, end - begin);
    const size_t first = row.find_first_not_of(kSpace);
    if (first == std::string::npos) {
      row.clear();
    } else if (kind == TextRows::kStrippedRows) {
      row = row.substr(first, row.find_last_not_of(kSpace) + 1 - first);
    }
    rows.push_back(std::move(row));
    begin = end;
  }
  return rows;
}

// The whole text as one list of ids.
std::vector<int32_t> EncodeJoined(const std::vector<std::string>& documents,
                                  const Tokenizer& tokenizer) {
  std::string text;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (i > 0) text += "\n\n";
    text += documents[i];
  }
  return tokenizer.Encode(text, /*add_special_tokens=*/true);
}

// Returns the first document behind those that were read.
size_t AppendDocuments(const std::vector<std::string>& documents, size_t first, int64_t count,
                       int64_t seq_len, const Tokenizer& tokenizer, Sequences& sequences) {
  size_t i = first;
  for (; i < documents.size() && sequences.count() < count; ++i) {
    std::vector<int32_t> ids = tokenizer.Encode(documents[i], /*add_special_tokens=*/true);
    if (static_cast<int64_t>(ids.size()) > seq_len) ids.resize(static_cast<size_t>(seq_len));
    if (ids.size() >= 2) sequences.Append(ids);
  }
  return i;
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
  const std::string base =
      kHeldOutName + (several ? "_" + std::filesystem::path(text.path).stem().string() : "");
  std::string name = base;
  for (int n = 2; !names.insert(name).second; ++n) name = base + "_" + std::to_string(n);
  return name;
}

// Adds the sequences of one text.
absl::Status DrawText(const TextSource& text, const CalibrationSpec& spec, int64_t samples,
                      uint64_t seed, int64_t held_out, const Tokenizer& tokenizer,
                      Sequences& calibration, Sequences& held_out_windows) {
  absl::StatusOr<std::vector<std::string>> documents = LoadDocuments(text);
  if (!documents.ok()) {
    return MakeError(documents.status().code(), kCalibrationInvalid,
                     "calibration: " + std::string(documents.status().message()));
  }
  if (text.packing == Packing::kDocuments) {
    const size_t first = static_cast<size_t>(spec.first_document);
    Sequences drawn;
    const size_t next = AppendDocuments(*documents, first, samples, spec.seq_len, tokenizer, drawn);
    AppendDocuments(*documents, next, 4 * held_out, spec.seq_len, tokenizer, held_out_windows);
    if (drawn.count() == 0) {
      return Invalid(kCalibrationInvalid,
                     "calibration: " + text.path +
                         " has no document of two tokens or more behind document " +
                         std::to_string(spec.first_document));
    }
    Append(drawn, calibration);
    return absl::OkStatus();
  }
  const std::vector<int32_t> ids = EncodeJoined(*documents, tokenizer);
  const int64_t total = static_cast<int64_t>(ids.size()), length = spec.seq_len;
  if (total < length) {
    return Invalid(kCalibrationInvalid,
                   "calibration: " + text.path + " has " + std::to_string(total) +
                       " tokens, fewer than one sequence of " + std::to_string(length));
  }
  const int64_t windows = std::min(held_out, total / 10 / length);
  const int64_t usable = total - windows * length;
  const auto slice = [&ids, length](int64_t begin) {
    return std::span<const int32_t>(ids).subspan(static_cast<size_t>(begin),
                                                 static_cast<size_t>(length));
  };
  Random random(seed);
  for (int64_t i = 0; i < samples; ++i) {
    calibration.Append(
        slice(static_cast<int64_t>(random.Below(static_cast<uint64_t>(usable - length + 1)))));
  }
  for (int64_t i = 0; i < windows; ++i) held_out_windows.Append(slice(usable + i * length));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source) {
  absl::StatusOr<std::string> text = ReadFile(source.path);
  if (!text.ok()) {
    return MakeError(text.status().code(), kDatasetInvalid, std::string(text.status().message()));
  }
  std::vector<std::string> documents;
  if (source.path.ends_with(".jsonl")) {
    std::istringstream lines(*text);
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string where = source.path + ": line " + std::to_string(number);
      ASSIGN_OR_RETURN(const nlohmann::json value, Json(line, where));
      ASSIGN_OR_RETURN(std::string document, DocumentOf(value, source, where));
      documents.push_back(std::move(document));
    }
  } else if (source.path.ends_with(".json")) {
    ASSIGN_OR_RETURN(const nlohmann::json value, Json(*text, source.path));
    if (!value.is_array()) return Invalid(kDatasetInvalid, source.path + ": not a JSON array");
    for (size_t i = 0; i < value.size(); ++i) {
      ASSIGN_OR_RETURN(
          std::string document,
          DocumentOf(value[i], source, source.path + ": element " + std::to_string(i)));
      documents.push_back(std::move(document));
    }
  } else if (source.rows == TextRows::kWhole) {
    documents.push_back(*std::move(text));
  } else {
    documents = Rows(*text, source.rows);
  }
  if (source.max_documents > 0 && static_cast<int64_t>(documents.size()) > source.max_documents) {
    documents.resize(static_cast<size_t>(source.max_documents));
  }
  const bool has_text = std::any_of(documents.begin(), documents.end(), [](const auto& document) {
    return document.find_first_not_of(" \t\r\n") != std::string::npos;
  });
  if (!has_text) return Invalid(kDatasetInvalid, source.path + ": no text in it");
  return documents;
}

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
      continue;
    }
    TextWindows windows{HeldOutName(source.text, texts > 1, names), {}, 0, true};
    RETURN_IF_ERROR(DrawText(source.text, spec, shares[i], seed, held_out, tokenizer,
                             data.calibration, windows.windows));
    if (windows.windows.count() > 0) data.held_out.push_back(std::move(windows));
  }
  return data;
}

absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer) {
  ASSIGN_OR_RETURN(const std::vector<std::string> documents, LoadDocuments(spec.text));
  TextWindows data;
  data.name = spec.name;
  const int64_t limit = spec.limit > 0 ? spec.limit : INT64_MAX;
  if (spec.text.packing == Packing::kDocuments) {
    AppendDocuments(documents, 0, limit, spec.seq_len, tokenizer, data.windows);
  } else {
    const std::vector<int32_t> ids = EncodeJoined(documents, tokenizer);
    const int64_t total = static_cast<int64_t>(ids.size());
    const int64_t length = std::min(spec.seq_len, total);
    const int64_t whole = total < 2 ? 0 : total / length;
    for (int64_t i = 0; i < std::min(whole, limit); ++i) {
      data.windows.Append(std::span<const int32_t>(ids).subspan(static_cast<size_t>(i * length),
                                                                static_cast<size_t>(length)));
    }
    data.leftover_tokens = total - whole * length;
  }
  if (data.windows.count() == 0) {
    return Invalid(kDatasetInvalid, spec.text.path + ": fewer than two tokens");
  }
  return data;
}

}  // namespace svdllm
