#include "report/card_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/format.h"
#include "report/damage.h"
#include "report/escape.h"
#include "report/names.h"
#include "report/side_by_side.h"

namespace svdllm {
namespace {

// In one unit whatever the size: cards of several artifacts are compared, by programs too.
std::string Millions(int64_t count) {
  return fmt::format("{:.2f} M", static_cast<double>(count) / 1e6);
}
std::string Megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

constexpr char kNoLicence[] = "license: other";

// Whether the tokenizer that goes into the artifact is a SentencePiece file and nothing else.
bool HasOnlySentencePiece(const Checkpoint& source) {
  const absl::StatusOr<std::vector<SideFile>> files = source.SideFiles();
  if (!files.ok()) return false;
  const auto has = [&files](const char* name) {
    return std::any_of(files->begin(), files->end(),
                       [name](const SideFile& file) { return file.name == name; });
  };
  return has("tokenizer.model") && !has("tokenizer.json");
}

// The licence that the source's own card declares, as a line of a card's header. The card is
// anybody's: of its line the value is taken, and written as a text.
std::string LicenceLine(const Checkpoint& source) {
  const absl::StatusOr<std::string> card = ReadFile(source.dir() + "/README.md", 1 << 20);
  if (!card.ok() || card->rfind("---", 0) != 0) return kNoLicence;
  const size_t begin = card->find("\nlicense:");
  const size_t end = card->find("\n---", 3);
  if (begin == std::string::npos || end == std::string::npos || begin > end) return kNoLicence;
  const size_t value = begin + std::string_view("\nlicense:").size();
  std::string licence = card->substr(value, card->find('\n', value) - value);
  licence.resize(std::min(licence.find(" #"), licence.size()));  // a comment
  const auto strip = [&licence](std::string_view characters) {
    licence.erase(0, licence.find_first_not_of(characters));
    licence.resize(licence.find_last_not_of(characters) + 1);  // npos + 1 is 0
  };
  strip(" \t\r");
  strip("\"'");
  return licence.empty() ? kNoLicence : "license: " + YamlScalar(licence);
}

std::string ChangeOf(const std::vector<Comparison>& comparisons, const std::string& name,
                     const std::string& metric) {
  const Comparison* const found = FindComparison(comparisons, name, metric);
  return found == nullptr ? "–" : ChangeText(*found);
}

// Texts and tasks that were put to both models stand in the same places of both lists.
Data PerplexityRows(const Figures& before, const Figures& after,
                    const std::vector<Comparison>& comparisons) {
  constexpr const char* kMetric = Comparison::kPerplexityMetric;
  DataList rows;
  for (size_t i = 0; i < after.perplexities.size() && i < before.perplexities.size(); ++i) {
    const PerplexityResult &from = before.perplexities[i], &to = after.perplexities[i];
    rows.push_back(DataObject{{"name", from.name},
                              {"held_out", from.held_out},
                              {"windows", fmt::to_string(from.windows)},
                              {"tokens", fmt::to_string(from.predicted_tokens)},
                              {"before", WithError(from)},
                              {"after", WithError(to)},
                              {"change", ChangeOf(comparisons, to.name, kMetric)}});
  }
  return rows;
}

// A row a metric.
Data TaskRows(const std::vector<TaskResult>& before, const std::vector<TaskResult>& after,
              const std::vector<Comparison>& comparisons) {
  const auto text = [](const TaskMetric& metric) {
    return metric.std_error < 0 ? fmt::format("{:.3f}", metric.value)
                                : fmt::format("{:.3f} ± {:.3f}", metric.value, metric.std_error);
  };
  DataList rows;
  for (size_t t = 0; t < before.size() && t < after.size(); ++t) {
    for (size_t m = 0; m < before[t].metrics.size() && m < after[t].metrics.size(); ++m) {
      const TaskMetric &from = before[t].metrics[m], &to = after[t].metrics[m];
      rows.push_back(DataObject{{"name", before[t].name},
                                {"metric", from.name},
                                {"items", fmt::to_string(before[t].items)},
                                {"before", text(from)},
                                {"after", text(to)},
                                {"change", ChangeOf(comparisons, after[t].name, to.name)}});
    }
  }
  return rows;
}

Data RateData(const RateSummary& before, const RateSummary& after, int64_t rounds) {
  const RateSpread from{before.median, before.least, before.largest};
  const RateSpread to{after.median, after.least, after.largest};
  return DataObject{
      {"before", Rate(from)}, {"after", Rate(to)}, {"ratio", SpeedRatio(from, to, rounds)}};
}

// Of batch sizes that both models have.
Data SpeedData(const std::vector<ThroughputResult>& before,
               const std::vector<ThroughputResult>& after) {
  DataList batches;
  for (size_t i = 0; i < before.size() && i < after.size(); ++i) {
    const ThroughputResult &from = before[i], &to = after[i];
    batches.push_back(
        DataObject{{"batch_size", fmt::to_string(from.batch_size)},
                   {"prefill", RateData(from.prefill, to.prefill, to.repetitions)},
                   {"decode", RateData(from.decode, to.decode, to.repetitions)},
                   {"memory", SizeData(Megabytes, from.peak_memory_bytes, to.peak_memory_bytes)}});
  }
  if (batches.empty()) return Nothing();
  return DataObject{{"batches", batches},
                    {"prompt_tokens", fmt::to_string(before.front().prompt_tokens)},
                    {"new_tokens", fmt::to_string(before.front().new_tokens)},
                    {"rounds", fmt::to_string(before.front().repetitions)}};
}

// "60 % `wiki.txt` and 40 % the model's own samples"
Data SourcesData(const std::vector<CalibrationSource>& sources) {
  double total = 0;
  for (const CalibrationSource& source : sources) total += source.weight;
  DataList list;
  for (size_t i = 0; i < sources.size(); ++i) {
    const CalibrationSource& source = sources[i];
    list.push_back(DataObject{
        {"separator", i == 0                   ? ""
                      : i + 1 < sources.size() ? ", "
                                               : " and "},
        {"percent",
         sources.size() > 1 ? Data(fmt::format("{:.3g}", 100 * source.weight / total)) : Nothing()},
        {"text", source.model_samples ? Nothing() : Data(CodeSpan(BaseName(source.text.path)))}});
  }
  return list;
}

Data CalibrationData(const CompressSpec& spec, const CompressResult& job) {
  if (!ReadsInputs(RowOf(spec.method), RowOf(spec.allocation))) return Nothing();
  const std::vector<std::string>& warnings = job.calibration.warnings;
  return DataObject{{"samples", fmt::to_string(UsedSamples(spec, job))},
                    {"seq_len", fmt::to_string(spec.calibration.seq_len)},
                    {"seed", fmt::to_string(spec.calibration.seed)},
                    {"starts_windows", job.calibration.window_start == WindowStart::kWindow},
                    {"warnings", DataList(warnings.begin(), warnings.end())},
                    {"sources", SourcesData(spec.calibration.sources)}};
}

// matrices, dense and worst.
void SetMatrices(const std::vector<MatrixReport>& matrices, Data& card) {
  const MatrixReport* worst = nullptr;
  int64_t dense = 0;
  for (const MatrixReport& m : matrices) {
    if (m.rank == 0) ++dense;
    if (m.relative_loss > (worst ? worst->relative_loss : 0)) worst = &m;
  }
  card["matrices"] = fmt::to_string(matrices.size());
  card["dense"] = fmt::to_string(dense);
  card["worst"] = worst ? Data(DataObject{{"loss", fmt::format("{:.3g}", worst->relative_loss)},
                                          {"name", CodeSpan(worst->name)}})
                        : Nothing();
}

}  // namespace

Data CardData(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
              const ArtifactResult& artifact) {
  const std::string model = ModelName(spec.model_uri), hub_id = HubId(spec.model_uri);
  const std::string licence = LicenceLine(source);
  const std::vector<PerplexityResult>& texts = job.before.perplexities;
  const size_t shared = std::min(texts.size(), artifact.figures.perplexities.size());
  Data card = DataObject{{"model", model},
                         {"model_code", CodeSpan(model)},
                         {"base_model", hub_id.empty() ? Nothing() : Data(YamlScalar(hub_id))},
                         {"licence", licence},
                         {"has_licence", licence != kNoLicence},
                         {"version", SVDLLM_VERSION},
                         {"device", job.device}};
  card["method"] = DataObject{{"name", MethodName(spec.method)},
                              {"explanation", std::string(RowOf(spec.method).explanation)}};
  card["allocation"] = DataObject{{"name", AllocationName(spec.allocation)},
                                  {"explanation", std::string(RowOf(spec.allocation).explanation)}};
  card["encoding"] = DataObject{{"explanation", std::string(RowOf(spec.encoding).explanation)}};
  const bool factored = spec.output_format == OutputFormat::kFactored;
  card["factored"] = factored;
  card["one_process"] = factored && RowOf(spec.encoding).ordered;
  card["needs_sentencepiece"] = HasOnlySentencePiece(source);
  card["warnings"] = DataList(artifact.warnings.begin(), artifact.warnings.end());
  card["rejected"] = artifact.rejected()
                         ? Data(DataObject{{"list", DataList(artifact.verdict->regressions.begin(),
                                                             artifact.verdict->regressions.end())}})
                         : Nothing();
  card["keep_ratio"] = fmt::format("{:.4g}", artifact.keep_ratio);
  card["kept_percent"] = fmt::format("{:.4g}", 100 * artifact.keep_ratio);
  card["parameters"] = SizeData(Millions, job.parameters, artifact.parameters);
  card["linears"] = SizeData(Millions, job.target_parameters, artifact.compressed_parameters);
  card["weights"] = SizeData(Megabytes, job.weight_bytes, artifact.weight_bytes);
  card["perplexities"] = PerplexityRows(job.before, artifact.figures, artifact.comparisons);
  card["any_held_out"] = std::any_of(texts.begin(), texts.begin() + static_cast<ptrdiff_t>(shared),
                                     [](const PerplexityResult& p) { return p.held_out; });
  card["any_compared"] = !artifact.comparisons.empty();
  card["measures_perplexity"] = !artifact.figures.perplexities.empty();
  card["tasks"] = TaskRows(job.before.tasks, artifact.figures.tasks, artifact.comparisons);
  card["speed"] = SpeedData(job.before.throughputs, artifact.figures.throughputs);
  card["calibration"] = CalibrationData(spec, job);
  SetMatrices(artifact.matrices, card);
  return card;
}

}  // namespace svdllm
