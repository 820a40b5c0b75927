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
// The method of a specification that names none: the paper's own.
inline constexpr Method kPaperMethod = Method::kSvdLlm;

// What a method has to know about a layer's inputs.
enum class Statistic { kNone, kMeanAbs, kGram };

// What a method takes from the model whose earlier layers are compressed already.
enum class Prefix {
  kNone,   // nothing: every layer is compressed as the dense model sees it
  kRefit,  // its inputs, to which the left factor is refitted
  // Its inputs, and how they differ from the dense model's. A target made from both is decomposed.
  kTarget,
};

struct MethodRow {
  Method method;
  // "svd_llm". In capitals and behind METHOD_ it is the API's value.
  std::string_view name;
  // What it is, for reports and model cards: a phrase that continues "with".
  std::string_view explanation;
  Statistic statistic;
  Prefix prefix;
  // Cuts a decomposition to factors of a rank, with the loss that they have in the metric.
  CutFunction cut;
  // What a request gets that leaves them open.
  Encoding default_encoding;
  Allocation default_allocation;
  // The settings of a request that it reads beside those that every method reads, by their names in
  // the API.
  std::span<const std::string_view> settings;
};

std::span<const MethodRow> Methods();
const MethodRow& RowOf(Method method);
// "svd_llm"
std::string MethodName(Method method);
// Whether anything is read of what goes into the layers, so that there must be text to calibrate
// on.
bool ReadsInputs(const MethodRow& method, const AllocationRow& allocation);
// The method that a request gets which names none.
const MethodRow& DefaultMethod();

}  // namespace svdllm
