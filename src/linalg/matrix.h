// Dense row-major matrices in the memory of a backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "linalg/dtype.h"

namespace svdllm {

// A view: element (i, j) stands at data[i * stride + j]. It does not own its memory and is valid
// while the owner lives.
struct MatrixRef {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  DType dtype = DType::kF32;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  template <typename T>
  T* row(int64_t i) const {
    return as<T>() + i * stride;
  }
  int64_t size() const { return rows * cols; }
  bool contiguous() const { return stride == cols || rows <= 1; }
  // A view of rows, or of columns, [begin, begin + count).
  MatrixRef Rows(int64_t begin, int64_t count) const {
    return {Offset(begin * stride), count, cols, stride, dtype};
  }
  MatrixRef Cols(int64_t begin, int64_t count) const {
    return {Offset(begin), rows, count, stride, dtype};
  }

 private:
  void* Offset(int64_t elements) const {
    return static_cast<char*>(data) + elements * static_cast<int64_t>(SizeOf(dtype));
  }
};

// Owns its memory. Contiguous unless narrowed; movable. It comes from Backend::New, and the backend
// must outlive it.
class Matrix {
 public:
  Matrix() = default;
  Matrix(MatrixRef ref, std::shared_ptr<void> memory) : ref_(ref), memory_(std::move(memory)) {}

  const MatrixRef& ref() const { return ref_; }
  operator const MatrixRef&() const { return ref_; }  // NOLINT: a matrix is used as its view
  int64_t rows() const { return ref_.rows; }
  int64_t cols() const { return ref_.cols; }
  DType dtype() const { return ref_.dtype; }
  bool empty() const { return ref_.data == nullptr; }
  // The matrix of its first columns. It keeps all of the memory.
  Matrix Narrowed(int64_t cols) && { return {ref_.Cols(0, cols), std::move(memory_)}; }
  template <typename T>
  T* as() const {
    return ref_.as<T>();
  }

 private:
  MatrixRef ref_;
  std::shared_ptr<void> memory_;
};

}  // namespace svdllm
