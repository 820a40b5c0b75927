#include "client/cli/speed_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/format.h"

namespace svdllm::cli {
namespace {

// "× 1.18"; "" for the first, which is what the others are compared with.
std::string Ratio(double before, double after, bool is_first) {
  return is_first || before <= 0 ? "" : absl::StrFormat("× %.2f", after / before);
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
      rows.push_back(
          {std::to_string(found->batch_size()), title, Rate(found->prefill_tokens_per_second()),
           Ratio(first.prefill_tokens_per_second(), found->prefill_tokens_per_second(), is_first),
           Rate(found->decode_tokens_per_second()),
           Ratio(first.decode_tokens_per_second(), found->decode_tokens_per_second(), is_first),
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
                      ")\n");
}

}  // namespace svdllm::cli
