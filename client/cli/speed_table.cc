#include "client/cli/speed_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/format.h"

namespace svdllm::cli {
namespace {

RateSpread Prefill(const v1::ThroughputResult& result) {
  return {result.prefill_tokens_per_second(), result.least_prefill_tokens_per_second(),
          result.largest_prefill_tokens_per_second()};
}

RateSpread Decode(const v1::ThroughputResult& result) {
  return {result.decode_tokens_per_second(), result.least_decode_tokens_per_second(),
          result.largest_decode_tokens_per_second()};
}

}  // namespace

std::string SpeedTable(const MeasuredSpeeds& measured) {
  std::vector<std::vector<std::string>> rows = {
      {"batch", "model", "prefill tokens/s", "", "decode tokens/s", "", "peak memory"}};
  for (const v1::ThroughputResult& first : *measured[0].second) {
    for (const auto& [title, throughputs] : measured) {
      const auto found = std::find_if(
          throughputs->begin(), throughputs->end(),
          [&first](const auto& entry) { return entry.batch_size() == first.batch_size(); });
      if (found == throughputs->end()) continue;
      const bool is_first = throughputs == measured[0].second;
      // The first is what the others are compared with.
      const auto ratio = [&](RateSpread (*rate)(const v1::ThroughputResult&)) {
        return is_first ? "" : SpeedRatio(rate(first), rate(*found), first.repetitions());
      };
      rows.push_back({std::to_string(found->batch_size()), title, Rate(Prefill(*found)),
                      ratio(&Prefill), Rate(Decode(*found)), ratio(&Decode),
                      Bytes(found->peak_memory_bytes())});
    }
  }
  if (rows.size() == 1) return "";
  if (measured.size() == 1) {
    for (std::vector<std::string>& row : rows) {
      row.erase(row.begin() + 5);
      row.erase(row.begin() + 3);
      row.erase(row.begin() + 1);
    }
  }
  const v1::ThroughputResult& first = measured[0].second->Get(0);
  return absl::StrCat("\n", Table(rows), "(prompts of ", first.prompt_tokens(), " tokens, ",
                      first.new_tokens(), " new ones each; medians of ", first.repetitions(),
                      " rounds, with the least and the largest)\n");
}

}  // namespace svdllm::cli
