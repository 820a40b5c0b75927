// Every allocation but the uniform one needs the spectra of the whole model: a pass of its own.
#include "compress/allocate.h"

#include <algorithm>
#include <optional>

#include "compress/dense_pass.h"
#include "compress/kl_probe.h"
#include "compress/rank_rules.h"

namespace svdllm {
namespace {

// A matrix that saves nothing at the uniform ratio was not probed; this keeps it dense where
// anything else can give way.
constexpr double kUnprobed = 1e6;

using Ranks = std::vector<std::vector<int64_t>>;

// What the pass over the dense model tells an allocation.
struct Spectra {
  std::vector<AllocationItem> items;             // one per linear layer
  std::vector<std::vector<double>> divergences;  // per keep ratio and linear layer; probes only
};

// The divergence of a probe at its rank, carried over to other ranks by the spectrum: KL_i · E_i(k)
// / E_i(k_probe), E_i being the tail.
double WeightOf(const AllocationItem& item, int64_t probed_rank, double divergence) {
  // Below these a figure is rounding; a matrix that loses nothing must not look free to cut.
  constexpr double kLeastDivergence = 1e-9, kLeastShare = 1e-7;
  AllocationItem plain = item;
  plain.weight = 1;
  const double share = AllocationError({plain}, {probed_rank});  // E(k_probe) / E(0)
  return std::max(divergence, kLeastDivergence) / std::max(share, kLeastShare);
}

absl::StatusOr<Spectra> GatherSpectra(const CompressRun& run, const Ranks& probed) {
  const bool probes = RowOf(run.spec.allocation).probes;
  Spectra spectra;
  DensePass pass(run);
  RETURN_IF_ERROR(pass.Start());
  std::optional<KlProbe> probe;
  if (probes) {
    probe.emplace(run, probed);
    RETURN_IF_ERROR(probe->Start());
  }
  for (int64_t layer = 0; layer < run.checkpoint.config().num_layers; ++layer) {
    RETURN_IF_ERROR(pass.Calibrate(layer));
    if (probe) RETURN_IF_ERROR(probe->BeginLayer(pass.block()));
    for (const std::vector<size_t>& group : DecompositionGroups(run, layer)) {
      ASSIGN_OR_RETURN(PendingDecompositions pending,
                       StartDecompositions(run, pass.block(), pass.statistics(),
                                           /*values_only=*/!probes, group));
      absl::StatusOr<std::vector<Decomposition>> decompositions = pending.Finish();
      if (!decompositions.ok()) return LayerError(decompositions.status(), layer);
      for (size_t j = 0; j < group.size(); ++j) {
        const LinearLayer& linear = run.linears[group[j]];
        ASSIGN_OR_RETURN(const TensorSpec weight, run.checkpoint.Spec(linear.name + ".weight"));
        spectra.items.push_back({linear.rows, linear.cols,
                                 static_cast<int64_t>(SizeOf(weight.dtype)), linear.group,
                                 (*decompositions)[j].spectrum});
        if (!probe) continue;
        RETURN_IF_ERROR(probe->AddMatrix(pass.block(), group[j], (*decompositions)[j]));
      }
    }
    if (probe) RETURN_IF_ERROR(probe->EndLayer(pass.block()));
  }
  if (probe) {
    ASSIGN_OR_RETURN(spectra.divergences, probe->Divergences());
  }
  return spectra;
}

}  // namespace

absl::StatusOr<Ranks> AllocateRanks(const CompressRun& run) {
  const AllocationRow& allocation = RowOf(run.spec.allocation);
  const Ranks uniform = UniformRanks(run.spec, run.linears);
  if (!allocation.needs_spectra) return uniform;

  ASSIGN_OR_RETURN(Spectra spectra, GatherSpectra(run, uniform));
  run.progress.Enter("allocate");
  Ranks ranks;
  for (size_t r = 0; r < run.spec.keep_ratios.size(); ++r) {
    for (size_t i = 0; i < spectra.items.size() && allocation.probes; ++i) {
      AllocationItem& item = spectra.items[i];
      const int64_t rank = uniform[r][i];
      item.weight = rank > 0 ? WeightOf(item, rank, spectra.divergences[r][i]) : kUnprobed;
    }
    ranks.push_back(allocation.allocate(spectra.items, RulesOf(run.spec, run.spec.keep_ratios[r])));
  }
  RETURN_IF_ERROR(run.progress.Step(0, "", "ranks allocated"));
  return ranks;
}

}  // namespace svdllm
