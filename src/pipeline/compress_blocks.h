// The middle of a compression: calibrate ▸ allocate ▸ factorise ▸ write, streamed a block at a
// time.
#pragma once

#include <vector>

#include "linalg/backend.h"
#include "pipeline/artifact_writer.h"
#include "pipeline/plan.h"
#include "pipeline/run_log.h"
#include "pipeline/sequences.h"

namespace svdllm {

// Where a compression's data lie and what is under way at a time. Results do not depend on it.
struct Placement {
  bool host_streams = false;  // residual streams lie in the host's memory
  bool overlap = false;       // a layer's eigenproblems run beside the next layer's calibration
  bool one_matrix = false;    // a layer's matrices are decomposed one after the other
};

// What all blocks of one compression share. References: the owner outlives the call.
struct CompressContext {
  const CompressSpec& spec;  // resolved
  const Checkpoint& checkpoint;
  const std::vector<Target>& targets;
  const Sequences& calibration;
  Backend& backend;
  RunLog& log;
  Placement placement = {};
};

// The ranks of one keep ratio a row, a target each: from the shapes alone, or, for an allocation
// that needs spectra, from a pass of its own over the dense model.
absl::StatusOr<std::vector<std::vector<int64_t>>> AllocateRanks(const CompressContext& context);

// Tells whoever looks on that a layer has been factorised.
absl::Status LayerDone(const CompressContext& context, int64_t layer);

// Factorises every target for every writer and hands the factors over, layer by layer: one stream
// of activations through the dense model and, where the method updates or is anchored, one more
// through each compressed prefix. Returns a report a target for each writer.
absl::StatusOr<std::vector<std::vector<MatrixReport>>> CompressBlocks(
    const CompressContext& context, std::vector<ArtifactWriter>& writers);

}  // namespace svdllm
