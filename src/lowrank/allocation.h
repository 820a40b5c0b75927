// How the budget of a keep ratio is spread over the matrices: a static table of pure functions of
// shapes, spectra and the budget.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lowrank/rank_plan.h"

namespace svdllm {

enum class Allocation { kUniform, kV2, kDRank, kRelativeTails, kKlProbe };

struct AllocationRow {
  Allocation allocation;
  // "kl_probe"; in capitals, behind ALLOCATION_, the API's value.
  std::string_view name;
  // What it does, for reports and model cards: a phrase that follows "ranks".
  std::string_view explanation;
  // Whether it looks at the spectra of the whole model: a pass of its own over the dense model.
  bool needs_spectra;
  // Whether that pass also measures what each matrix's compression does to the model's output.
  bool probes;
  // Whether no rank may be below RankRules::min_keep_ratio.
  bool has_floor;
  // One rank per item, 0 for dense. Never exceeds the budget, but where rank 1, or, with has_floor,
  // LeastKeepRatio, is above it.
  std::vector<int64_t> (*allocate)(const std::vector<AllocationItem>& items,
                                   const RankRules& rules);
};

std::span<const AllocationRow> Allocations();
const AllocationRow& RowOf(Allocation allocation);
// "uniform", "v2", "d_rank", "relative_tails", "kl_probe"
std::string AllocationName(Allocation allocation);

// The same keep ratio for every matrix.
std::vector<int64_t> AllocateUniform(const std::vector<AllocationItem>& items,
                                     const RankRules& rules);

// SVD-LLM V2 (arXiv 2503.12340): inside a group of n matrices whose removed share is R = 1 − ρ,
// matrix i has the share R_i = n R (1/log L_i) / Σ_j (1/log L_j) removed, L_i being the loss of its
// uniform rank. Where the formula is undefined or leaves its range (L_i ≤ 1; R_i outside [0, 1)),
// L_i counts as at least e, and what a share cannot take is spread over the others, so that the
// group's budget holds.
std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, const RankRules& rules);

// D-Rank (arXiv 2509.25622): inside a group, k_i = ⌊c √R_i⌋ with the largest c that fits the
// group's budget, R_i = exp(−Σ p_j log p_j), p_j = √λ_j / Σ √λ, the effective rank. A matrix whose
// rank would not save anything stays dense.
std::vector<int64_t> AllocateDRank(const std::vector<AllocationItem>& items,
                                   const RankRules& rules);

// Over the whole model at once: minimises Σ_i weight_i · (Σ_{j>k_i} λ_ij) / (Σ_j λ_ij) under Σ_i
// cost_i(k_i) ≤ budget, dense being one of the options: the Lagrangian optimum (bisection over the
// price of a byte), then what is left of the budget spent greedily where it buys most. The error
// never rises with the budget: neither step does. Weights of 1: relative tails. Weights from
// measured divergences: KL probes.
std::vector<int64_t> AllocateByError(const std::vector<AllocationItem>& items,
                                     const RankRules& rules);
// What AllocateByError minimises.
double AllocationError(const std::vector<AllocationItem>& items, const std::vector<int64_t>& ranks);

}  // namespace svdllm
