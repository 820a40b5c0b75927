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

std::vector<int64_t> Allocate(const CompressContext& context, double keep_ratio,
                              const std::vector<AllocationItem>& items) {
  const RankRules rules = RulesOf(context.spec, keep_ratio);
  switch (context.spec.allocation) {
    case Allocation::kV2:
      return AllocateV2(items, rules);
    case Allocation::kDRank:
      return AllocateDRank(items, rules);
    default:
      return AllocateByError(items, rules);
  }
}

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

}  // namespace

absl::StatusOr<Ranks> AllocateRanks(const CompressContext& context) {
  const Ranks uniform = UniformRanks(context.spec, context.targets);
  if (context.spec.allocation == Allocation::kUniform) return uniform;

  DensePass pass(context);
  RETURN_IF_ERROR(pass.Start());
  std::optional<KlProbe> probe;
  if (context.spec.allocation == Allocation::kKlProbe) {
    probe.emplace(context, uniform);
    RETURN_IF_ERROR(probe->Start());
  }
  std::vector<AllocationItem> items;
  for (int64_t layer = 0; layer < context.checkpoint.config().num_layers; ++layer) {
    RETURN_IF_ERROR(pass.Calibrate(layer));
    if (probe) RETURN_IF_ERROR(probe->BeginLayer(pass.block()));
    for (const std::vector<size_t>& group : DecompositionGroups(context)) {
      ASSIGN_OR_RETURN(PendingDecompositions pending,
                       StartDecompositions(context, pass.block(), pass.statistics(),
                                           /*values_only=*/!probe, group));
      absl::StatusOr<std::vector<Decomposition>> decompositions = pending.Finish();
      if (!decompositions.ok()) return LayerError(decompositions.status(), layer);
      for (size_t j = 0; j < group.size(); ++j) {
        const Decomposition& d = (*decompositions)[j];
        const Target& target = context.targets[TargetIndex(context, layer, group[j])];
        ASSIGN_OR_RETURN(const TensorSpec weight, context.checkpoint.Spec(target.name + ".weight"));
        items.push_back({target.rows, target.cols, static_cast<int64_t>(SizeOf(weight.dtype)),
                         target.group, d.spectrum});
        if (probe) RETURN_IF_ERROR(probe->AddMatrix(pass.block(), group[j], d));
      }
    }
    if (probe) RETURN_IF_ERROR(probe->EndLayer(pass.block()));
  }
  std::vector<std::vector<double>> divergences;
  if (probe) {
    ASSIGN_OR_RETURN(divergences, probe->Divergences());
  }
  context.log.Enter("allocate");
  Ranks ranks;
  for (size_t r = 0; r < context.spec.keep_ratios.size(); ++r) {
    for (size_t i = 0; i < items.size() && probe; ++i) {
      const int64_t rank = uniform[r][i];
      items[i].weight = rank > 0 ? WeightOf(items[i], rank, divergences[r][i]) : kUnprobed;
    }
    ranks.push_back(Allocate(context, context.spec.keep_ratios[r], items));
  }
  RETURN_IF_ERROR(context.log.Step(0, "", "ranks allocated"));
  return ranks;
}

}  // namespace svdllm
