#include "lowrank/method.h"

namespace svdllm {
namespace {

constexpr MethodRow kMethods[] = {
    {Method::kSvd, "svd", Statistic::kNone, false},
    {Method::kAsvd, "asvd", Statistic::kMeanAbs, false},
    {Method::kSvdLlm, "svd_llm", Statistic::kGram, false},
    {Method::kSvdLlmUpdate, "svd_llm_update", Statistic::kGram, true},
    {Method::kAnchored, "anchored", Statistic::kGram, false},
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

}  // namespace svdllm
