#include "compress/matrix.h"

#include <fmt/format.h>

#include <cmath>

#include "compress/cost.h"

namespace svdllm {
namespace {

// Below this share of a matrix's whole energy a loss is rounding, and a ratio to it says nothing.
constexpr double kNoLoss = 1e-12;

// x to the bytes that are stored, and back to F64 as what they then say.
absl::StatusOr<Matrix> Round(MatrixRef x, DType dtype, std::vector<std::byte>& bytes,
                             Backend& backend) {
  if (backend.Computes()) bytes.resize(static_cast<size_t>(x.size()) * SizeOf(dtype));
  RETURN_IF_ERROR(backend.Download(x, bytes.data(), dtype));
  ASSIGN_OR_RETURN(Matrix rounded, backend.New(x.rows, x.cols, DType::kF64));
  RETURN_IF_ERROR(backend.Upload(bytes.data(), dtype, rounded));
  return rounded;
}

// As a weight that is stored in this type.
absl::StatusOr<Matrix> AsWeight(MatrixRef x, DType stored, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix weight, NewWeight(x.rows, x.cols, stored, backend));
  RETURN_IF_ERROR(backend.Copy(x, weight));
  return weight;
}

// MatrixReport::spectrum.
std::vector<float> Spectrum(const Decomposition& d, int64_t order) {
  const double total = d.Tail(0);
  if (!(total > 0)) return {};
  std::vector<float> spectrum;
  for (int64_t i = 0; i < kSpectrumPoints; ++i) {
    const int64_t rank = (i * order + (kSpectrumPoints - 1) / 2) / (kSpectrumPoints - 1);
    spectrum.push_back(static_cast<float>(std::sqrt(d.Tail(rank) / total)));
  }
  return spectrum;
}

// Encodes and rounds; returns the factors as they are stored.
absl::StatusOr<Factors> Store(const CompressRun& run, const MatrixJob& job, DType dtype,
                              Factors factors, const FactorSink& sink) {
  Backend& backend = run.backend;
  const EncodingRow& encoding = RowOf(run.spec.encoding);
  StoredFactors stored;
  ASSIGN_OR_RETURN(factors, encoding.encode(std::move(factors), backend));
  ASSIGN_OR_RETURN(factors.a, Round(factors.a, dtype, stored.a, backend));
  if (encoding.refit != nullptr) {
    RETURN_IF_ERROR(encoding.refit(job.decomposition.w, job.metric, factors, backend));
  }
  ASSIGN_OR_RETURN(factors.b, Round(factors.b, dtype, stored.b, backend));
  stored.order = factors.order;
  if (sink.write) RETURN_IF_ERROR(sink.write(job.linear, stored));
  return factors;
}

// The product in the factors' place; returns it as it is stored.
absl::StatusOr<Matrix> StoreProduct(const CompressRun& run, const MatrixJob& job, DType dtype,
                                    MatrixRef product, const FactorSink& sink) {
  StoredFactors stored;
  ASSIGN_OR_RETURN(Matrix rounded, Round(product, dtype, stored.weight, run.backend));
  if (sink.write) RETURN_IF_ERROR(sink.write(job.linear, stored));
  return rounded;
}

absl::Status CheckLosses(const MatrixJob& job, const LinearLayer& linear, bool is_optimum,
                         double exact, double stored, DType dtype) {
  if (!std::isfinite(stored)) {
    return MakeError(
        absl::StatusCode::kInternal, kNumericalFailure,
        "factorise: " + linear.name + ": the factors overflow " + std::string(DTypeName(dtype)));
  }
  const double total = job.decomposition.Tail(0), tail = job.decomposition.Tail(job.rank);
  if (is_optimum && std::fabs(std::max(exact, 0.0) - tail) > 1e-6 * tail + 1e-10 * total) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     fmt::format("factorise: {}: loss {} of the factors against {} from the "
                                 "eigenvalues",
                                 linear.name, exact, tail));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SetFactors(const Factors& factors, DType stored, Linear& linear, Backend& backend) {
  linear.w = Matrix();
  ASSIGN_OR_RETURN(linear.a, AsWeight(factors.a, stored, backend));
  ASSIGN_OR_RETURN(linear.b, AsWeight(factors.b, stored, backend));
  if (!factors.pivoted()) return absl::OkStatus();
  ASSIGN_OR_RETURN(linear.order, PivotedOrder(factors.order, factors.a.rows(), backend));
  return absl::OkStatus();
}

absl::Status SkipWork(const CompressRun& run, double times) {
  const Architecture& arch = run.checkpoint.arch();
  return run.progress.Step(DecomposeFlops(run.checkpoint.config(), arch) * times /
                           static_cast<double>(arch.linears.size()));
}

MatrixReport DenseReport(const LinearLayer& linear) {
  return {linear.name, linear.rows, linear.cols, 0};
}

absl::StatusOr<MatrixReport> CompressMatrix(const CompressRun& run, const MatrixJob& job,
                                            const FactorSink& sink, Linear& module) {
  Backend& backend = run.backend;
  const MethodRow& method = RowOf(run.spec.method);
  const LinearLayer& linear = run.linears[job.linear];
  const Decomposition& d = job.decomposition;
  MatrixReport report{linear.name, linear.rows, linear.cols, job.rank};
  if (method.statistic == Statistic::kGram) report.optimum_loss = std::sqrt(d.Tail(job.rank));
  report.spectrum = Spectrum(d, std::min(linear.rows, linear.cols));
  ASSIGN_OR_RETURN(const TensorSpec source, run.checkpoint.Spec(linear.name + ".weight"));

  ASSIGN_OR_RETURN(CutFactors cut, method.cut(d, job.rank, job.metric, backend));
  report.relative_loss = cut.relative_loss;
  const bool sampled = job.metric.output_gram.data != nullptr;
  const auto loss = [&](MatrixRef approximation) {
    return sampled ? SampledLoss(d, approximation, job.sample, backend)
                   : ResidualLoss(d, approximation, job.metric, backend);
  };
  ASSIGN_OR_RETURN(Matrix product, Multiply(cut.factors, backend));
  ASSIGN_OR_RETURN(const double exact_loss, loss(product));
  if (run.spec.output_format == OutputFormat::kFactored) {
    product = Matrix();  // first give it back
    ASSIGN_OR_RETURN(const Factors factors,
                     Store(run, job, source.dtype, std::move(cut.factors), sink));
    RETURN_IF_ERROR(SetFactors(factors, source.dtype, module, backend));
    ASSIGN_OR_RETURN(product, Multiply(factors, backend));
  } else {
    ASSIGN_OR_RETURN(product, StoreProduct(run, job, source.dtype, product, sink));
    ASSIGN_OR_RETURN(module.w, AsWeight(product, source.dtype, backend));
  }
  ASSIGN_OR_RETURN(const double stored_loss, loss(product));
  const bool is_optimum = method.prefix != Prefix::kRefit && !sampled;
  RETURN_IF_ERROR(CheckLosses(job, linear, is_optimum, exact_loss, stored_loss, source.dtype));
  if (exact_loss > kNoLoss * d.Tail(0)) report.rounding_excess = stored_loss / exact_loss - 1;
  const ModelConfig& config = run.checkpoint.config();
  const Architecture& arch = run.checkpoint.arch();
  RETURN_IF_ERROR(run.progress.Step(
      DecomposeFlops(config, arch) * kFactorShare / static_cast<double>(arch.linears.size()),
      linear.name,
      fmt::format("{}: rank {} of {}, relative loss {:.4g}", linear.name, job.rank,
                  std::min(linear.rows, linear.cols), report.relative_loss)));
  return report;
}

}  // namespace svdllm
