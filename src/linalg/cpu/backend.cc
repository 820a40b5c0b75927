#include "linalg/backend.h"

#include <cblas.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "linalg/backend_checks.h"
#include "linalg/cpu/attention.h"
#include "linalg/cpu/decompositions.h"
#include "linalg/cpu/few_rows.h"
#include "linalg/cpu/kernels.h"

namespace svdllm {
namespace {

// Below this many elements a parallel region costs more than it saves.
constexpr int64_t kParallelElements = 16384;
// Tokens of one F32 product of a Gram matrix; their sums are added up in F64.
constexpr int64_t kGramChunk = 1024;

bool Is(const MatrixRef& x, DType dtype) { return x.dtype == dtype; }

// Calls row(i) for every row, in parallel where there is enough to do.
template <typename F>
void ForRows(const MatrixRef& x, F row) {
#pragma omp parallel for schedule(static) if (x.size() > kParallelElements)
  for (int64_t i = 0; i < x.rows; ++i) row(i);
}

// c = alpha · a bᵀ + beta · c, the rows of b shared out to the threads.
void FewRows(float alpha, const MatrixRef& a, const MatrixRef& b, float beta, const MatrixRef& c) {
  constexpr int64_t kPart = 32;
  const int64_t parts = (b.rows + kPart - 1) / kPart;
#pragma omp parallel for schedule(static) if (b.size() > kParallelElements)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t begin = part * kPart, count = std::min(kPart, b.rows - begin);
    cpu::FewRows(a.as<float>(), a.stride, a.rows, b.row<float>(begin), b.stride, count, b.cols,
                 alpha, beta, c.as<float>() + begin, c.stride);
  }
}

// x as contiguous floats, rounded to a shorter type. Only weights that were made for another
// backend, and tests, come this way: it need not be fast.
std::vector<float> Rounded(const MatrixRef& x, DType dtype) {
  std::vector<float> rounded(static_cast<size_t>(x.size()));
  std::vector<uint16_t> row(static_cast<size_t>(x.cols));
  for (int64_t i = 0; i < x.rows; ++i) {
    ConvertElements(x.Rows(i, 1).data, x.dtype, row.data(), dtype, row.size());
    ConvertElements(row.data(), dtype, rounded.data() + i * x.cols, DType::kF32, row.size());
  }
  return rounded;
}

MatrixRef ViewOf(const std::vector<float>& values, const MatrixRef& shape) {
  return {const_cast<float*>(values.data()), shape.rows, shape.cols, shape.cols, DType::kF32};
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, int64_t memory_limit) {
    usage_->limit = memory_limit;
    if (threads > 0) omp_set_num_threads(threads);
    name_ = "cpu: " + ProcessorName() + ", " + std::to_string(omp_get_max_threads()) +
            (omp_get_max_threads() == 1 ? " thread" : " threads");
  }

  std::string Name() const override { return name_; }
  bool OnDevice() const override { return false; }
  MemoryUse Memory() const override { return *usage_; }
  void ResetPeak() override { usage_->peak = usage_->now; }
  DType WeightType(DType) const override { return DType::kF32; }

  absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) override {
    RETURN_IF_ERROR(checks::New(rows, cols));
    const size_t bytes = static_cast<size_t>(rows) * static_cast<size_t>(cols) * SizeOf(dtype);
    // Aligned by hand: aligned_alloc of the C library before 2.38 does not find its own freed
    // blocks again, and a job that allocates the same sizes layer by layer would grow with every
    // one.
    constexpr size_t kAlignment = 64;
    const size_t padded = bytes + kAlignment;
    const bool within =
        usage_->limit == 0 || usage_->now + static_cast<int64_t>(padded) <= usage_->limit;
    void* block = bytes == 0 || !within ? nullptr : std::malloc(padded);
    if (bytes > 0 && block == nullptr) {
      return MakeError(absl::StatusCode::kResourceExhausted, kHostOutOfMemory,
                       "no memory for " + std::to_string(bytes) +
                           " bytes: " + std::to_string(usage_->now) + " are in use" +
                           (within ? "" : ", the limit is " + std::to_string(usage_->limit)));
    }
    void* data = block;
    size_t space = padded;
    if (block != nullptr) std::memset(std::align(kAlignment, bytes, data, space), 0, bytes);
    usage_->now += static_cast<int64_t>(padded);
    usage_->peak = std::max(usage_->peak, usage_->now);
    // The usage outlives the backend with the last matrix, whichever goes first.
    std::shared_ptr<void> memory(block, [usage = usage_, padded](void* p) {
      usage->now -= static_cast<int64_t>(padded);
      std::free(p);
    });
    return Matrix({data, rows, cols, cols, dtype}, std::move(memory));
  }

  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Movable("Upload", host_dtype, to.dtype));
    const char* from = static_cast<const char*>(host);
    if (to.contiguous()) {
      ConvertElements(from, host_dtype, to.data, to.dtype, static_cast<size_t>(to.size()));
      return absl::OkStatus();
    }
    for (int64_t i = 0; i < to.rows; ++i) {
      ConvertElements(from + i * to.cols * static_cast<int64_t>(SizeOf(host_dtype)), host_dtype,
                      to.Rows(i, 1).data, to.dtype, static_cast<size_t>(to.cols));
    }
    return absl::OkStatus();
  }

  absl::Status Download(MatrixRef from, void* host, DType host_dtype) override {
    RETURN_IF_ERROR(checks::Movable("Download", from.dtype, host_dtype));
    if (from.contiguous()) {
      ConvertElements(from.data, from.dtype, host, host_dtype, static_cast<size_t>(from.size()));
      return absl::OkStatus();
    }
    char* to = static_cast<char*>(host);
    for (int64_t i = 0; i < from.rows; ++i) {
      ConvertElements(from.Rows(i, 1).data, from.dtype,
                      to + i * from.cols * static_cast<int64_t>(SizeOf(host_dtype)), host_dtype,
                      static_cast<size_t>(from.cols));
    }
    return absl::OkStatus();
  }

  absl::Status Copy(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Copy(from, to));
    if (from.contiguous() && to.contiguous()) {
      ConvertElements(from.data, from.dtype, to.data, to.dtype, static_cast<size_t>(to.size()));
      return absl::OkStatus();
    }
    for (int64_t i = 0; i < from.rows; ++i) {
      ConvertElements(from.Rows(i, 1).data, from.dtype, to.Rows(i, 1).data, to.dtype,
                      static_cast<size_t>(from.cols));
    }
    return absl::OkStatus();
  }

  absl::Status BeginUploads() override { return absl::OkStatus(); }
  absl::Status EndUploads() override { return absl::OkStatus(); }

  absl::Status Transpose(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Transpose(from, to));
    ForRows(to, [&](int64_t j) {
      for (int64_t i = 0; i < from.rows; ++i) to.row<double>(j)[i] = from.row<double>(i)[j];
    });
    return absl::OkStatus();
  }

  absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) override {
    RETURN_IF_ERROR(checks::GatherRows(from, rows, to));
    ForRows(to, [&](int64_t i) {
      std::copy_n(from.row<double>(rows[static_cast<size_t>(i)]), to.cols, to.row<double>(i));
    });
    return absl::OkStatus();
  }

  absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a, MatrixRef b,
                    double beta, MatrixRef c) override {
    const int64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols;
    const int64_t n = transpose_b ? b.rows : b.cols;
    RETURN_IF_ERROR(checks::Gemm(transpose_a, transpose_b, a, b, c));
    if (m == 0 || n == 0) return absl::OkStatus();
    if (IsHalf(b.dtype)) {
      const std::vector<float> rounded = Rounded(a, b.dtype), wide = Rounded(b, b.dtype);
      return Gemm(false, true, alpha, ViewOf(rounded, a), ViewOf(wide, b), beta, c);
    }
    if (Is(a, DType::kF32) && !transpose_a && transpose_b && m <= cpu::kFewRows) {
      FewRows(static_cast<float>(alpha), a, b, static_cast<float>(beta), c);
      return absl::OkStatus();
    }
    const auto ta = transpose_a ? CblasTrans : CblasNoTrans;
    const auto tb = transpose_b ? CblasTrans : CblasNoTrans;
    // A leading dimension of 0 (an empty operand) is refused by BLAS.
    const auto ld = [](const MatrixRef& x) {
      return static_cast<blasint>(std::max<int64_t>(x.stride, 1));
    };
    const auto M = static_cast<blasint>(m), N = static_cast<blasint>(n),
               K = static_cast<blasint>(k);
    if (Is(a, DType::kF32)) {
      cblas_sgemm(CblasRowMajor, ta, tb, M, N, K, static_cast<float>(alpha), a.as<float>(), ld(a),
                  b.as<float>(), ld(b), static_cast<float>(beta), c.as<float>(), ld(c));
    } else {
      cblas_dgemm(CblasRowMajor, ta, tb, M, N, K, alpha, a.as<double>(), ld(a), b.as<double>(),
                  ld(b), beta, c.as<double>(), ld(c));
    }
    return absl::OkStatus();
  }

  absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) override {
    const int64_t n = x.cols;
    RETURN_IF_ERROR(checks::AccumulateGram(x, precision, gram));
    if (precision != DType::kF32) {
      const std::vector<float> rounded = Rounded(x, precision);
      return AccumulateGram(ViewOf(rounded, x), DType::kF32, gram);
    }
    gram_chunk_.resize(static_cast<size_t>(n * n));
    float* chunk = gram_chunk_.data();
    for (int64_t begin = 0; begin < x.rows; begin += kGramChunk) {
      const int64_t count = std::min(kGramChunk, x.rows - begin);
      cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, static_cast<blasint>(n),
                  static_cast<blasint>(count), 1.0f, x.row<float>(begin),
                  static_cast<blasint>(x.stride), 0.0f, chunk, static_cast<blasint>(n));
      // Rows of a triangle differ in length: a dynamic schedule evens that out.
#pragma omp parallel for schedule(dynamic, 16) if (n * n > kParallelElements)
      for (int64_t i = 0; i < n; ++i) {
        cpu::AddToDouble(chunk + i * n, i + 1, gram.row<double>(i));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                               MatrixRef cross) override {
    RETURN_IF_ERROR(checks::AccumulateCross(x, y, precision, cross));
    if (precision != DType::kF32) {
      const std::vector<float> rounded_x = Rounded(x, precision), rounded_y = Rounded(y, precision);
      return AccumulateCross(ViewOf(rounded_x, x), ViewOf(rounded_y, y), DType::kF32, cross);
    }
    gram_chunk_.resize(static_cast<size_t>(cross.size()));
    const MatrixRef chunk{gram_chunk_.data(), cross.rows, cross.cols, cross.cols, DType::kF32};
    for (int64_t begin = 0; begin < x.rows; begin += kGramChunk) {
      const int64_t count = std::min(kGramChunk, x.rows - begin);
      RETURN_IF_ERROR(Gemm(true, false, 1, x.Rows(begin, count), y.Rows(begin, count), 0, chunk));
      ForRows(chunk, [&](int64_t i) {
        cpu::AddToDouble(chunk.row<float>(i), chunk.cols, cross.row<double>(i));
      });
    }
    return absl::OkStatus();
  }

  absl::Status MirrorLower(MatrixRef a) override {
    RETURN_IF_ERROR(checks::MirrorLower(a));
    ForRows(a, [&a](int64_t i) {
      for (int64_t j = i + 1; j < a.cols; ++j) a.row<double>(i)[j] = a.row<double>(j)[i];
    });
    return absl::OkStatus();
  }

  absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) override {
    RETURN_IF_ERROR(checks::AccumulateAbs(x, sum));
    for (int64_t i = 0; i < x.rows; ++i) {
      cpu::AddAbsToDouble(x.row<float>(i), x.cols, sum.as<double>());
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) override {
    RETURN_IF_ERROR(checks::SymmetricEigen(problems));
    // The reduction to tridiagonal form is bound by memory and hardly gains from a second thread:
    // several problems at a time, one thread each, largest first, do.
    std::vector<size_t> order(problems.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return problems[a].k.rows > problems[b].k.rows; });
    std::vector<absl::Status> results(problems.size());
#pragma omp parallel for schedule(dynamic, 1) if (problems.size() > 1)
    for (size_t i = 0; i < order.size(); ++i) {
      results[order[i]] = cpu::SymmetricEigen(problems[order[i]]);
    }
    for (const absl::Status& status : results) RETURN_IF_ERROR(status);
    return std::make_unique<Done>();
  }

  absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) override {
    RETURN_IF_ERROR(checks::ThinQr(w, q, r));
    if (!q.contiguous()) return absl::InternalError("ThinQr: q must be contiguous");
    RETURN_IF_ERROR(Copy(w, q));
    return cpu::ThinQr(q, r);
  }

  absl::Status SolveSpd(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::SolveSpd(a, b));
    return cpu::SolveSpd(a, b);
  }

  absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) override {
    RETURN_IF_ERROR(checks::Interpolative(x, pivots, t));
    return cpu::Interpolative(x, pivots, t);
  }

  absl::Status ScaleRows(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleRows(x, scale));
    ForRows(x, [&](int64_t i) {
      for (int64_t j = 0; j < x.cols; ++j) x.row<double>(i)[j] *= scale.as<double>()[i];
    });
    return absl::OkStatus();
  }

  absl::Status ScaleCols(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleCols(x, scale));
    ForRows(x, [&](int64_t i) {
      for (int64_t j = 0; j < x.cols; ++j) x.row<double>(i)[j] *= scale.as<double>()[j];
    });
    return absl::OkStatus();
  }

  absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) override {
    RETURN_IF_ERROR(checks::RowDots(a, b, sums));
    ForRows(a, [&](int64_t i) {
      sums.as<double>()[i] =
          cblas_ddot(static_cast<blasint>(a.cols), a.row<double>(i), 1, b.row<double>(i), 1);
    });
    return absl::OkStatus();
  }

  absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::Dot(a, b));
    double sum = 0;
    for (int64_t i = 0; i < a.rows; ++i) {
      sum += cblas_ddot(static_cast<blasint>(a.cols), a.row<double>(i), 1, b.row<double>(i), 1);
    }
    return sum;
  }

  absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) override {
    RETURN_IF_ERROR(checks::RmsNorm(x, weight, y));
    ForRows(x, [&](int64_t i) {
      cpu::RmsNormRow(x.row<float>(i), weight.as<float>(), x.cols, eps, y.row<float>(i));
    });
    return absl::OkStatus();
  }

  absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                         MatrixRef y) override {
    RETURN_IF_ERROR(checks::LayerNorm(x, weight, bias, y));
    ForRows(x, [&](int64_t i) {
      cpu::LayerNormRow(x.row<float>(i), weight.as<float>(), bias.as<float>(), x.cols, eps,
                        y.row<float>(i));
    });
    return absl::OkStatus();
  }

  absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) override {
    RETURN_IF_ERROR(checks::GatherCols(x, order, y));
    ForRows(y, [&](int64_t i) {
      cpu::GatherRow(x.row<float>(i), order.as<int32_t>(), y.cols, y.row<float>(i));
    });
    return absl::OkStatus();
  }

  absl::Status AddBias(MatrixRef y, MatrixRef bias) override {
    RETURN_IF_ERROR(checks::AddBias(y, bias));
    ForRows(y, [&](int64_t i) { cpu::AddRow(bias.as<float>(), y.cols, 1.0f, y.row<float>(i)); });
    return absl::OkStatus();
  }

  absl::Status Add(double alpha, MatrixRef x, MatrixRef y) override {
    RETURN_IF_ERROR(checks::Add(x, y));
    if (Is(x, DType::kF64)) {
      ForRows(x, [&](int64_t i) {
        cblas_daxpy(static_cast<blasint>(x.cols), alpha, x.row<double>(i), 1, y.row<double>(i), 1);
      });
      return absl::OkStatus();
    }
    const auto factor = static_cast<float>(alpha);
    ForRows(x, [&](int64_t i) { cpu::AddRow(x.row<float>(i), x.cols, factor, y.row<float>(i)); });
    return absl::OkStatus();
  }

  absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                    std::span<const int64_t> offsets, std::span<const int64_t> first) override {
    RETURN_IF_ERROR(checks::Rope(x, heads, cosines, sines, offsets, first));
    const int64_t head_dim = x.cols / heads;
    for (size_t s = 0; s + 1 < offsets.size(); ++s) {
      const int64_t begin = offsets[s], position = first.empty() ? 0 : first[s];
      ForRows(x.Rows(begin, offsets[s + 1] - begin), [&](int64_t t) {
        for (int64_t h = 0; h < heads; ++h) {
          cpu::RopeRow(x.row<float>(begin + t) + h * head_dim, cosines.row<float>(position + t),
                       sines.row<float>(position + t), cosines.cols);
        }
      });
    }
    return absl::OkStatus();
  }

  absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                         std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                         MatrixRef out) override {
    RETURN_IF_ERROR(checks::Attention(q, k, v, shape, offsets, keys, out));
    const std::vector<KeyRange> ranges = checks::KeysOf(offsets, keys);
    if (shape.precision == DType::kF32) {
      cpu::Attention(q, k, v, shape, offsets, ranges, out);
      return absl::OkStatus();
    }
    const std::vector<float> rounded_q = Rounded(q, shape.precision),
                             rounded_k = Rounded(k, shape.precision),
                             rounded_v = Rounded(v, shape.precision);
    cpu::Attention(ViewOf(rounded_q, q), ViewOf(rounded_k, k), ViewOf(rounded_v, v), shape, offsets,
                   ranges, out);
    return absl::OkStatus();
  }

  absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) override {
    RETURN_IF_ERROR(checks::Activate(gate, up));
    ForRows(gate, [&](int64_t i) {
      cpu::ActivateRow(activation, gate.row<float>(i),
                       up.data == nullptr ? nullptr : up.row<float>(i), gate.cols);
    });
    return absl::OkStatus();
  }

  absl::Status SoftCap(MatrixRef x, double cap) override {
    RETURN_IF_ERROR(checks::SoftCap(x, cap));
    ForRows(x, [&](int64_t i) {
      cpu::SoftCapRow(x.row<float>(i), x.cols, 1.0f, static_cast<float>(cap));
    });
    return absl::OkStatus();
  }

  absl::StatusOr<double> CrossEntropy(MatrixRef logits, std::span<const int32_t> targets) override {
    RETURN_IF_ERROR(checks::CrossEntropy(logits, targets));
    std::vector<double> losses(targets.size(), 0.0);
    ForRows(logits, [&](int64_t i) {
      const int32_t target = targets[static_cast<size_t>(i)];
      if (target < 0) return;
      const float* row = logits.row<float>(i);
      losses[static_cast<size_t>(i)] =
          cpu::LogSumExp(row, logits.cols) - static_cast<double>(row[target]);
    });
    return std::accumulate(losses.begin(), losses.end(), 0.0);
  }

  absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) override {
    RETURN_IF_ERROR(checks::KlDivergence(reference, logits));
    std::vector<double> rows(static_cast<size_t>(logits.rows), 0.0);
    ForRows(logits, [&](int64_t i) {
      rows[static_cast<size_t>(i)] =
          cpu::KlDivergence(reference.row<float>(i), logits.row<float>(i), logits.cols);
    });
    return std::accumulate(rows.begin(), rows.end(), 0.0);
  }

  absl::StatusOr<bool> AllFinite(MatrixRef x) override {
    RETURN_IF_ERROR(checks::AllFinite(x));
    bool finite = true;
#pragma omp parallel for schedule(static) reduction(&& : finite) if (x.size() > kParallelElements)
    for (int64_t i = 0; i < x.rows; ++i) {
      finite = finite && (Is(x, DType::kF64) ? cpu::AllFinite(x.row<double>(i), x.cols)
                                             : cpu::AllFinite(x.row<float>(i), x.cols));
    }
    return finite;
  }

 private:
  struct Done : PendingEigen {
    absl::Status Finish() override { return absl::OkStatus(); }
  };

  std::string name_;
  std::shared_ptr<MemoryUse> usage_ = std::make_shared<MemoryUse>();
  std::vector<float> gram_chunk_;
};

}  // namespace

std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::unique_ptr<Backend> NewCpuBackend(int threads, int64_t memory_limit) {
  return std::make_unique<CpuBackend>(threads, memory_limit);
}

}  // namespace svdllm
