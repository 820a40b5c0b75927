// Products through cuBLAS, with row-major operands: a row-major matrix is its transpose to the
// library. Operands are checked before (backend.h has the contracts).
#pragma once

#include <memory>

#include "linalg/cuda/device.h"

namespace svdllm::cuda {

class Products {
 public:
  explicit Products(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a, MatrixRef b,
                    double beta, MatrixRef c);
  absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram);
  absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision, MatrixRef cross);

  // To be called before anything else writes to a matrix that a product may have read, or gives its
  // memory back.
  void Forget() { last_ = {}; }

 private:
  // A matrix in 16 bits, and what it was made of.
  struct Rounded {
    MatrixRef source, ref;
    std::shared_ptr<void> memory;
  };

  // x rounded to dtype; x itself where that is its type. What the last product has rounded is not
  // rounded again: several layers read the same input, and its Gram matrix is taken.
  absl::StatusOr<Rounded> Round(MatrixRef x, DType dtype);
  // x as the library multiplies it: its values as F32 where it has no products of its type.
  absl::StatusOr<Rounded> Native(MatrixRef x);
  // a and b of one type, c F32, or F64 like them; none is empty.
  absl::Status Multiply(const char* operation, bool transpose_a, bool transpose_b, double alpha,
                        MatrixRef a, MatrixRef b, double beta, MatrixRef c);
  // sum += xᵀ y in F64, in panels of rows; of lower only what is on and below the diagonal.
  absl::Status AddProduct(const char* operation, MatrixRef x, MatrixRef y, bool lower,
                          MatrixRef sum);

  std::shared_ptr<Device> device_;
  Rounded last_;
};

}  // namespace svdllm::cuda
