#include "tests/fuzz/targets.h"

namespace svdllm::testing {

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = {
      DatasetTarget(), RequestTarget(),  ListTarget(),   StoredJobTarget(), HttpTarget(),
      NamesTarget(),   RpcErrorTarget(), RecipeTarget(), ArgumentsTarget(), PublishedTarget()};
  return targets;
}

}  // namespace svdllm::testing
