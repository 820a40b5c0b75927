// Products through cuBLAS, with row-major operands: a row-major matrix is its transpose to the
// library. The operands are checked already (backend.h has the contracts).
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
  // A matrix in 16 bits, with what it was made from.
  struct Rounded {
    MatrixRef source, ref;
    std::shared_ptr<void> memory;
  };

  // Returns x rounded to dtype, or x itself where that is its type. What the last product has
  // rounded is not rounded again: several layers read the same input, and its Gram matrix is taken
  // as well.
  absl::StatusOr<Rounded> Round(MatrixRef x, DType dtype);
  // Returns x as the library multiplies it: its values as F32 where the library has no products of
  // its type.
  absl::StatusOr<Rounded> Native(MatrixRef x);
  // a and b have one type; c is F32, or F64 where they are. None is empty.
  absl::Status Multiply(const char* operation, bool transpose_a, bool transpose_b, double alpha,
                        MatrixRef a, MatrixRef b, double beta, MatrixRef c);
  // sum += xᵀ y in F64, in panels of rows. With `lower`, only what is on and below the diagonal is
  // added.
  absl::Status AddProduct(const char* operation, MatrixRef x, MatrixRef y, bool lower,
                          MatrixRef sum);

  std::shared_ptr<Device> device_;
  Rounded last_;
};

}  // namespace svdllm::cuda
