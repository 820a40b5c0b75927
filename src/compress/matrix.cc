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
absl::StatusOr<Factors> Store(const CompressContext& context, const MatrixJob& job, DType dtype,
                              Factors factors, ArtifactWriter& writer) {
  Backend& backend = context.backend;
  std::vector<std::byte> a, b;
  if (context.spec.encoding == Encoding::kPivoted) {
    ASSIGN_OR_RETURN(factors, Pivot(factors, backend));
    ASSIGN_OR_RETURN(factors.a, Round(factors.a, dtype, a, backend));
    RETURN_IF_ERROR(RefitPivoted(job.decomposition.w, job.metric, factors, backend));
  } else {
    RETURN_IF_ERROR(Balance(factors, backend));
    ASSIGN_OR_RETURN(factors.a, Round(factors.a, dtype, a, backend));
  }
  ASSIGN_OR_RETURN(factors.b, Round(factors.b, dtype, b, backend));
  RETURN_IF_ERROR(writer.WriteFactors(job.target, a, b, factors.order));
  return factors;
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

MatrixReport DenseReport(const Target& target) {
  return {target.name, target.rows, target.cols, 0};
}

absl::StatusOr<MatrixReport> CompressMatrix(const CompressContext& context, const MatrixJob& job,
                                            ArtifactWriter& writer, Linear& linear) {
  Backend& backend = context.backend;
  const Target& target = context.targets[job.target];
  const Decomposition& d = job.decomposition;
  MatrixReport report{target.name, target.rows, target.cols, job.rank};
  const double total = d.Tail(0), tail = d.Tail(job.rank);
  if (RowOf(context.spec.method).statistic == Statistic::kGram) {
    report.optimum_loss = std::sqrt(tail);
  }
  report.spectrum = Spectrum(d, std::min(target.rows, target.cols));
  ASSIGN_OR_RETURN(const TensorSpec source, context.checkpoint.Spec(target.name + ".weight"));

  Factors factors;
  if (job.update) {
    ASSIGN_OR_RETURN(UpdatedFactors result, TruncateAndUpdate(d, job.rank, job.metric, backend));
    report.relative_loss = result.relative_loss;
    factors = std::move(result.factors);
  } else {
    ASSIGN_OR_RETURN(factors, Truncate(d, job.rank, backend));
    report.relative_loss = total > 0 ? std::sqrt(tail / total) : 0;
  }
  const bool sampled = job.metric.output_gram.data != nullptr;
  const auto loss = [&](MatrixRef approximation) {
    return sampled ? SampledLoss(d, approximation, job.sample, backend)
                   : ResidualLoss(d, approximation, job.metric, backend);
  };
  ASSIGN_OR_RETURN(Matrix product, Multiply(factors, backend));
  ASSIGN_OR_RETURN(const double exact_loss, loss(product));
  if (context.spec.output_format == OutputFormat::kFactored) {
    product = Matrix();  // first give it back
    ASSIGN_OR_RETURN(factors, Store(context, job, source.dtype, std::move(factors), writer));
    RETURN_IF_ERROR(SetFactors(factors, source.dtype, linear, backend));
    ASSIGN_OR_RETURN(product, Multiply(factors, backend));
  } else {
    std::vector<std::byte> bytes;
    ASSIGN_OR_RETURN(product, Round(product, source.dtype, bytes, backend));
    RETURN_IF_ERROR(writer.WriteDense(job.target, bytes));
    ASSIGN_OR_RETURN(linear.w, AsWeight(product, source.dtype, backend));
  }
  ASSIGN_OR_RETURN(const double stored_loss, loss(product));
  if (!std::isfinite(stored_loss)) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "factorise: " + target.name + ": the factors overflow " +
                         std::string(DTypeName(source.dtype)));
  }
  const bool is_optimum = !job.update && !sampled;
  if (is_optimum && std::fabs(std::max(exact_loss, 0.0) - tail) > 1e-6 * tail + 1e-10 * total) {
    return MakeError(
        absl::StatusCode::kInternal, kNumericalFailure,
        fmt::format("factorise: {}: loss {} of the factors against {} from the eigenvalues",
                    target.name, exact_loss, tail));
  }
  if (exact_loss > kNoLoss * total) report.rounding_excess = stored_loss / exact_loss - 1;
  const ModelConfig& config = context.checkpoint.config();
  const Architecture& arch = context.checkpoint.arch();
  RETURN_IF_ERROR(context.log.Step(
      DecomposeFlops(config, arch) * kFactorShare / static_cast<double>(arch.linears.size()),
      target.name,
      fmt::format("{}: rank {} of {}, relative loss {:.4g}", target.name, job.rank,
                  std::min(target.rows, target.cols), report.relative_loss)));
  return report;
}

}  // namespace svdllm
