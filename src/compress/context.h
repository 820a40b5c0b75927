// What every part of a compression shares.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/linears.h"
#include "job/progress.h"
#include "job/spec.h"
#include "linalg/backend.h"
#include "model/sequences.h"

namespace svdllm {

// Where a compression's data lie and what is under way at a time. Results do not depend on it.
struct Placement {
  bool host_streams = false;  // residual streams lie in the host's memory
  bool overlap = false;       // a layer's eigenproblems run beside the next layer's calibration
  bool one_matrix = false;    // a layer's matrices are decomposed one after the other
};

// What all layers of one compression share. References: the owner outlives the call.
struct CompressRun {
  const CompressSpec& spec;  // resolved
  const Checkpoint& checkpoint;
  const std::vector<LinearLayer>& linears;
  const Sequences& calibration;
  Backend& backend;
  Progress& progress;
  Placement placement = {};
};

// What is stored of one matrix, in the dtype of the source's weight: factors, or, for
// OutputFormat::kDense, their product.
struct StoredFactors {
  std::vector<std::byte> a, b;    // [rank, in], [out, rank]; pivoted: [out − rank, rank]
  std::vector<int32_t> order;     // [out]; pivoted only
  std::vector<std::byte> weight;  // [out, in]; empty where there are factors
};

// Where the factors of one keep ratio go.
struct FactorSink {
  // One per linear layer; 0: it stays dense, and nothing is written for it.
  std::vector<int64_t> ranks;
  // Called once per linear layer with a rank, layer by layer. Empty: nothing is kept, as where only
  // memory is counted.
  std::function<absl::Status(size_t linear, const StoredFactors& factors)> write;
};

// reports[1][17]: what the second keep ratio made of the eighteenth linear layer.
using MatrixReports = std::vector<std::vector<MatrixReport>>;

// The linear layers of a decoder layer, by their places in the list, in groups that are decomposed
// together.
std::vector<std::vector<size_t>> DecompositionGroups(const CompressRun& run, int64_t layer);

// Tells whoever looks on that a layer has been factorised.
absl::Status LayerDone(const CompressRun& run, int64_t layer);

// What went wrong while a layer's matrices were decomposed, with the layer's number.
absl::Status LayerError(const absl::Status& status, int64_t layer);

}  // namespace svdllm
