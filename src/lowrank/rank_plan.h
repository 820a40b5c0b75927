// Which rank every matrix gets: pure functions of shapes, spectra and the budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

enum class Allocation { kUniform, kV2, kDRank, kRelativeTails, kKlProbe };
// "uniform", "v2", "d_rank", "relative_tails", "kl_probe"
std::string AllocationName(Allocation allocation);

// How W′ of rank k is stored (factors.h). kPlain: two factors, k (m + n) numbers. kPivoted:
// k of its rows and the coefficients of the others in them, k (m + n − k) numbers.
enum class Encoding { kPlain, kPivoted };
// "plain", "pivoted"
std::string EncodingName(Encoding encoding);

// Stored numbers of a rank-k m × n matrix, m n for rank 0 (dense). The row order of a pivoted one
// is not counted.
int64_t StoredNumbers(Encoding encoding, int64_t rows, int64_t cols, int64_t rank);

// What bounds every rank.
struct RankRules {
  Encoding encoding = Encoding::kPlain;
  double keep_ratio = 1;  // of the stored bytes of all matrices together
  // No matrix gets a rank below the largest that fits this share of its numbers; V2 has its own.
  double min_keep_ratio = 0;
  // Ranks are multiples of this, but for those below one multiple.
  int64_t multiple = 1;
};

// The largest rank whose cost is at most keep_ratio · m n, at least 1; 0 (stays dense) where the
// cost of that rank is not below m n, and for a keep_ratio of 1.
int64_t UniformRank(const RankRules& rules, int64_t rows, int64_t cols);

// One matrix as an allocation sees it.
struct AllocationItem {
  int64_t rows = 0, cols = 0;
  int64_t element_bytes = 1;     // of a stored number
  std::string group;             // matrices of one type: "q_proj"
  std::vector<double> spectrum;  // λ_j, descending; the loss of rank k is (Σ_{j>k} λ_j)^{1/2}
  // What its compression to rank 0 would cost the model, in the unit that all items share: see
  // AllocateByError.
  double weight = 1;
};

// All of these return a rank an item, 0 for dense, and never exceed the budget, but where rank 1,
// or, for D-Rank and by error, LeastKeepRatio, is above it.

// What all matrices at their least ranks keep. Of a spectrum, only its size counts.
double LeastKeepRatio(const std::vector<AllocationItem>& items, const RankRules& rules);

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
