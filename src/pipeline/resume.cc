#include "pipeline/resume.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "base/build_id.h"
#include "base/digest.h"
#include "base/utf8.h"
#include "compress/kl_probe.h"
#include "compress/layers.h"
#include "report/figures_json.h"

namespace svdllm {
namespace {

using Json = nlohmann::json;

// The files of a model by what they are called in errors: "model model-00001-of-00002.safetensors".
absl::Status AddModel(const Checkpoint& checkpoint, const std::string& what,
                      std::map<std::string, std::string>& files) {
  const auto add = [&](const std::string& path) {
    files[what + " " + path.substr(path.rfind('/') + 1)] = path;
  };
  for (const std::string& path : checkpoint.WeightFiles()) add(path);
  ASSIGN_OR_RETURN(const std::vector<SideFile> side_files, checkpoint.SideFiles());
  for (const SideFile& file : side_files) files[what + " " + file.name] = file.path;
  return absl::OkStatus();
}

void AddMeasured(const MeasureSpec& measure, std::map<std::string, std::string>& files) {
  for (const PerplexitySpec& text : measure.texts) files["text of " + text.name] = text.text.path;
  for (const TaskSpec& task : measure.tasks) {
    files["dataset of " + task.name] = task.path;
    if (!task.labels_path.empty()) files["labels of " + task.name] = task.labels_path;
    if (!task.fewshot_path.empty()) files["examples of " + task.name] = task.fewshot_path;
  }
}

std::string TextOf(const MeasureSpec& measure) {
  return MeasureJson(measure).dump(-1, ' ', false,
                                   nlohmann::ordered_json::error_handler_t::replace);
}

std::map<std::string, std::string> ProgramOf(const Backend& backend) {
  return {{"build", BuildId()}, {"device", backend.Name()}};
}

absl::StatusOr<Journal> Open(const std::string& dir, int64_t attempt,
                             const JournalIdentity& identity, const RunHooks& hooks) {
  const auto check = [&hooks] { return hooks.check ? hooks.check() : absl::OkStatus(); };
  ASSIGN_OR_RETURN(Journal journal, Journal::Open(dir, std::to_string(attempt), identity, check));
  if (!journal.started_over().empty() && hooks.note) {
    hooks.note("what an earlier attempt had finished is computed again, because " +
               journal.started_over());
  }
  return journal;
}

// JSON has no words for what is not finite.
Json NumberJson(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double NumberFrom(const Json& json) {
  if (json.is_number()) return json.get<double>();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (json == "inf") return kInfinity;
  return json == "-inf" ? -kInfinity : std::numeric_limits<double>::quiet_NaN();
}

Json NumbersJson(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(NumberJson(value));
  return list;
}

std::vector<double> NumbersFrom(const Json& list) {
  std::vector<double> values;
  for (const Json& value : list) values.push_back(NumberFrom(value));
  return values;
}

Json AnswerJson(const Answer& answer) {
  Json json = {{"log_likelihoods", NumbersJson(answer.log_likelihoods)},
               {"scores", NumbersJson(answer.scores)}};
  if (IsValidUtf8(answer.text)) {
    json["text"] = answer.text;
  } else {
    json["bytes"] = std::vector<unsigned char>(answer.text.begin(), answer.text.end());
  }
  return json;
}

Answer AnswerFrom(const Json& json) {
  Answer answer{NumbersFrom(json.at("log_likelihoods")), json.value("text", ""),
                NumbersFrom(json.at("scores"))};
  for (const Json& byte : json.value("bytes", Json::array())) {
    answer.text.push_back(static_cast<char>(byte.get<unsigned char>()));
  }
  return answer;
}

Json MeasuredJson(const Measured& measured) {
  Json losses = Json::array(), answers = Json::array();
  for (const WindowLosses& text : measured.losses) {
    losses.push_back({{"nll", NumbersJson(text.nll)},
                      {"predicted", text.predicted},
                      {"ids_hash", text.ids_hash}});
  }
  for (const std::vector<Answer>& task : measured.answers) {
    Json& list = answers.emplace_back(Json::array());
    for (const Answer& answer : task) list.push_back(AnswerJson(answer));
  }
  return {{"figures", Json(FiguresJson(measured.figures))},
          {"losses", std::move(losses)},
          {"answers", std::move(answers)}};
}

Measured MeasuredFrom(const Json& json) {
  Measured measured;
  measured.figures = FiguresFrom(nlohmann::ordered_json(json.at("figures")));
  for (const Json& text : json.at("losses")) {
    measured.losses.push_back({NumbersFrom(text.at("nll")),
                               text.at("predicted").get<std::vector<int64_t>>(),
                               text.at("ids_hash").get<uint64_t>()});
  }
  for (const Json& task : json.at("answers")) {
    std::vector<Answer>& list = measured.answers.emplace_back();
    for (const Json& answer : task) list.push_back(AnswerFrom(answer));
  }
  return measured;
}

template <typename T>
void Move(std::vector<T>& from, std::vector<T>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

// In the order in which they are measured.
std::vector<MeasureJob> PartsOf(const MeasureJob& what) {
  std::vector<MeasureJob> parts;
  if (what.throughput.any()) parts.emplace_back().throughput = what.throughput;
  for (const TextWindows& text : what.texts) parts.emplace_back().texts.push_back(text);
  for (const TaskData& task : what.tasks) parts.emplace_back().tasks.push_back(task);
  return parts;
}

}  // namespace

absl::StatusOr<Journal> OpenJournal(const CompressJob& job, const Backend& backend,
                                    const RunHooks& hooks) {
  const CompressSpec& spec = job.spec;
  if (spec.journal_dir.empty()) return Journal();
  JournalIdentity identity;
  RETURN_IF_ERROR(AddModel(job.checkpoint, "model", identity.files));
  AddMeasured(spec.measure, identity.files);
  const CalibrationSpec& calibration = spec.calibration;
  identity.parameters = {
      {"model's config.json", Sha256(job.checkpoint.config_text())},
      {"method", MethodName(spec.method)},
      {"allocation", AllocationName(spec.allocation)},
      {"encoding", EncodingName(spec.encoding)},
      {"output_format", OutputFormatName(spec.output_format)},
      {"rank_multiple", std::to_string(spec.rank_multiple)},
      {"min_keep_ratio", fmt::format("{}", spec.min_keep_ratio)},
      {"asvd_alpha", fmt::format("{}", spec.asvd_alpha)},
      {"anchor_blend", fmt::format("{}", spec.anchor_blend)},
      {"anchor_ridge", fmt::format("{}", spec.anchor_ridge)},
      {"calibration",
       fmt::format("{} of {} from {}, seed {}", calibration.samples, calibration.seq_len,
                   calibration.first_document, calibration.seed)},
      {"evaluation", TextOf(spec.measure)},
  };
  identity.program = ProgramOf(backend);
  return Open(spec.journal_dir, spec.attempt, identity, hooks);
}

absl::StatusOr<Journal> OpenJournal(const EvaluateJob& job, const Backend& backend,
                                    const RunHooks& hooks) {
  if (job.spec.journal_dir.empty()) return Journal();
  JournalIdentity identity;
  for (const Subject& subject : job.models) {
    const std::string what = &subject == &job.model() ? "model" : "baseline";
    RETURN_IF_ERROR(AddModel(subject.checkpoint, what, identity.files));
    AddMeasured(subject.measure, identity.files);
    identity.parameters[what + "'s config.json"] = Sha256(subject.checkpoint.config_text());
    identity.parameters["tasks of the " + what] = TextOf(subject.measure);
  }
  identity.program = ProgramOf(backend);
  return Open(job.spec.journal_dir, job.spec.attempt, identity, hooks);
}

ModelSampler KeptSampler(Journal& journal, ModelSampler sampler) {
  if (!journal.keeps()) return sampler;
  auto calls = std::make_shared<int64_t>(0);
  return [&journal, sampler = std::move(sampler), calls](
             int64_t count, int64_t seq_len, uint64_t seed) -> absl::StatusOr<Sequences> {
    constexpr char kSeries[] = "samples", kIds[] = "ids";
    const int64_t number = (*calls)++;
    ASSIGN_OR_RETURN(const std::vector<JournalRecord> records, journal.Load(kSeries));
    if (number < static_cast<int64_t>(records.size())) {
      const std::string& path = records[static_cast<size_t>(number)].files.at(kIds);
      ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
      ASSIGN_OR_RETURN(const TensorView stored, file.Get(kIds));
      std::vector<int32_t> ids(static_cast<size_t>(stored.elements()));
      ConvertElements(stored.bytes.data(), stored.dtype, ids.data(), DType::kI32, ids.size());
      Sequences sequences;
      for (size_t s = 0; s < static_cast<size_t>(stored.shape[0]); ++s) {
        const auto length = static_cast<size_t>(stored.shape[1]);
        sequences.Append(std::span<const int32_t>(ids).subspan(s * length, length));
      }
      return sequences;
    }
    ASSIGN_OR_RETURN(Sequences sequences, sampler(count, seq_len, seed));
    RETURN_IF_ERROR(
        journal.Write(kSeries, number, kIds, Journal::Needed::kAlways,
                      {{kIds, DType::kI32, {count, seq_len}}}, [&](SafetensorsWriter& writer) {
                        return writer.Write(kIds, std::as_bytes(std::span(sequences.ids)));
                      }));
    RETURN_IF_ERROR(journal.Commit(kSeries, number, Json::object()));
    return sequences;
  };
}

std::string DigestOfTokens(const Sequences& calibration, const MeasureJob& measure) {
  const auto bytes = [](const auto& values) {
    const auto view = std::as_bytes(std::span(values));
    return std::string_view(reinterpret_cast<const char*>(view.data()), view.size());
  };
  std::string digests = Sha256(bytes(calibration.ids)) + Sha256(bytes(calibration.offsets));
  for (const TextWindows& text : measure.texts) {
    digests += Sha256(bytes(text.windows.ids)) + Sha256(bytes(text.windows.offsets));
  }
  return Sha256(digests);
}

int64_t JournalBytes(const CompressJob& job, int64_t factor_bytes) {
  const auto& [spec, checkpoint, linears] = job;
  const MethodRow& method = RowOf(spec.method);
  const AllocationRow& allocation = RowOf(spec.allocation);
  const int64_t hidden = checkpoint.config().hidden_size;
  const auto ratios = static_cast<int64_t>(spec.keep_ratios.size());
  const bool reads = method.statistic != Statistic::kNone;
  const int64_t tokens = reads ? spec.calibration.samples * spec.calibration.seq_len : 0;
  const int64_t stream_bytes = 4 * tokens * hidden;
  // While a generation is written, the two before it are still there.
  constexpr int64_t kGenerations = 3;
  const int64_t layers_bytes =
      factor_bytes +
      kGenerations * stream_bytes * (1 + ratios * WayOf(spec.method).streams_per_ratio);
  if (!allocation.needs_spectra) return layers_bytes;
  int64_t spectra_bytes = 0;
  for (const LinearLayer& linear : linears) spectra_bytes += 8 * std::min(linear.rows, linear.cols);
  int64_t probe_bytes = 0;
  if (allocation.probes) {
    const auto count = static_cast<int64_t>(linears.size());
    probe_bytes = 4 * KlProbe::Tokens(tokens, hidden, count) * hidden * (1 + ratios * count);
  }
  // The layers' records begin when those of the spectra are gone.
  return std::max(layers_bytes, spectra_bytes + kGenerations * (stream_bytes + probe_bytes));
}

absl::StatusOr<Measured> MeasureKept(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                     const MeasureJob& what, Backend& backend, Progress& progress,
                                     Journal& journal, const std::string& series) {
  if (!journal.keeps()) return Measure(checkpoint, tokenizer, what, backend, progress);
  const std::string name = "measured-" + series;
  ASSIGN_OR_RETURN(const std::vector<JournalRecord> records, journal.Load(name));
  Measured all;
  const std::vector<MeasureJob> parts = PartsOf(what);
  for (size_t p = 0; p < parts.size(); ++p) {
    Measured part;
    if (p < records.size()) {
      part = MeasuredFrom(records[p].facts);
      progress.Skip(MeasureFlops(checkpoint, parts[p]));
    } else {
      ASSIGN_OR_RETURN(part, Measure(checkpoint, tokenizer, parts[p], backend, progress));
      RETURN_IF_ERROR(journal.Commit(name, static_cast<int64_t>(p), MeasuredJson(part)));
      RETURN_IF_ERROR(progress.Kept());
    }
    Move(part.figures.perplexities, all.figures.perplexities);
    Move(part.figures.tasks, all.figures.tasks);
    Move(part.figures.throughputs, all.figures.throughputs);
    Move(part.losses, all.losses);
    Move(part.answers, all.answers);
  }
  return all;
}

}  // namespace svdllm
