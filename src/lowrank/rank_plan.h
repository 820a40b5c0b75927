// Which rank every matrix gets: pure functions of shapes, spectra and the budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

enum class Allocation { kUniform, kV2 };
// "uniform", "v2"
std::string AllocationName(Allocation allocation);

// Stored numbers of rank-k factors of an m × n matrix: k (m + n).
int64_t FactorCost(int64_t rows, int64_t cols, int64_t rank);

// The largest k with k (m + n) ≤ keep_ratio · m n, at least 1; 0 (stays dense) where factors of
// that rank would not be smaller than the matrix, and for keep_ratio ≥ 1.
int64_t RankFor(int64_t rows, int64_t cols, double keep_ratio);

// One matrix as an allocation sees it.
struct AllocationItem {
  int64_t rows = 0, cols = 0;
  std::string group;             // matrices of one type: "q_proj"
  std::vector<double> spectrum;  // λ_j, descending; the loss of rank k is (Σ_{j>k} λ_j)^{1/2}
};

// SVD-LLM V2 (arXiv 2503.12340): inside a group of n matrices whose removed share is R = 1 − ρ,
// matrix i has the share R_i = n R (1/log L_i) / Σ_j (1/log L_j) removed, L_i being the loss of its
// uniform rank. Where the formula is undefined or leaves its range (L_i ≤ 1; R_i outside [0, 1)),
// L_i counts as at least e, and what a share cannot take is spread over the others, so that the
// group's budget holds. Returns a rank an item, 0 for dense.
std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, double keep_ratio);

}  // namespace svdllm
