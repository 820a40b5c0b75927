// What every part of a compression shares.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/linears.h"
#include "job/progress.h"
#include "job/spec.h"
#include "journal/journal.h"
#include "linalg/backend.h"
#include "model/sequences.h"

namespace svdllm {

// Where a compression's data lie, and what runs at the same time. Results do not depend on it.
struct Placement {
  bool host_streams = false;  // residual streams lie in the host's memory
  bool overlap = false;       // a layer's eigenproblems run beside the next layer's calibration
  bool one_matrix = false;    // a layer's matrices are decomposed one after the other
};

// What all layers of one compression share. The members are references: their owners outlive the
// call.
struct CompressRun {
  const CompressSpec& spec;  // resolved
  const Checkpoint& checkpoint;
  const std::vector<LinearLayer>& linears;
  const Sequences& calibration;
  Backend& backend;
  Progress& progress;
  Placement placement = {};
  Journal* journal = nullptr;  // what is finished is kept there; nullptr: nowhere
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
  // One rank per linear layer. 0 means that the layer stays dense and nothing is written for it.
  std::vector<int64_t> ranks;
  // Called once per linear layer with a rank, layer by layer. Where it is empty, nothing is kept:
  // so it is where only memory is counted.
  std::function<absl::Status(size_t linear, const StoredFactors& factors)> write;
};

// reports[1][17] says what the second keep ratio made of the eighteenth linear layer.
using MatrixReports = std::vector<std::vector<MatrixReport>>;

// Returns the linear layers of a decoder layer in groups that are decomposed together, by their
// places in the list. Where a layer is decomposed at once, groups[0] has all seven of it; with
// Placement::one_matrix, groups[2] holds one place, that of the layer's third linear.
std::vector<std::vector<size_t>> DecompositionGroups(const CompressRun& run, int64_t layer);

// What a keep ratio is called in a job's journal: "0.8".
std::string RatioName(double keep_ratio);

// Returns the error that decomposing a layer's matrices ended with, with the layer's number in
// front.
absl::Status LayerError(const absl::Status& status, int64_t layer);

}  // namespace svdllm
