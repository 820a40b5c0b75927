#include "compress/rank_rules.h"

namespace svdllm {

RankRules RulesOf(const CompressSpec& spec, double keep_ratio) {
  return {spec.encoding, keep_ratio, spec.min_keep_ratio, spec.rank_multiple};
}

std::vector<std::vector<int64_t>> UniformRanks(const CompressSpec& spec,
                                               const std::vector<LinearLayer>& linears) {
  std::vector<std::vector<int64_t>> ranks;
  for (const double keep_ratio : spec.keep_ratios) {
    const RankRules rules = RulesOf(spec, keep_ratio);
    ranks.emplace_back();
    for (const LinearLayer& linear : linears) {
      ranks.back().push_back(UniformRank(rules, linear.rows, linear.cols));
    }
  }
  return ranks;
}

}  // namespace svdllm
