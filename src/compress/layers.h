// The middle of a compression: calibrate ▸ allocate ▸ factorise ▸ write, streamed a block at a
// time.
#pragma once

#include <vector>

#include "artifact/writer.h"
#include "compress/context.h"

namespace svdllm {

// Factorises every target for every writer and hands the factors over, layer by layer: one stream
// of activations through the dense model and, where the method updates or is anchored, one more
// through each compressed prefix. Returns a report a target for each writer.
absl::StatusOr<std::vector<std::vector<MatrixReport>>> CompressBlocks(
    const CompressContext& context, std::vector<ArtifactWriter>& writers);

}  // namespace svdllm
