// Attention in tiles of query rows through cuBLAS: products on tensor cores, or heads of any size.
#pragma once

#include <memory>
#include <span>

#include "linalg/counting/device_scratch.h"
#include "linalg/cuda/device.h"

namespace svdllm::cuda {

// shape has its scale filled in. keys holds one range per sequence. tiles is what device::TilesOf
// gives for these.
absl::Status TiledAttention(const std::shared_ptr<Device>& device, MatrixRef q, MatrixRef k,
                            MatrixRef v, const AttentionShape& shape,
                            const device::AttentionTiles& tiles, std::span<const int64_t> offsets,
                            std::span<const KeyRange> keys, MatrixRef out);

}  // namespace svdllm::cuda
