// Element types of stored tensors and of matrices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace svdllm {

// kI32 holds indices: it is stored and moved, never computed with.
enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kI32 };

constexpr size_t SizeOf(DType dtype) {
  return dtype == DType::kF64 ? 8 : dtype == DType::kF32 || dtype == DType::kI32 ? 4 : 2;
}

constexpr bool IsHalf(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

// The safetensors name: "F64", "F32", "F16", "BF16", "I32".
constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
  }
  return "?";
}

// Converts count elements between F16, BF16, F32 and F64. They are rounded once, to nearest even;
// NaN stays NaN, and overflow becomes infinity. Buffers do not overlap and need no alignment. Large
// counts use OpenMP's threads. I32 converts to itself only; any other use of it is a mistake in the
// calling code and aborts.
void ConvertElements(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count);

// Whether none of count floating-point elements is NaN or infinite. The elements need no alignment.
// Large counts use OpenMP's threads.
bool AllFiniteElements(const void* elements, DType dtype, size_t count);

}  // namespace svdllm
