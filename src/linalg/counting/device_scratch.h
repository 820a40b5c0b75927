// The device memory that the CUDA backend's operations take for the time of a call, beside their
// operands: what the backend allocates by, and what a plan predicts its peak by without a device.
// Plain C++. Bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "linalg/backend.h"

namespace svdllm::device {

// Staging buffers: long enough for the bus's full speed, short enough that filling one hides behind
// moving another.
inline constexpr int64_t kStagingBytes = int64_t{8} << 20;
// Given to cuBLAS once, so that what it takes is known and its choices are repeatable.
inline constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;
// What a backend holds from its beginning: the workspace, and staging for conversions of the
// operations' stream and of the uploads'.
inline constexpr int64_t kFixedBytes = kBlasWorkspaceBytes + 2 * kStagingBytes;

// Tokens of one product of a Gram matrix; the products are added up in F64. Matrix units cut their
// sums off instead of rounding them, so that squares come out low by more the longer a sum is:
// a few millionths at this length.
constexpr int64_t GramChunk(DType precision) { return IsHalf(precision) ? 2048 : 1024; }
// Rows of a Gram matrix that one product makes: what is above the diagonal is left out panel-wise.
inline constexpr int64_t kGramPanel = 2048;

// Elements a row of a matrix that was rounded to 16 bits: tensor cores want rows on 16 bytes.
constexpr int64_t RoundedPitch(int64_t cols) { return (cols + 7) / 8 * 8; }
constexpr int64_t RoundedBytes(int64_t rows, int64_t cols) { return rows * RoundedPitch(cols) * 2; }

// a [rows, cols] rounded to the type of b; nothing where b is F32 or F64. Stays until another kind
// of operation is called: several products of the same a round it once.
constexpr int64_t GemmScratch(int64_t rows, int64_t cols, DType b) {
  return IsHalf(b) ? RoundedBytes(rows, cols) : 0;
}
// x rounded, and one panel of a product.
constexpr int64_t GramScratch(int64_t tokens, int64_t n, DType precision) {
  return GemmScratch(tokens, n, precision) + std::min(n, kGramPanel) * n * 4;
}
constexpr int64_t CrossScratch(int64_t tokens, int64_t p, int64_t n, DType precision) {
  return GemmScratch(tokens, p, precision) + GemmScratch(tokens, n, precision) +
         std::min(p, kGramPanel) * n * 4;
}

// How one attention goes: by a kernel that carries the softmax along, without scratch, or in tiles
// of query rows through the library's products.
struct AttentionTiles {
  bool tiled = false;
  DType dtype = DType::kF32;  // of the products
  int64_t rows = 0;           // of a tile
  int64_t pitch = 0;          // keys of a tile's row, rounded up
  int64_t queries = 0;        // of the longest sequence
  int64_t keys = 0;           // that a sequence sees, at most
};
// keys: one range a sequence.
AttentionTiles TilesOf(const AttentionShape& shape, std::span<const int64_t> offsets,
                       std::span<const KeyRange> keys);
int64_t AttentionScratch(const AttentionShape& shape, std::span<const int64_t> offsets,
                         std::span<const KeyRange> keys);

// Eigenproblems of a batch that run at the same time: a layer's. Each is a chain of small steps,
// which leave a large device idle.
inline constexpr int64_t kEigenLanes = 7;
// Of a batch, from StartEigen to Finish; with vectors or without. These three are what the solver
// of CUDA 13.0 asks for, rounded up.
int64_t EigenScratch(std::span<const EigenProblem> problems);
int64_t ThinQrScratch(int64_t m, int64_t n);
int64_t SolveSpdScratch(int64_t k);
int64_t InterpolativeScratch(int64_t k, int64_t m);
// Dot, CrossEntropy and KlDivergence: a sum a row, and the targets.
constexpr int64_t ReductionScratch(int64_t rows) { return rows * 12; }

}  // namespace svdllm::device
