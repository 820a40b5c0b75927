// The compression methods: a static table. All of them minimise ‖(W − W′) R‖_F over rank(W′) ≤ k
// and differ in R, that is, in what they know of the layer's inputs X, and in what they take from
// the layers that are compressed already:
//
//   svd             R = I
//   asvd            R = diag(mean|x|^α)
//   svd_llm         R Rᵀ = G = X Xᵀ: truncation-aware whitening, ‖(W − W′)X‖_F itself
//   svd_llm_update  the same, then the sequential closed-form update of the left factor
//   anchored        whitening of a target that also makes up for what the layers before have lost
//                   (anchored.h)
//
// The rows carry everything that the rest of the program asks of a method: docs/howto/method.md.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lowrank/allocation.h"
#include "lowrank/decomposition.h"

namespace svdllm {

enum class Method { kSvd, kAsvd, kSvdLlm, kSvdLlmUpdate, kAnchored };
// What a specification that names none means: the paper's own.
inline constexpr Method kPaperMethod = Method::kSvdLlm;

// What a method has to know of a layer's inputs.
enum class Statistic { kNone, kMeanAbs, kGram };

// What a method takes from the model whose layers in front are compressed already.
enum class Prefix {
  kNone,    // nothing: every layer is compressed as the dense model sees it
  kRefit,   // its inputs, to which the left factor is refitted
  kTarget,  // its inputs and their difference from the dense model's: what is decomposed is a
            // target
};

struct MethodRow {
  Method method;
  // "svd_llm"; in capitals, behind METHOD_, the API's value.
  std::string_view name;
  // What it is, for reports and model cards: a phrase that follows "with".
  std::string_view explanation;
  Statistic statistic;
  Prefix prefix;
  // From a decomposition to factors of a rank, with the loss that they have in the metric.
  CutFunction cut;
  // What a request that leaves them open gets.
  Encoding default_encoding;
  Allocation default_allocation;
  // The settings of a request that it reads beside everybody's, by their names in the API.
  std::span<const std::string_view> settings;
};

std::span<const MethodRow> Methods();
const MethodRow& RowOf(Method method);
// "svd_llm"
std::string MethodName(Method method);
// What a request that names none gets.
const MethodRow& DefaultMethod();

}  // namespace svdllm
