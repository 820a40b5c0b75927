#include "lowrank/method.h"

namespace svdllm {
namespace {

constexpr std::string_view kAsvdSettings[] = {"asvd_alpha"};
constexpr std::string_view kAnchoredSettings[] = {"anchor_blend", "anchor_ridge"};

constexpr MethodRow kMethods[] = {
    {Method::kSvd,
     "svd",
     "plain truncated SVD of the weights",
     Statistic::kNone,
     Prefix::kNone,
     Cut,
     Encoding::kPlain,
     Allocation::kUniform,
     {}},
    {Method::kAsvd, "asvd",
     "activation-aware SVD (ASVD): input channels scaled by their mean magnitude",
     Statistic::kMeanAbs, Prefix::kNone, Cut, Encoding::kPlain, Allocation::kUniform,
     kAsvdSettings},
    {Method::kSvdLlm,
     "svd_llm",
     "SVD-LLM: truncation-aware data whitening, which makes the rank-k approximation of each "
     "layer's outputs on the calibration data optimal",
     Statistic::kGram,
     Prefix::kNone,
     Cut,
     Encoding::kPlain,
     Allocation::kUniform,
     {}},
    {Method::kSvdLlmUpdate,
     "svd_llm_update",
     "SVD-LLM with its layer-wise closed-form update: whitening, then each left factor refitted to "
     "the inputs that the already compressed layers produce",
     Statistic::kGram,
     Prefix::kRefit,
     CutAndUpdate,
     Encoding::kPlain,
     Allocation::kUniform,
     {}},
    {Method::kAnchored, "anchored",
     "an anchored solve: SVD-LLM's whitening, applied layer by layer to a target that also makes "
     "up for what the already compressed layers have lost",
     Statistic::kGram, Prefix::kTarget, Cut, Encoding::kPivoted, Allocation::kKlProbe,
     kAnchoredSettings},
};

}  // namespace

std::span<const MethodRow> Methods() { return kMethods; }

const MethodRow& RowOf(Method method) {
  for (const MethodRow& row : kMethods) {
    if (row.method == method) return row;
  }
  return kMethods[0];
}

std::string MethodName(Method method) { return std::string(RowOf(method).name); }

bool ReadsInputs(const MethodRow& method, const AllocationRow& allocation) {
  return method.statistic != Statistic::kNone || allocation.probes;
}

const MethodRow& DefaultMethod() { return RowOf(Method::kAnchored); }

}  // namespace svdllm
