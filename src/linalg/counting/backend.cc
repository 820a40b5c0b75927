#include "linalg/counting/backend.h"

#include <algorithm>
#include <numeric>

#include "base/machine.h"
#include "linalg/backend_checks.h"
#include "linalg/counting/device_scratch.h"

namespace svdllm {
namespace {

// A problem a thread.
int64_t HostEigenScratch(std::span<const EigenProblem> problems) {
  const auto threads = static_cast<int64_t>(UsableCores());
  int64_t bytes = 0;
  for (const EigenProblem& problem : problems) {
    bytes = std::max(bytes, (2 * problem.k.rows + 6) * problem.k.rows * 8);
  }
  return bytes * std::min(threads, static_cast<int64_t>(problems.size()));
}

struct Done : PendingEigen {
  absl::Status Finish() override { return absl::OkStatus(); }
};

class CountingBackend final : public Backend {
 public:
  explicit CountingBackend(const CountingOptions& options) : options_(options) {
    if (options_.on_device) use_->now = use_->peak = device::kFixedBytes;
  }

  std::string Name() const override { return "none: memory is counted"; }
  bool OnDevice() const override { return options_.on_device; }
  bool Computes() const override { return false; }
  MemoryUse Memory() const override { return *use_; }
  void ResetPeak() override { use_->peak = use_->now; }
  DType WeightType(DType stored) const override {
    const bool held = IsHalf(stored) && (stored != DType::kBF16 || options_.bf16);
    return options_.on_device && !options_.exact && held ? stored : DType::kF32;
  }

  absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) override {
    RETURN_IF_ERROR(checks::New(rows, cols));
    const int64_t bytes = rows * cols * static_cast<int64_t>(SizeOf(dtype));
    // No matrix but an empty one is without an address.
    void* const data = bytes == 0 ? nullptr : kNowhere;
    return Matrix({data, rows, cols, cols, dtype}, Take(bytes));
  }

  absl::Status Upload(const void*, DType, MatrixRef) override { return absl::OkStatus(); }
  absl::Status Download(MatrixRef, void*, DType) override { return absl::OkStatus(); }
  absl::Status Copy(MatrixRef from, MatrixRef to) override { return checks::Copy(from, to); }
  absl::Status BeginUploads() override { return absl::OkStatus(); }
  absl::Status EndUploads() override { return absl::OkStatus(); }
  absl::Status Transpose(MatrixRef from, MatrixRef to) override {
    return checks::Transpose(from, to);
  }

  absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) override {
    return Pass(4 * to.rows, checks::GatherRows(from, rows, to));
  }

  absl::Status Gemm(bool transpose_a, bool transpose_b, double, MatrixRef a, MatrixRef b, double,
                    MatrixRef c) override {
    return Pass(device::GemmScratch(a.rows, a.cols, b.dtype),
                checks::Gemm(transpose_a, transpose_b, a, b, c));
  }
  absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) override {
    return Pass(device::GramScratch(x.rows, x.cols, precision),
                checks::AccumulateGram(x, precision, gram));
  }
  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                               MatrixRef cross) override {
    return Pass(device::CrossScratch(x.rows, x.cols, y.cols, precision),
                checks::AccumulateCross(x, y, precision, cross));
  }
  absl::Status MirrorLower(MatrixRef a) override { return checks::MirrorLower(a); }
  absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) override {
    return checks::AccumulateAbs(x, sum);
  }

  absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) override {
    struct Running : Done {
      std::shared_ptr<void> memory;  // until it is finished and dropped
    };
    RETURN_IF_ERROR(checks::SymmetricEigen(problems));
    auto running = std::make_unique<Running>();
    if (options_.on_device) running->memory = Take(device::EigenScratch(problems));
    if (options_.host_scratch) running->memory = Take(HostEigenScratch(problems));
    return running;
  }
  absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) override {
    return Pass(device::ThinQrScratch(w.rows, w.cols), checks::ThinQr(w, q, r));
  }
  absl::Status SolveSpd(MatrixRef a, MatrixRef b) override {
    return Pass(device::SolveSpdScratch(a.rows), checks::SolveSpd(a, b));
  }
  absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) override {
    std::iota(pivots.begin(), pivots.end(), 0);
    return Pass(device::InterpolativeScratch(x.rows, x.cols), checks::Interpolative(x, pivots, t));
  }
  absl::Status ScaleRows(MatrixRef x, MatrixRef scale) override {
    return checks::ScaleRows(x, scale);
  }
  absl::Status ScaleCols(MatrixRef x, MatrixRef scale) override {
    return checks::ScaleCols(x, scale);
  }
  absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) override {
    return checks::RowDots(a, b, sums);
  }
  absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(Pass(device::ReductionScratch(a.rows), checks::Dot(a, b)));
    return 0.0;
  }

  absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double, MatrixRef y) override {
    return checks::RmsNorm(x, weight, y);
  }
  absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double,
                         MatrixRef y) override {
    return checks::LayerNorm(x, weight, bias, y);
  }
  absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) override {
    return checks::GatherCols(x, order, y);
  }
  absl::Status AddBias(MatrixRef y, MatrixRef bias) override { return checks::AddBias(y, bias); }
  absl::Status Add(double, MatrixRef x, MatrixRef y) override { return checks::Add(x, y); }
  absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                    std::span<const int64_t> offsets, std::span<const int64_t> first) override {
    return checks::Rope(x, heads, cosines, sines, offsets, first);
  }
  absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                         std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                         MatrixRef out) override {
    const absl::Status checked = checks::Attention(q, k, v, shape, offsets, keys, out);
    if (!checked.ok() || !options_.on_device) return checked;
    return Pass(device::AttentionScratch(shape, offsets, checks::KeysOf(offsets, keys)), checked);
  }
  absl::Status Activate(Activation, MatrixRef gate, MatrixRef up) override {
    return checks::Activate(gate, up);
  }
  absl::Status SoftCap(MatrixRef x, double cap) override { return checks::SoftCap(x, cap); }
  absl::StatusOr<double> CrossEntropy(MatrixRef logits, std::span<const int32_t> targets) override {
    RETURN_IF_ERROR(
        Pass(device::ReductionScratch(logits.rows), checks::CrossEntropy(logits, targets)));
    return 0.0;
  }
  absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) override {
    RETURN_IF_ERROR(
        Pass(device::ReductionScratch(logits.rows), checks::KlDivergence(reference, logits)));
    return 0.0;
  }
  absl::StatusOr<bool> AllFinite(MatrixRef x) override {
    RETURN_IF_ERROR(checks::AllFinite(x));
    return true;
  }

 private:
  std::shared_ptr<void> Take(int64_t bytes) {
    use_->now += bytes;
    use_->peak = std::max(use_->peak, use_->now);
    return std::shared_ptr<void>(kNowhere, [use = use_, bytes](void*) { use->now -= bytes; });
  }
  // Of an operation that takes so much while it runs.
  absl::Status Pass(int64_t scratch, const absl::Status& checked) {
    if (options_.on_device) use_->peak = std::max(use_->peak, use_->now + scratch);
    return checked;
  }

  // An address that offsets of any matrix can be added to.
  static inline void* const kNowhere = reinterpret_cast<void*>(uintptr_t{1} << 40);

  const CountingOptions options_;
  std::shared_ptr<MemoryUse> use_ = std::make_shared<MemoryUse>();
};

}  // namespace

std::unique_ptr<Backend> NewCountingBackend(const CountingOptions& options) {
  return std::make_unique<CountingBackend>(options);
}

}  // namespace svdllm
