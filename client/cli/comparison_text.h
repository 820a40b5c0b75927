// What models lost against another, and whether they may have, for people.
#pragma once

#include <string>
#include <vector>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

using Comparisons = google::protobuf::RepeatedPtrField<v1::Comparison>;

// A model that was compared; title tells it from others where there are several.
struct ComparedModel {
  std::string title;
  const Comparisons* comparisons = nullptr;
};

// A row per model and figure, behind an empty line. before: what the models were compared with.
// Empty where nothing was.
std::string ComparisonTable(const std::string& before, const std::vector<ComparedModel>& models);

// "REJECTED: 1 of 3 figures", then what was lost and what is doubtful of the limits, a line each.
std::string VerdictText(const v1::Verdict& verdict, const Comparisons& comparisons);

// "warning: ", each on a line of its own.
template <typename Texts>
std::string WarningLines(const std::string& of, const Texts& texts) {
  std::string lines;
  for (const std::string& text : texts) lines += "warning: " + of + text + "\n";
  return lines;
}

}  // namespace svdllm::cli
