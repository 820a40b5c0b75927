#include "linalg/cuda/backend.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "linalg/backend.h"
#include "linalg/backend_checks.h"
#include "linalg/cuda/attention_tiles.h"
#include "linalg/cuda/decompositions.h"
#include "linalg/cuda/kernels.h"
#include "linalg/cuda/products.h"

namespace svdllm::cuda {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<Device> device, bool exact)
      : device_(std::move(device)), exact_(exact), products_(device_), eigen_(device_) {}

  std::string Name() const override { return device_->name(); }
  bool OnDevice() const override { return true; }
  MemoryUse Memory() const override { return device_->usage(); }
  void ResetPeak() override { device_->ResetPeak(); }
  DType WeightType(DType stored) const override {
    return !exact_ && IsHalf(stored) && device_->Multiplies(stored) ? stored : DType::kF32;
  }

  absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) override {
    RETURN_IF_ERROR(checks::New(rows, cols));
    const int64_t bytes = rows * cols * static_cast<int64_t>(SizeOf(dtype));
    products_.Forget();
    ASSIGN_OR_RETURN(std::shared_ptr<void> memory, Device::AllocateZeros(device_, bytes));
    void* const data = memory.get();
    return Matrix({data, rows, cols, cols, dtype}, std::move(memory));
  }

  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Movable("Upload", host_dtype, to.dtype));
    products_.Forget();
    return device_->Upload(host, host_dtype, to);
  }

  absl::Status Download(MatrixRef from, void* host, DType host_dtype) override {
    RETURN_IF_ERROR(checks::Movable("Download", from.dtype, host_dtype));
    return device_->Download(from, host, host_dtype);
  }

  absl::Status Copy(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Copy(from, to));
    if (from.dtype == to.dtype && from.contiguous() && to.contiguous() && from.size() > 0) {
      return Check("Copy", cudaMemcpyAsync(to.data, from.data,
                                           static_cast<size_t>(from.size()) * SizeOf(from.dtype),
                                           cudaMemcpyDeviceToDevice, Stream()));
    }
    cuda::Convert(from, 0, to, 0, from.size(), Stream());
    return device_->Launched("Copy");
  }

  absl::Status BeginUploads() override { return device_->BeginUploads(); }
  absl::Status EndUploads() override { return device_->EndUploads(); }

  absl::Status Transpose(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Transpose(from, to));
    cuda::Transpose(from, to, Stream());
    return device_->Launched("Transpose");
  }

  absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) override {
    RETURN_IF_ERROR(checks::GatherRows(from, rows, to));
    ASSIGN_OR_RETURN(const std::shared_ptr<void> picked, Put(rows));
    cuda::PickRows(from, static_cast<const int32_t*>(picked.get()), to, Stream());
    return device_->Launched("GatherRows");
  }

  absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a, MatrixRef b,
                    double beta, MatrixRef c) override {
    RETURN_IF_ERROR(checks::Gemm(transpose_a, transpose_b, a, b, c));
    const int64_t k = transpose_a ? a.rows : a.cols;
    if (c.size() == 0) return absl::OkStatus();
    // No terms: c = beta · c. The library has not always seen to that.
    if (k == 0) return beta == 0 ? Zero(c) : beta == 1 ? absl::OkStatus() : Add(beta - 1, c, c);
    return products_.Gemm(transpose_a, transpose_b, alpha, a, b, beta, c);
  }

  absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) override {
    RETURN_IF_ERROR(checks::AccumulateGram(x, precision, gram));
    return x.size() == 0 ? absl::OkStatus() : products_.AccumulateGram(x, precision, gram);
  }

  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                               MatrixRef cross) override {
    RETURN_IF_ERROR(checks::AccumulateCross(x, y, precision, cross));
    if (x.rows == 0 || cross.size() == 0) return absl::OkStatus();
    return products_.AccumulateCross(x, y, precision, cross);
  }

  absl::Status MirrorLower(MatrixRef a) override {
    RETURN_IF_ERROR(checks::MirrorLower(a));
    cuda::MirrorLower(a, Stream());
    return device_->Launched("MirrorLower");
  }

  absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) override {
    RETURN_IF_ERROR(checks::AccumulateAbs(x, sum));
    cuda::AccumulateAbs(x, sum, Stream());
    return device_->Launched("AccumulateAbs");
  }

  absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) override {
    RETURN_IF_ERROR(checks::SymmetricEigen(problems));
    Stream();
    return eigen_.Start(problems);
  }

  absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) override {
    RETURN_IF_ERROR(checks::ThinQr(w, q, r));
    Stream();
    return cuda::ThinQr(device_, w, q, r);
  }

  absl::Status SolveSpd(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::SolveSpd(a, b));
    Stream();
    return cuda::SolveSpd(device_, a, b);
  }

  absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) override {
    RETURN_IF_ERROR(checks::Interpolative(x, pivots, t));
    Stream();
    return cuda::Interpolative(device_, x, pivots, t);
  }

  absl::Status ScaleRows(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleRows(x, scale));
    cuda::ScaleRows(x, scale, Stream());
    return device_->Launched("ScaleRows");
  }

  absl::Status ScaleCols(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleCols(x, scale));
    cuda::ScaleCols(x, scale, Stream());
    return device_->Launched("ScaleCols");
  }

  absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) override {
    RETURN_IF_ERROR(checks::RowDots(a, b, sums));
    cuda::Dot(a, b, sums.as<double>(), Stream());
    return device_->Launched("RowDots");
  }

  absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::Dot(a, b));
    return SumOfRows("Dot", a.rows,
                     [&](double* rows, cudaStream_t stream) { cuda::Dot(a, b, rows, stream); });
  }

  absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) override {
    RETURN_IF_ERROR(checks::RmsNorm(x, weight, y));
    cuda::RmsNorm(x, weight, eps, y, Stream());
    return device_->Launched("RmsNorm");
  }

  absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                         MatrixRef y) override {
    RETURN_IF_ERROR(checks::LayerNorm(x, weight, bias, y));
    cuda::LayerNorm(x, weight, bias, eps, y, Stream());
    return device_->Launched("LayerNorm");
  }

  absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) override {
    RETURN_IF_ERROR(checks::GatherCols(x, order, y));
    cuda::GatherCols(x, order, y, Stream());
    return device_->Launched("GatherCols");
  }

  absl::Status AddBias(MatrixRef y, MatrixRef bias) override {
    RETURN_IF_ERROR(checks::AddBias(y, bias));
    cuda::AddBias(y, bias, Stream());
    return device_->Launched("AddBias");
  }

  absl::Status Add(double alpha, MatrixRef x, MatrixRef y) override {
    RETURN_IF_ERROR(checks::Add(x, y));
    cuda::Add(alpha, x, y, Stream());
    return device_->Launched("Add");
  }

  absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                    std::span<const int64_t> offsets, std::span<const int64_t> first) override {
    RETURN_IF_ERROR(checks::Rope(x, heads, cosines, sines, offsets, first));
    ASSIGN_OR_RETURN(const std::shared_ptr<void> begins, Put(offsets));
    std::shared_ptr<void> positions;
    if (!first.empty()) {
      ASSIGN_OR_RETURN(positions, Put(first));
    }
    cuda::Rope(x, heads, cosines, sines, static_cast<const int64_t*>(begins.get()),
               static_cast<const int64_t*>(positions.get()),
               static_cast<int64_t>(offsets.size()) - 1, Stream());
    return device_->Launched("Rope");
  }

  absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                         std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                         MatrixRef out) override {
    RETURN_IF_ERROR(checks::Attention(q, k, v, shape, offsets, keys, out));
    if (q.size() == 0) return absl::OkStatus();
    AttentionShape filled = shape;
    if (shape.scale == 0) filled.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    if (!device_->Multiplies(shape.precision)) filled.precision = DType::kF32;
    const std::vector<KeyRange> ranges = checks::KeysOf(offsets, keys);
    const device::AttentionTiles tiles = device::TilesOf(filled, offsets, ranges);
    const cudaStream_t stream = Stream();
    if (tiles.tiled) {
      return TiledAttention(device_, q, k, v, filled, tiles, offsets, ranges, out);
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<void> begins, Put(offsets));
    ASSIGN_OR_RETURN(const std::shared_ptr<void> seen, Put(std::span<const KeyRange>(ranges)));
    cuda::Attention(q, k, v, filled, static_cast<const int64_t*>(begins.get()),
                    static_cast<const KeyRange*>(seen.get()),
                    static_cast<int64_t>(offsets.size()) - 1, tiles.queries, out, stream);
    return device_->Launched("Attention");
  }

  absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) override {
    RETURN_IF_ERROR(checks::Activate(gate, up));
    cuda::Activate(activation, gate, up, Stream());
    return device_->Launched("Activate");
  }

  absl::Status SoftCap(MatrixRef x, double cap) override {
    RETURN_IF_ERROR(checks::SoftCap(x, cap));
    cuda::SoftCap(x, cap, Stream());
    return device_->Launched("SoftCap");
  }

  absl::StatusOr<double> CrossEntropy(MatrixRef logits, std::span<const int32_t> targets) override {
    RETURN_IF_ERROR(checks::CrossEntropy(logits, targets));
    ASSIGN_OR_RETURN(const std::shared_ptr<void> memory, Put(targets));
    return SumOfRows("CrossEntropy", logits.rows, [&](double* rows, cudaStream_t stream) {
      cuda::CrossEntropy(logits, static_cast<const int32_t*>(memory.get()), rows, stream);
    });
  }

  absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) override {
    RETURN_IF_ERROR(checks::KlDivergence(reference, logits));
    return SumOfRows("KlDivergence", logits.rows, [&](double* rows, cudaStream_t stream) {
      cuda::KlDivergence(reference, logits, rows, stream);
    });
  }

  absl::StatusOr<bool> AllFinite(MatrixRef x) override {
    RETURN_IF_ERROR(checks::AllFinite(x));
    ASSIGN_OR_RETURN(const Matrix bad, New(1, 1, DType::kI32));
    cuda::FindNonFinite(x, bad.as<int32_t>(), Stream());
    RETURN_IF_ERROR(device_->Launched("AllFinite"));
    int32_t found = 0;
    RETURN_IF_ERROR(device_->Download(bad, &found, DType::kI32));
    return found == 0;
  }

 private:
  template <typename T>
  absl::StatusOr<std::shared_ptr<void>> Put(std::span<const T> values) {
    return Device::Put(device_, values.data(), static_cast<int64_t>(values.size_bytes()));
  }

  absl::Status Zero(MatrixRef c) {
    const size_t size = SizeOf(c.dtype);
    return Check("Gemm", cudaMemset2DAsync(c.data, static_cast<size_t>(c.stride) * size, 0,
                                           static_cast<size_t>(c.cols) * size,
                                           static_cast<size_t>(c.rows), Stream()));
  }

  // Σ over rows of what launch leaves for each.
  template <typename F>
  absl::StatusOr<double> SumOfRows(const char* operation, int64_t rows, F launch) {
    if (rows == 0) return 0.0;
    ASSIGN_OR_RETURN(const Matrix sums, New(1, rows, DType::kF64));
    launch(sums.as<double>(), Stream());
    RETURN_IF_ERROR(device_->Launched(operation));
    std::vector<double> host(static_cast<size_t>(rows));
    RETURN_IF_ERROR(device_->Download(sums, host.data(), DType::kF64));
    return std::accumulate(host.begin(), host.end(), 0.0);
  }

  // The stream, for anything but a product.
  cudaStream_t Stream() {
    products_.Forget();
    device_->Pace();
    return device_->Use();
  }

  std::shared_ptr<Device> device_;
  const bool exact_;
  Products products_;
  EigenSolver eigen_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(int ordinal, const CudaOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<Device> device, Device::Open(ordinal, options.memory_limit));
  return std::make_unique<CudaBackend>(std::move(device), options.exact != 0);
}

}  // namespace svdllm::cuda
