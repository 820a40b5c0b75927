// The middle of a compression: calibrate ▸ factorise ▸ write, a decoder layer at a time. How a
// method goes through a layer is a row of a table.
#pragma once

#include <span>

#include "compress/context.h"
#include "lowrank/method.h"
#include "model/cost.h"

namespace svdllm {

// One way of going through the layers, for all methods that take the same from the compressed
// prefix.
struct LayerWay {
  Prefix prefix;
  // Factorises every linear layer for every sink and hands the factors over, layer by layer.
  absl::StatusOr<MatrixReports> (*run)(const CompressRun& run, std::span<const FactorSink> sinks);
  // The work of `run` over that much calibration text, in the unit of model/cost.h.
  double (*flops)(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration);
  // How many residual streams there are per keep ratio, beside the dense model's.
  int64_t streams_per_ratio;
};

const LayerWay& WayOf(Method method);

// Goes the way of the run's method. reports[1][17] is about the second sink's eighteenth linear
// layer.
absl::StatusOr<MatrixReports> CompressLayers(const CompressRun& run,
                                             std::span<const FactorSink> sinks);

}  // namespace svdllm
