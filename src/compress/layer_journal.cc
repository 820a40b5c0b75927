#include "compress/layer_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

namespace svdllm {
namespace {

using Json = nlohmann::json;
constexpr char kSeries[] = "layers", kDense[] = "dense";

// JSON has no word for what is no number.
double RealOf(const Json& json) {
  return json.is_number() ? json.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

Json ToJson(const MatrixReport& report) {
  return {{"name", report.name},
          {"rows", report.rows},
          {"cols", report.cols},
          {"rank", report.rank},
          {"relative_loss", report.relative_loss},
          {"optimum_loss", report.optimum_loss},
          {"rounding_excess", report.rounding_excess},
          {"spectrum", report.spectrum}};
}

MatrixReport ReportOf(const Json& json) {
  MatrixReport report{json.at("name").get<std::string>(), json.at("rows").get<int64_t>(),
                      json.at("cols").get<int64_t>(), json.at("rank").get<int64_t>()};
  report.relative_loss = RealOf(json.at("relative_loss"));
  report.optimum_loss = RealOf(json.at("optimum_loss"));
  report.rounding_excess = RealOf(json.at("rounding_excess"));
  for (const Json& value : json.at("spectrum")) {
    report.spectrum.push_back(static_cast<float>(RealOf(value)));
  }
  return report;
}

// The tensors of a file of factors: names as StoredFactors has them.
std::vector<TensorSpec> SpecsOf(const StoredFactors& factors, const LinearLayer& linear,
                                int64_t rank, DType dtype) {
  if (!factors.weight.empty()) return {{"weight", dtype, {linear.rows, linear.cols}}};
  const int64_t own_rows = factors.order.empty() ? linear.rows : linear.rows - rank;
  std::vector<TensorSpec> specs = {{"a", dtype, {rank, linear.cols}},
                                   {"b", dtype, {own_rows, rank}}};
  if (!factors.order.empty()) {
    specs.push_back({"order", DType::kI32, {static_cast<int64_t>(factors.order.size())}});
  }
  return specs;
}

absl::Status BadRecord(const std::string& what) {
  return MakeError(absl::StatusCode::kFailedPrecondition, kCheckpointMismatch,
                   "resume: what an earlier attempt kept of " + what +
                       " does not fit this job; submit it again");
}

absl::StatusOr<SafetensorsFile> OpenRole(const JournalRecord& record, const std::string& role) {
  const auto file = record.files.find(role);
  if (file == record.files.end()) return BadRecord(role);
  return SafetensorsFile::Open(file->second);
}

// The numbers of a file of activations, which must be as many as are wanted.
absl::StatusOr<TensorView> RowsOf(const SafetensorsFile& file, const std::string& role,
                                  int64_t rows, int64_t cols) {
  ASSIGN_OR_RETURN(TensorView x, file.Get("x"));
  if (x.dtype != DType::kF32 || x.shape != std::vector<int64_t>{rows, cols}) return BadRecord(role);
  return x;
}

}  // namespace

absl::Status KeepStream(Journal& journal, const std::string& series, int64_t number,
                        const std::string& role, const ResidualStream& stream) {
  const std::vector<TensorSpec> specs = {{"x", DType::kF32, {stream.rows(), stream.cols()}}};
  return journal.Write(
      series, number, role, Journal::Needed::kByTheNext, specs, [&](SafetensorsWriter& writer) {
        return stream.Read([&](int64_t first, std::span<const float> piece) {
          const int64_t offset = first * stream.cols() * static_cast<int64_t>(sizeof(float));
          return writer.WritePart("x", offset, std::as_bytes(piece));
        });
      });
}

absl::StatusOr<ResidualStream> TakeStream(const CompressRun& run, const JournalRecord& record,
                                          const std::string& role) {
  const int64_t tokens = run.calibration.tokens();
  const int64_t hidden = run.checkpoint.config().hidden_size;
  ASSIGN_OR_RETURN(const SafetensorsFile stored, OpenRole(record, role));
  ASSIGN_OR_RETURN(const TensorView x, RowsOf(stored, role, tokens, hidden));
  return ResidualStream::Of(x.bytes, tokens, hidden, run.placement.host_streams, run.backend);
}

absl::Status KeepRows(Journal& journal, const std::string& series, int64_t number,
                      const std::string& role, MatrixRef rows, Backend& backend) {
  constexpr int64_t kPiece = 1024;
  return journal.Write(
      series, number, role, Journal::Needed::kByTheNext,
      {{"x", DType::kF32, {rows.rows, rows.cols}}}, [&](SafetensorsWriter& writer) -> absl::Status {
        std::vector<float> piece;
        for (int64_t first = 0; first < rows.rows; first += kPiece) {
          const int64_t count = std::min(kPiece, rows.rows - first);
          piece.resize(static_cast<size_t>(count * rows.cols));
          RETURN_IF_ERROR(backend.Download(rows.Rows(first, count), piece.data(), DType::kF32));
          const int64_t offset = first * rows.cols * static_cast<int64_t>(sizeof(float));
          RETURN_IF_ERROR(writer.WritePart("x", offset, std::as_bytes(std::span(piece))));
        }
        return absl::OkStatus();
      });
}

absl::Status TakeRows(const JournalRecord& record, const std::string& role, MatrixRef rows,
                      Backend& backend) {
  ASSIGN_OR_RETURN(const SafetensorsFile stored, OpenRole(record, role));
  ASSIGN_OR_RETURN(const TensorView x, RowsOf(stored, role, rows.rows, rows.cols));
  return backend.Upload(x.bytes.data(), DType::kF32, rows);
}

LayerJournal::LayerJournal(const CompressRun& run, std::span<const FactorSink> sinks,
                           double layer_work)
    : run_(run),
      originals_(sinks),
      layer_work_(layer_work),
      sinks_(sinks.begin(), sinks.end()),
      reports_(sinks.size()),
      committed_(sinks.size()) {
  if (run.journal == nullptr) return;
  for (size_t s = 0; s < sinks_.size(); ++s) {
    sinks_[s].write = [this, s](size_t linear, const StoredFactors& factors) {
      RETURN_IF_ERROR(KeepFactors(s, linear, factors));
      return originals_[s].write ? originals_[s].write(linear, factors) : absl::OkStatus();
    };
  }
}

std::string LayerJournal::RatioOf(size_t sink) const {
  return RatioName(run_.spec.keep_ratios[sink]);
}

absl::Status LayerJournal::KeepFactors(size_t sink, size_t linear, const StoredFactors& factors) {
  const LinearLayer& layer = run_.linears[linear];
  ASSIGN_OR_RETURN(const TensorSpec source, run_.checkpoint.Spec(layer.name + ".weight"));
  return run_.journal->Write(
      kSeries, layer.layer, fmt::format("{}/{}", RatioOf(sink), linear), Journal::Needed::kAlways,
      SpecsOf(factors, layer, sinks_[sink].ranks[linear], source.dtype),
      [&](SafetensorsWriter& writer) -> absl::Status {
        if (!factors.weight.empty()) return writer.Write("weight", factors.weight);
        RETURN_IF_ERROR(writer.Write("a", factors.a));
        RETURN_IF_ERROR(writer.Write("b", factors.b));
        if (factors.order.empty()) return absl::OkStatus();
        return writer.Write("order", std::as_bytes(std::span(factors.order)));
      });
}

absl::Status LayerJournal::RestoreFactors(const JournalRecord& record, size_t sink, size_t linear) {
  ASSIGN_OR_RETURN(const SafetensorsFile stored,
                   OpenRole(record, fmt::format("{}/{}", RatioOf(sink), linear)));
  StoredFactors factors;
  const auto take = [&stored](const std::string& name, auto& to) -> absl::Status {
    if (!stored.Has(name)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const TensorView tensor, stored.Get(name));
    using Element = typename std::remove_reference_t<decltype(to)>::value_type;
    to.resize(tensor.bytes.size() / sizeof(Element));
    std::memcpy(to.data(), tensor.bytes.data(), to.size() * sizeof(Element));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(take("a", factors.a));
  RETURN_IF_ERROR(take("b", factors.b));
  RETURN_IF_ERROR(take("order", factors.order));
  RETURN_IF_ERROR(take("weight", factors.weight));
  // The writer checks the sizes against the artifact's layout.
  return originals_[sink].write ? originals_[sink].write(linear, factors) : absl::OkStatus();
}

absl::Status LayerJournal::RestoreLayer(const JournalRecord& record) {
  for (size_t s = 0; s < sinks_.size(); ++s) {
    const auto reports = record.facts.find(RatioOf(s));
    if (reports == record.facts.end()) return BadRecord("keep ratio " + RatioOf(s));
    for (const Json& json : *reports) reports_[s].push_back(ReportOf(json));
    committed_[s] = reports_[s].size();
    for (const size_t i : LinearsOf(run_.linears, record.number)) {
      if (sinks_[s].ranks[i] > 0) RETURN_IF_ERROR(RestoreFactors(record, s, i));
    }
  }
  run_.progress.LayerSkipped();
  return run_.progress.Check();
}

absl::StatusOr<int64_t> LayerJournal::Restore() {
  if (run_.journal == nullptr) return 0;
  ASSIGN_OR_RETURN(std::vector<JournalRecord> records, run_.journal->Load(kSeries));
  if (records.empty()) return 0;
  run_.progress.Enter("load");
  for (const JournalRecord& record : records) RETURN_IF_ERROR(RestoreLayer(record));
  const auto done = static_cast<int64_t>(records.size());
  run_.progress.Skip(layer_work_ * static_cast<double>(done));
  restored_ = std::move(records.back());
  RETURN_IF_ERROR(
      run_.progress.Step(0, "", fmt::format("{} layers taken over from an earlier attempt", done)));
  return done;
}

absl::StatusOr<ResidualStream> LayerJournal::Stream(const std::string& role) const {
  if (!restored_ || restored_->number + 1 == run_.checkpoint.config().num_layers) {
    return ResidualStream();
  }
  return TakeStream(run_, *restored_, role);
}

absl::StatusOr<ResidualStream> LayerJournal::DenseStream() const {
  // A method that reads no inputs has none.
  if (RowOf(run_.spec.method).statistic == Statistic::kNone) return ResidualStream();
  return Stream(kDense);
}

absl::StatusOr<ResidualStream> LayerJournal::CompressedStream(size_t sink) const {
  return Stream(RatioOf(sink));
}

absl::Status LayerJournal::Keep(int64_t layer, const std::string& role,
                                const ResidualStream& stream) {
  // Nothing comes behind the last layer.
  const bool last = layer + 1 == run_.checkpoint.config().num_layers;
  if (run_.journal == nullptr || last || stream.empty()) return absl::OkStatus();
  return KeepStream(*run_.journal, kSeries, layer, role, stream);
}

absl::Status LayerJournal::KeepDense(int64_t layer, const ResidualStream& stream) {
  return Keep(layer, kDense, stream);
}

absl::Status LayerJournal::KeepCompressed(int64_t layer, size_t sink,
                                          const ResidualStream& stream) {
  return Keep(layer, RatioOf(sink), stream);
}

absl::Status LayerJournal::LayerDone(int64_t layer) {
  if (run_.journal != nullptr) {
    Json facts = Json::object();
    for (size_t s = 0; s < sinks_.size(); ++s) {
      Json& own = facts[RatioOf(s)] = Json::array();
      for (size_t i = committed_[s]; i < reports_[s].size(); ++i) {
        own.push_back(ToJson(reports_[s][i]));
      }
      committed_[s] = reports_[s].size();
    }
    RETURN_IF_ERROR(run_.journal->Commit(kSeries, layer, std::move(facts)));
  }
  run_.progress.LayerDone();
  RETURN_IF_ERROR(run_.progress.Step(
      0, "", fmt::format("layer {}/{} done", layer + 1, run_.checkpoint.config().num_layers)));
  return run_.journal != nullptr ? run_.progress.Kept() : absl::OkStatus();
}

}  // namespace svdllm
