// The CUDA backend and the C interface of its module.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "linalg/backend.h"
#include "linalg/backend_checks.h"
#include "linalg/cuda_decompositions.h"
#include "linalg/cuda_device.h"
#include "linalg/cuda_kernels.h"
#include "linalg/cuda_module.h"

namespace svdllm {
namespace {

// Tokens of one F32 product of a Gram matrix; their sums are added up in F64.
constexpr int64_t kGramChunk = 1024;

// A leading dimension of 0 (an empty operand) is refused.
int64_t Pitch(const MatrixRef& x) { return std::max<int64_t>(x.stride, 1); }

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(std::shared_ptr<cuda::Device> device)
      : device_(std::move(device)), eigen_(device_) {}

  std::string Name() const override { return device_->name(); }
  int64_t PeakBytes() const override { return device_->peak_bytes(); }

  absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) override {
    RETURN_IF_ERROR(checks::New(rows, cols));
    const int64_t bytes = rows * cols * static_cast<int64_t>(SizeOf(dtype));
    ASSIGN_OR_RETURN(std::shared_ptr<void> memory, cuda::Device::Allocate(device_, bytes));
    void* const data = memory.get();
    if (bytes > 0) {
      RETURN_IF_ERROR(
          cuda::Check("New", cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), device_->Use())));
    }
    return Matrix({data, rows, cols, cols, dtype}, std::move(memory));
  }

  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Movable("Upload", host_dtype, to.dtype));
    return device_->Upload(host, host_dtype, to);
  }

  absl::Status Download(MatrixRef from, void* host, DType host_dtype) override {
    RETURN_IF_ERROR(checks::Movable("Download", from.dtype, host_dtype));
    return device_->Download(from, host, host_dtype);
  }

  absl::Status Copy(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Copy(from, to));
    if (from.dtype == to.dtype && from.contiguous() && to.contiguous() && from.size() > 0) {
      return cuda::Check(
          "Copy",
          cudaMemcpyAsync(to.data, from.data, static_cast<size_t>(from.size()) * SizeOf(from.dtype),
                          cudaMemcpyDeviceToDevice, device_->Use()));
    }
    cuda::Convert(from, 0, to, 0, from.size(), device_->Use());
    return device_->Launched("Copy");
  }

  absl::Status Transpose(MatrixRef from, MatrixRef to) override {
    RETURN_IF_ERROR(checks::Transpose(from, to));
    cuda::Transpose(from, to, device_->Use());
    return device_->Launched("Transpose");
  }

  absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a, MatrixRef b,
                    double beta, MatrixRef c) override {
    RETURN_IF_ERROR(checks::Gemm(transpose_a, transpose_b, a, b, c));
    const int64_t k = transpose_a ? a.rows : a.cols;
    if (c.size() == 0) return absl::OkStatus();
    // No terms: c = beta · c. The library has not always seen to that.
    if (k == 0) return beta == 0 ? Zero(c) : beta == 1 ? absl::OkStatus() : Add(beta - 1, c, c);
    device_->Use();
    // To the library a row-major matrix is its transpose: cᵀ = op(b)ᵀ op(a)ᵀ.
    const auto first = transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const auto second = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (a.dtype == DType::kF64) {
      return cuda::Check("Gemm", cublasDgemm_64(device_->blas(), first, second, c.cols, c.rows, k,
                                                &alpha, b.as<double>(), Pitch(b), a.as<double>(),
                                                Pitch(a), &beta, c.as<double>(), Pitch(c)));
    }
    const auto factor = static_cast<float>(alpha), keep = static_cast<float>(beta);
    return cuda::Check("Gemm", cublasSgemm_64(device_->blas(), first, second, c.cols, c.rows, k,
                                              &factor, b.as<float>(), Pitch(b), a.as<float>(),
                                              Pitch(a), &keep, c.as<float>(), Pitch(c)));
  }

  absl::Status AccumulateGram(MatrixRef x, MatrixRef gram) override {
    RETURN_IF_ERROR(checks::AccumulateGram(x, gram));
    const int64_t n = x.cols;
    if (x.size() == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const MatrixRef chunk, GramChunk(n, n));
    for (int64_t begin = 0; begin < x.rows; begin += kGramChunk) {
      const int64_t count = std::min(kGramChunk, x.rows - begin);
      const float one = 1, zero = 0;
      const MatrixRef part = x.Rows(begin, count);
      // The row-major lower triangle is the library's upper one.
      RETURN_IF_ERROR(cuda::Check(
          "AccumulateGram",
          cublasSsyrk_64(device_->blas(), CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, n, count, &one,
                         part.as<float>(), std::max(x.stride, n), &zero, chunk.as<float>(), n)));
      cuda::AddToDouble(chunk, gram, /*lower=*/true, device_->Use());
      RETURN_IF_ERROR(device_->Launched("AccumulateGram"));
    }
    return absl::OkStatus();
  }

  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, MatrixRef cross) override {
    RETURN_IF_ERROR(checks::AccumulateCross(x, y, cross));
    if (cross.size() == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const MatrixRef chunk, GramChunk(cross.rows, cross.cols));
    for (int64_t begin = 0; begin < x.rows; begin += kGramChunk) {
      const int64_t count = std::min(kGramChunk, x.rows - begin);
      RETURN_IF_ERROR(Gemm(true, false, 1, x.Rows(begin, count), y.Rows(begin, count), 0, chunk));
      cuda::AddToDouble(chunk, cross, /*lower=*/false, device_->Use());
      RETURN_IF_ERROR(device_->Launched("AccumulateCross"));
    }
    return absl::OkStatus();
  }

  absl::Status MirrorLower(MatrixRef a) override {
    RETURN_IF_ERROR(checks::MirrorLower(a));
    cuda::MirrorLower(a, device_->Use());
    return device_->Launched("MirrorLower");
  }

  absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) override {
    RETURN_IF_ERROR(checks::AccumulateAbs(x, sum));
    cuda::AccumulateAbs(x, sum, device_->Use());
    return device_->Launched("AccumulateAbs");
  }

  absl::Status SymmetricEigen(std::span<const EigenProblem> problems) override {
    RETURN_IF_ERROR(checks::SymmetricEigen(problems));
    return eigen_.Solve(problems);
  }

  absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) override {
    RETURN_IF_ERROR(checks::ThinQr(w, q, r));
    return cuda::ThinQr(device_, w, q, r);
  }

  absl::Status SolveSpd(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::SolveSpd(a, b));
    return cuda::SolveSpd(device_, a, b);
  }

  absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) override {
    RETURN_IF_ERROR(checks::Interpolative(x, pivots, t));
    return cuda::Interpolative(device_, x, pivots, t);
  }

  absl::Status ScaleRows(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleRows(x, scale));
    cuda::ScaleRows(x, scale, device_->Use());
    return device_->Launched("ScaleRows");
  }

  absl::Status ScaleCols(MatrixRef x, MatrixRef scale) override {
    RETURN_IF_ERROR(checks::ScaleCols(x, scale));
    cuda::ScaleCols(x, scale, device_->Use());
    return device_->Launched("ScaleCols");
  }

  absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) override {
    RETURN_IF_ERROR(checks::Dot(a, b));
    return SumOfRows("Dot", a.rows,
                     [&](double* rows, cudaStream_t stream) { cuda::Dot(a, b, rows, stream); });
  }

  absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) override {
    RETURN_IF_ERROR(checks::RmsNorm(x, weight, y));
    cuda::RmsNorm(x, weight, eps, y, device_->Use());
    return device_->Launched("RmsNorm");
  }

  absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                         MatrixRef y) override {
    RETURN_IF_ERROR(checks::LayerNorm(x, weight, bias, y));
    cuda::LayerNorm(x, weight, bias, eps, y, device_->Use());
    return device_->Launched("LayerNorm");
  }

  absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) override {
    RETURN_IF_ERROR(checks::GatherCols(x, order, y));
    cuda::GatherCols(x, order, y, device_->Use());
    return device_->Launched("GatherCols");
  }

  absl::Status AddBias(MatrixRef y, MatrixRef bias) override {
    RETURN_IF_ERROR(checks::AddBias(y, bias));
    cuda::AddBias(y, bias, device_->Use());
    return device_->Launched("AddBias");
  }

  absl::Status Add(double alpha, MatrixRef x, MatrixRef y) override {
    RETURN_IF_ERROR(checks::Add(x, y));
    cuda::Add(alpha, x, y, device_->Use());
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
               static_cast<int64_t>(offsets.size()) - 1, device_->Use());
    return device_->Launched("Rope");
  }

  absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                         std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                         MatrixRef out) override {
    RETURN_IF_ERROR(checks::Attention(q, k, v, shape, offsets, keys, out));
    RETURN_IF_ERROR(CheckHeadDim("Attention", shape));
    int64_t longest = 0;
    for (size_t s = 1; s < offsets.size(); ++s) {
      longest = std::max(longest, offsets[s] - offsets[s - 1]);
    }
    AttentionShape scaled = shape;
    if (shape.scale == 0) scaled.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    const std::vector<KeyRange> ranges = checks::KeysOf(offsets, keys);
    ASSIGN_OR_RETURN(const std::shared_ptr<void> begins, Put(offsets));
    ASSIGN_OR_RETURN(const std::shared_ptr<void> seen, Put(std::span<const KeyRange>(ranges)));
    cuda::Attention(q, k, v, scaled, static_cast<const int64_t*>(begins.get()),
                    static_cast<const KeyRange*>(seen.get()),
                    static_cast<int64_t>(offsets.size()) - 1, longest, out, device_->Use());
    return device_->Launched("Attention");
  }

  absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) override {
    RETURN_IF_ERROR(checks::Activate(gate, up));
    cuda::Activate(activation, gate, up, device_->Use());
    return device_->Launched("Activate");
  }

  absl::Status SoftCap(MatrixRef x, double cap) override {
    RETURN_IF_ERROR(checks::SoftCap(x, cap));
    cuda::SoftCap(x, cap, device_->Use());
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
    cuda::FindNonFinite(x, bad.as<int32_t>(), device_->Use());
    RETURN_IF_ERROR(device_->Launched("AllFinite"));
    int32_t found = 0;
    RETURN_IF_ERROR(device_->Download(bad, &found, DType::kI32));
    return found == 0;
  }

 private:
  template <typename T>
  absl::StatusOr<std::shared_ptr<void>> Put(std::span<const T> values) {
    return cuda::Device::Put(device_, values.data(), static_cast<int64_t>(values.size_bytes()));
  }

  absl::Status Zero(MatrixRef c) {
    const size_t size = SizeOf(c.dtype);
    return cuda::Check("Gemm", cudaMemset2DAsync(c.data, static_cast<size_t>(c.stride) * size, 0,
                                                 static_cast<size_t>(c.cols) * size,
                                                 static_cast<size_t>(c.rows), device_->Use()));
  }

  static absl::Status CheckHeadDim(const char* operation, const AttentionShape& shape) {
    if (shape.head_dim <= cuda::kMaxHeadDim) return absl::OkStatus();
    return absl::UnimplementedError(std::string(operation) + ": heads of " +
                                    std::to_string(shape.head_dim) + " dimensions, at most " +
                                    std::to_string(cuda::kMaxHeadDim));
  }

  // Σ over rows of what launch leaves for each.
  template <typename F>
  absl::StatusOr<double> SumOfRows(const char* operation, int64_t rows, F launch) {
    if (rows == 0) return 0.0;
    ASSIGN_OR_RETURN(const Matrix sums, New(1, rows, DType::kF64));
    launch(sums.as<double>(), device_->Use());
    RETURN_IF_ERROR(device_->Launched(operation));
    std::vector<double> host(static_cast<size_t>(rows));
    RETURN_IF_ERROR(device_->Download(sums, host.data(), DType::kF64));
    return std::accumulate(host.begin(), host.end(), 0.0);
  }

  // Room for one product of a Gram matrix; kept, for there will be another.
  absl::StatusOr<MatrixRef> GramChunk(int64_t rows, int64_t cols) {
    if (gram_chunk_.empty() || gram_chunk_.ref().size() < rows * cols) {
      gram_chunk_ = Matrix();  // before there are two
      ASSIGN_OR_RETURN(gram_chunk_, New(1, rows * cols, DType::kF32));
    }
    device_->Use();
    return MatrixRef{gram_chunk_.ref().data, rows, cols, cols, DType::kF32};
  }

  std::shared_ptr<cuda::Device> device_;
  cuda::EigenSolver eigen_;
  Matrix gram_chunk_;
};

void Devices(void (*on_device)(void*, const CudaDevice*), void (*on_error)(void*, const char*),
             void* context) {
  const absl::StatusOr<int> count = cuda::DeviceCount();
  if (!count.ok()) return on_error(context, std::string(count.status().message()).c_str());
  int driver = 0;
  cudaDriverGetVersion(&driver);
  for (int i = 0; i < *count; ++i) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, i);
    if (error != cudaSuccess) return on_error(context, cudaGetErrorString(error));
    const CudaDevice device{properties.name, static_cast<int64_t>(properties.totalGlobalMem),
                            properties.major, properties.minor, driver};
    on_device(context, &device);
  }
}

void* Create(int ordinal, void (*on_error)(void*, const char*), void* context) {
  auto device = cuda::Device::Open(ordinal);
  if (!device.ok()) {
    on_error(context, std::string(device.status().message()).c_str());
    return nullptr;
  }
  Backend* const backend = new CudaBackend(*std::move(device));
  return backend;
}

}  // namespace
}  // namespace svdllm

extern "C" __attribute__((visibility("default")))
const svdllm::CudaApi svdllm_cuda_api = {svdllm::kCudaApiVersion, svdllm::Devices, svdllm::Create};
