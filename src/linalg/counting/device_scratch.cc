#include "linalg/counting/device_scratch.h"

namespace svdllm::device {
namespace {

// Queries a sequence, on average, from which tiles are faster than the kernel of short ones.
constexpr int64_t kTiledQueries = 256;
// Heads that are wider go in tiles, whatever their number.
constexpr int64_t kKernelHeadDim = 256;
// Scores of a tile: so many that a launch is worth its while, and in no case more than the second.
constexpr int64_t kTileBytes = int64_t{64} << 20;
constexpr int64_t kMostTileBytes = int64_t{320} << 20;
constexpr int64_t kLeastRows = 64;
constexpr int64_t kMostRows = 512;

// Of the solver's workspace for a problem of order n, with its values and its return code.
int64_t LaneBytes(int64_t n) { return (4 * n * n + 128 * n) * 8 + (int64_t{9} << 17); }

}  // namespace

AttentionTiles TilesOf(const AttentionShape& shape, std::span<const int64_t> offsets,
                       std::span<const KeyRange> keys) {
  AttentionTiles tiles;
  const auto sequences = static_cast<int64_t>(offsets.size()) - 1;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t queries = offsets[s + 1] - offsets[s];
    if (queries == 0) continue;
    tiles.queries = std::max(tiles.queries, queries);
    tiles.keys = std::max(tiles.keys, keys[s].count);
  }
  if (tiles.queries == 0) return tiles;
  const bool wide = shape.head_dim > kKernelHeadDim;
  tiles.tiled = wide || (IsHalf(shape.precision) && offsets.back() >= kTiledQueries * sequences);
  if (!tiles.tiled) return tiles;
  tiles.dtype = shape.precision;
  tiles.pitch = RoundedPitch(tiles.keys);
  const int64_t row = shape.heads * tiles.pitch * 4;
  tiles.rows = std::clamp(kTileBytes / row, kLeastRows, kMostRows);
  tiles.rows = std::min(tiles.rows, std::max<int64_t>(kMostTileBytes / row, 1));
  tiles.rows = std::min(tiles.rows, tiles.queries);
  return tiles;
}

int64_t AttentionScratch(const AttentionShape& shape, std::span<const int64_t> offsets,
                         std::span<const KeyRange> keys) {
  const AttentionTiles tiles = TilesOf(shape, offsets, keys);
  if (!tiles.tiled) return 0;
  const auto size = static_cast<int64_t>(SizeOf(tiles.dtype));
  int64_t bytes = shape.heads * tiles.rows * tiles.pitch * (4 + size);  // scores and weights
  if (IsHalf(tiles.dtype)) {
    bytes += RoundedBytes(tiles.queries, shape.heads * shape.head_dim) +
             2 * RoundedBytes(tiles.keys, shape.kv_heads * shape.head_dim);
  }
  return bytes;
}

int64_t EigenScratch(std::span<const EigenProblem> problems) {
  int64_t bytes = 0;
  for (const EigenProblem& problem : problems) bytes = std::max(bytes, LaneBytes(problem.k.rows));
  return bytes * std::min(kEigenLanes, static_cast<int64_t>(problems.size()));
}

int64_t ThinQrScratch(int64_t m, int64_t n) {
  return (m * n + m + 1152 * n) * 8 + (int64_t{8} << 20);
}

int64_t SolveSpdScratch(int64_t k) { return 65 * k * 8 + (int64_t{1} << 20); }

int64_t InterpolativeScratch(int64_t k, int64_t m) {
  return (k * m + 2 * k + m) * 8 + 12 * (m + k);
}

}  // namespace svdllm::device
