// The compression methods: a static table. All of them minimise ‖(W − W′) R‖_F over rank(W′) ≤ k
// and differ in R, that is, in what they know of the layer's inputs X, the last one also in W:
//
//   svd             R = I
//   asvd            R = diag(mean|x|^α)
//   svd_llm         R Rᵀ = G = X Xᵀ: truncation-aware whitening, ‖(W − W′)X‖_F itself
//   svd_llm_update  the same, then the sequential closed-form update of the left factor
//   anchored        whitening of a target that also makes up for what the layers before have lost
//                   (anchored.h)
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

enum class Method { kSvd, kAsvd, kSvdLlm, kSvdLlmUpdate, kAnchored };

// What a method has to know of a layer's inputs.
enum class Statistic { kNone, kMeanAbs, kGram };

struct MethodRow {
  Method method;
  std::string_view name;
  Statistic statistic;
  bool update;  // refits U on the inputs that the already compressed model produces
};

std::span<const MethodRow> Methods();
const MethodRow& RowOf(Method method);
// "svd_llm"
std::string MethodName(Method method);

}  // namespace svdllm
