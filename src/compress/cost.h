// What the steps of a compression cost.
#pragma once

#include "job/spec.h"
#include "model/cost.h"

namespace svdllm {

// The statistics of one block of the dense model.
double StatisticsFlops(const CompressSpec& spec, const ModelConfig& config,
                       const Architecture& arch, double tokens);

// What the anchored method does at one site for one keep ratio: the dense stream's part, the
// compressed one's, H and the drift.
double AnchoredFlops(const ModelConfig& config, const Architecture& arch, Site site,
                     const Workload& work);

// Of one block. The other two are shares of it: eigenvalues alone, and cutting, checking and
// storing the factors of one keep ratio.
inline constexpr double kValuesShare = 0.33;
inline constexpr double kFactorShare = 0.33;

double DecomposeFlops(const ModelConfig& config, const Architecture& arch);

// The dense model's pass through one layer with its statistics; 0 where the method needs none.
double PassFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                 const Workload& calibration);

// Of all layers and keep ratios: what DenseLayers and AnchoredLayers do.
double DenseLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                        const Workload& calibration);
double AnchoredLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                           const Workload& calibration);

}  // namespace svdllm
