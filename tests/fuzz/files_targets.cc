#include "tests/fuzz/targets.h"

namespace svdllm::testing {

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = {
      SafetensorsTarget(), GgufTarget(),      ConfigTarget(),
      IndexTarget(),       DirectoryTarget(), TokenizerJsonTarget(),
      VocabMergesTarget(), RanksTarget(),     SentencePieceTarget(),
      RegexTarget(),       Utf8Target(),      JsonTarget(),
      TextTarget(),        UriTarget()};
  return targets;
}

}  // namespace svdllm::testing
