#include "lowrank/allocation.h"

namespace svdllm {
namespace {

constexpr AllocationRow kAllocations[] = {
    {Allocation::kUniform, "uniform", "the same keep ratio for every matrix",
     /*needs_spectra=*/false, /*probes=*/false, /*has_floor=*/false, AllocateUniform},
    {Allocation::kV2, "v2", "by each matrix's truncation loss, among matrices of a kind",
     /*needs_spectra=*/true, /*probes=*/false, /*has_floor=*/false, AllocateV2},
    {Allocation::kDRank, "d_rank", "by each matrix's effective rank", /*needs_spectra=*/true,
     /*probes=*/false, /*has_floor=*/true, AllocateDRank},
    {Allocation::kRelativeTails, "relative_tails",
     "where the model's relative truncation losses together are least", /*needs_spectra=*/true,
     /*probes=*/false, /*has_floor=*/true, AllocateByError},
    {Allocation::kKlProbe, "kl_probe",
     "by how far the model's output moves when one matrix alone is compressed",
     /*needs_spectra=*/true, /*probes=*/true, /*has_floor=*/true, AllocateByError},
};

}  // namespace

std::span<const AllocationRow> Allocations() { return kAllocations; }

const AllocationRow& RowOf(Allocation allocation) {
  for (const AllocationRow& row : kAllocations) {
    if (row.allocation == allocation) return row;
  }
  return kAllocations[0];
}

std::string AllocationName(Allocation allocation) { return std::string(RowOf(allocation).name); }

std::vector<int64_t> AllocateUniform(const std::vector<AllocationItem>& items,
                                     const RankRules& rules) {
  std::vector<int64_t> ranks;
  for (const AllocationItem& item : items) {
    ranks.push_back(UniformRank(rules, item.rows, item.cols));
  }
  return ranks;
}

}  // namespace svdllm
