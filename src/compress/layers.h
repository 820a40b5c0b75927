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
  // The work of run, in the unit of model/cost.h, over so much calibration text.
  double (*flops)(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration);
  // Residual streams beside the dense model's, per keep ratio.
  int64_t streams_per_ratio;
};

const LayerWay& WayOf(Method method);

// The way of the run's method. Returns a report per linear layer for each sink.
absl::StatusOr<MatrixReports> CompressLayers(const CompressRun& run,
                                             std::span<const FactorSink> sinks);

}  // namespace svdllm
