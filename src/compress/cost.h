// What the steps of a compression cost, in the unit of model/cost.h.
#pragma once

#include "job/spec.h"
#include "model/cost.h"

namespace svdllm {

// Gathering the statistics of one block of the dense model.
double StatisticsFlops(const CompressSpec& spec, const ModelConfig& config,
                       const Architecture& arch, double tokens);

// What the anchored method does at one site for one keep ratio: the dense stream's part, the
// compressed stream's part, H and the drift.
double AnchoredFlops(const ModelConfig& config, const Architecture& arch, Site site,
                     const Workload& work);

// DecomposeFlops is the work of decomposing one block. The two shares are parts of it: kValuesShare
// for eigenvalues alone, kFactorShare for cutting, checking and storing the factors of one keep
// ratio.
inline constexpr double kValuesShare = 0.33;
inline constexpr double kFactorShare = 0.33;

double DecomposeFlops(const ModelConfig& config, const Architecture& arch);

// The dense model's pass through one layer with its statistics. It is 0 where the method needs no
// statistics.
double PassFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                 const Workload& calibration);

// The work of DenseLayers and of AnchoredLayers over all layers and keep ratios.
double DenseLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                        const Workload& calibration);
double AnchoredLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                           const Workload& calibration);

}  // namespace svdllm
