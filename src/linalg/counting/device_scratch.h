// The device memory that the CUDA backend's operations take for the time of a call, beside their
// operands, in bytes. The backend allocates by these formulas, and a plan predicts its peak by them
// without a device. Plain C++.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "linalg/backend.h"

namespace svdllm::device {

// The size of a staging buffer: long enough for the bus's full speed, short enough that filling one
// hides behind moving another.
inline constexpr int64_t kStagingBytes = int64_t{8} << 20;
// The workspace that cuBLAS is given once, so that what it takes is known and its choices are
// repeatable.
inline constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;
// What a backend holds from its beginning: the workspace, and two staging buffers for conversions,
// one of the operations' stream and one of the uploads'.
inline constexpr int64_t kFixedBytes = kBlasWorkspaceBytes + 2 * kStagingBytes;

// The tokens of one product of a Gram matrix. The products are added up in F64. Matrix units cut
// their sums off instead of rounding them, so squares come out lower the longer a sum is: by a few
// millionths at this length.
constexpr int64_t GramChunk(DType precision) { return IsHalf(precision) ? 2048 : 1024; }
// The rows of a Gram matrix that one product makes. What is above the diagonal is left out panel by
// panel.
inline constexpr int64_t kGramPanel = 2048;

// Elements per row of a matrix that was rounded to 16 bits: tensor cores want rows that begin on 16
// bytes.
constexpr int64_t RoundedPitch(int64_t cols) { return (cols + 7) / 8 * 8; }
constexpr int64_t RoundedBytes(int64_t rows, int64_t cols) { return rows * RoundedPitch(cols) * 2; }

// What a Gemm takes for a [rows, cols] rounded to the type of b; nothing where b is F32 or F64. It
// stays until an operation of another kind is called, so that several products of the same a round
// it once.
constexpr int64_t GemmScratch(int64_t rows, int64_t cols, DType b) {
  return IsHalf(b) ? RoundedBytes(rows, cols) : 0;
}
// What a Gram or a cross product takes: its operands rounded, and one panel of the product.
constexpr int64_t GramScratch(int64_t tokens, int64_t n, DType precision) {
  return GemmScratch(tokens, n, precision) + std::min(n, kGramPanel) * n * 4;
}
constexpr int64_t CrossScratch(int64_t tokens, int64_t p, int64_t n, DType precision) {
  return GemmScratch(tokens, p, precision) + GemmScratch(tokens, n, precision) +
         std::min(p, kGramPanel) * n * 4;
}

// How one attention is computed: by a kernel that carries the softmax along and takes no scratch,
// or in tiles of query rows through the library's products.
struct AttentionTiles {
  bool tiled = false;
  DType dtype = DType::kF32;  // of the products
  int64_t rows = 0;           // of a tile
  int64_t pitch = 0;          // keys per row of a tile, rounded up
  int64_t queries = 0;        // of the longest sequence
  int64_t keys = 0;           // the most that a sequence sees
};
// keys: one range per sequence.
AttentionTiles TilesOf(const AttentionShape& shape, std::span<const int64_t> offsets,
                       std::span<const KeyRange> keys);
int64_t AttentionScratch(const AttentionShape& shape, std::span<const int64_t> offsets,
                         std::span<const KeyRange> keys);

// How many eigenproblems of a batch run at the same time: as many as a layer has. Each is a chain
// of small steps, which leaves a large device idle.
inline constexpr int64_t kEigenLanes = 7;
// What a batch takes from StartEigen to Finish, with vectors or without; then what ThinQr and
// SolveSpd take. These three are what the solver of CUDA 13.0 asks for, rounded up.
int64_t EigenScratch(std::span<const EigenProblem> problems);
int64_t ThinQrScratch(int64_t m, int64_t n);
int64_t SolveSpdScratch(int64_t k);
int64_t InterpolativeScratch(int64_t k, int64_t m);
// What Dot, CrossEntropy and KlDivergence take: a sum per row, and the targets.
constexpr int64_t ReductionScratch(int64_t rows) { return rows * 12; }

}  // namespace svdllm::device
