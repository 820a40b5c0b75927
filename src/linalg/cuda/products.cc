#include "linalg/cuda/products.h"

#include <algorithm>

#include "linalg/counting/device_scratch.h"
#include "linalg/cuda/kernels.h"

namespace svdllm::cuda {
namespace {

// A leading dimension of 0 (an empty operand) is refused.
int64_t Pitch(const MatrixRef& x) { return std::max<int64_t>(x.stride, 1); }

bool Same(const MatrixRef& a, const MatrixRef& b) {
  return a.data == b.data && a.rows == b.rows && a.cols == b.cols && a.stride == b.stride &&
         a.dtype == b.dtype;
}

bool Overlap(const MatrixRef& a, const MatrixRef& b) {
  const auto end = [](const MatrixRef& x) {
    return x.as<char>() +
           ((x.rows - 1) * x.stride + x.cols) * static_cast<int64_t>(SizeOf(x.dtype));
  };
  return a.size() > 0 && b.size() > 0 && a.as<char>() < end(b) && b.as<char>() < end(a);
}

}  // namespace

absl::StatusOr<Products::Rounded> Products::Round(MatrixRef x, DType dtype) {
  if (x.dtype == dtype) return Rounded{x, x, nullptr};
  if (last_.ref.dtype == dtype && Same(last_.source, x)) return last_;
  Forget();  // before there are two
  const int64_t pitch = device::RoundedPitch(x.cols);
  ASSIGN_OR_RETURN(std::shared_ptr<void> memory,
                   Device::Allocate(device_, device::RoundedBytes(x.rows, x.cols)));
  const MatrixRef rounded{memory.get(), x.rows, x.cols, pitch, dtype};
  cuda::Round(x, rounded, device_->Use());
  RETURN_IF_ERROR(device_->Launched("Round"));
  last_ = {x, rounded, std::move(memory)};
  return last_;
}

absl::StatusOr<Products::Rounded> Products::Native(MatrixRef x) {
  if (device_->Multiplies(x.dtype)) return Rounded{x, x, nullptr};
  ASSIGN_OR_RETURN(std::shared_ptr<void> memory, Device::Allocate(device_, x.size() * 4));
  const MatrixRef wide{memory.get(), x.rows, x.cols, x.cols, DType::kF32};
  Convert(x, 0, wide, 0, x.size(), device_->Use());
  RETURN_IF_ERROR(device_->Launched("Convert"));
  return Rounded{x, wide, std::move(memory)};
}

absl::Status Products::Multiply(const char* operation, bool transpose_a, bool transpose_b,
                                double alpha, MatrixRef a, MatrixRef b, double beta, MatrixRef c) {
  device_->Use();
  device_->Pace();
  const int64_t k = transpose_a ? a.rows : a.cols;
  // cᵀ = op(b)ᵀ op(a)ᵀ.
  const auto first = transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const auto second = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const auto factor = static_cast<float>(alpha), keep = static_cast<float>(beta);
  return device_->Call(operation, [&] {
    if (a.dtype == DType::kF64) {
      return cublasDgemm_64(device_->blas(), first, second, c.cols, c.rows, k, &alpha,
                            b.as<double>(), Pitch(b), a.as<double>(), Pitch(a), &beta,
                            c.as<double>(), Pitch(c));
    }
    if (a.dtype == DType::kF32) {
      return cublasSgemm_64(device_->blas(), first, second, c.cols, c.rows, k, &factor,
                            b.as<float>(), Pitch(b), a.as<float>(), Pitch(a), &keep, c.as<float>(),
                            Pitch(c));
    }
    return cublasGemmEx_64(device_->blas(), first, second, c.cols, c.rows, k, &factor, b.data,
                           DataType(b.dtype), Pitch(b), a.data, DataType(a.dtype), Pitch(a), &keep,
                           c.data, CUDA_R_32F, Pitch(c), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  });
}

absl::Status Products::Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a,
                            MatrixRef b, double beta, MatrixRef c) {
  if (!IsHalf(b.dtype)) {
    RETURN_IF_ERROR(Multiply("Gemm", transpose_a, transpose_b, alpha, a, b, beta, c));
  } else {
    ASSIGN_OR_RETURN(const Rounded rounded, Round(a, b.dtype));
    ASSIGN_OR_RETURN(const Rounded left, Native(rounded.ref));
    ASSIGN_OR_RETURN(const Rounded right, Native(b));
    RETURN_IF_ERROR(Multiply("Gemm", false, true, alpha, left.ref, right.ref, beta, c));
  }
  if (Overlap(c, last_.source)) Forget();
  return absl::OkStatus();
}

absl::Status Products::AddProduct(const char* operation, MatrixRef x, MatrixRef y, bool lower,
                                  MatrixRef sum) {
  const int64_t chunk = device::GramChunk(x.dtype), most = std::min(sum.rows, device::kGramPanel);
  ASSIGN_OR_RETURN(const std::shared_ptr<void> memory,
                   Device::Allocate(device_, most * sum.cols * 4));
  for (int64_t begin = 0; begin < x.rows; begin += chunk) {
    const int64_t count = std::min(chunk, x.rows - begin);
    for (int64_t row = 0; row < sum.rows; row += most) {
      const int64_t rows = std::min(most, sum.rows - row), cols = lower ? row + rows : sum.cols;
      const MatrixRef product{memory.get(), rows, cols, cols, DType::kF32};
      RETURN_IF_ERROR(Multiply(operation, true, false, 1, x.Rows(begin, count).Cols(row, rows),
                               y.Rows(begin, count).Cols(0, cols), 0, product));
      AddToDouble(product, sum.Rows(row, rows).Cols(0, cols), lower ? row : cols, device_->Use());
      RETURN_IF_ERROR(device_->Launched(operation));
    }
  }
  return absl::OkStatus();
}

absl::Status Products::AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) {
  ASSIGN_OR_RETURN(const Rounded rounded, Round(x, precision));
  ASSIGN_OR_RETURN(const Rounded native, Native(rounded.ref));
  return AddProduct("AccumulateGram", native.ref, native.ref, /*lower=*/true, gram);
}

absl::Status Products::AccumulateCross(MatrixRef x, MatrixRef y, DType precision, MatrixRef cross) {
  ASSIGN_OR_RETURN(const Rounded x_rounded, Round(x, precision));
  ASSIGN_OR_RETURN(const Rounded left, Native(x_rounded.ref));
  ASSIGN_OR_RETURN(const Rounded y_rounded, Round(y, precision));
  ASSIGN_OR_RETURN(const Rounded right, Native(y_rounded.ref));
  return AddProduct("AccumulateCross", left.ref, right.ref, /*lower=*/false, cross);
}

}  // namespace svdllm::cuda
