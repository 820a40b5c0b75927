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
  // "kl_probe". In capitals and behind ALLOCATION_ it is the API's value.
  std::string_view name;
  // What it does, for reports and model cards: a phrase that continues "ranks".
  std::string_view explanation;
  // Whether it looks at the spectra of the whole model, which takes a pass of its own over the
  // dense model.
  bool needs_spectra;
  // Whether that pass also measures what compressing each matrix does to the model's output.
  bool probes;
  // Whether it keeps every rank above the floor of RankRules::min_keep_ratio.
  bool has_floor;
  // Returns one rank per item, 0 for dense. The ranks never exceed the budget, unless rank 1
  // everywhere does, or, with has_floor, unless LeastKeepRatio is above the keep ratio.
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

// SVD-LLM V2 (arXiv 2503.12340). Inside a group of n matrices whose removed share is R = 1 − ρ,
// matrix i has the share R_i = n R (1/log L_i) / Σ_j (1/log L_j) removed, where L_i is the loss of
// its uniform rank. The formula can be undefined or leave its range (L_i ≤ 1; R_i outside [0, 1)).
// There L_i counts as at least e, and what a share cannot take is spread over the others, so that
// the group's budget holds.
std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, const RankRules& rules);

// D-Rank (arXiv 2509.25622). Inside a group, k_i = ⌊c √R_i⌋ with the largest c that fits the
// group's budget. R_i = exp(−Σ p_j log p_j) with p_j = √λ_j / Σ √λ is the effective rank. A matrix
// whose rank would not save anything stays dense.
std::vector<int64_t> AllocateDRank(const std::vector<AllocationItem>& items,
                                   const RankRules& rules);

// Minimises Σ_i weight_i · (Σ_{j>k_i} λ_ij) / (Σ_j λ_ij) over the whole model at once, under Σ_i
// cost_i(k_i) ≤ budget, where dense is one of the options. λ_ij is the j-th eigenvalue of matrix i,
// items[i].spectrum[j]. It takes the Lagrangian optimum (bisection over the price of a byte) and
// spends the rest of the budget greedily where it buys most. Neither step lets the error rise with
// the budget. Weights of 1 give relative tails; weights from measured divergences give KL probes.
std::vector<int64_t> AllocateByError(const std::vector<AllocationItem>& items,
                                     const RankRules& rules);
// The sum that AllocateByError minimises.
double AllocationError(const std::vector<AllocationItem>& items, const std::vector<int64_t>& ranks);

}  // namespace svdllm
