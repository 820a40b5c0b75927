// Every target on its seeds, on the inputs that are kept in corpus/NAME, and on mutations of both
// with a fixed seed, for as many seconds as SVDLLM_FUZZ_SECONDS says (1 where it is not set).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/fuzz/mutator.h"
#include "tests/fuzz/target.h"
#include "tests/support/source_dir.h"

namespace svdllm::testing {
namespace {

class FuzzReplay : public ::testing::TestWithParam<size_t> {
 protected:
  const FuzzTarget& target() const { return FuzzTargets()[GetParam()]; }

  std::vector<std::string> Inputs() const {
    std::vector<std::string> inputs = target().seeds;
    const std::filesystem::path folder = SourceDir() + "/tests/fuzz/corpus/" + target().name;
    if (!std::filesystem::exists(folder)) return inputs;
    std::vector<std::string> kept;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      kept.push_back(entry.path());
    }
    std::sort(kept.begin(), kept.end());
    for (const std::string& path : kept) inputs.push_back(ReadOrDie(path));
    return inputs;
  }
  // Where it fails, the input is kept as libFuzzer keeps it.
  bool Holds(const std::string& input) const {
    try {
      RunFuzzTarget(target(), input);
      return true;
    } catch (const FuzzFailure& failure) {
      const std::string path = ::testing::TempDir() + "fuzz-" + target().name;
      WriteOrDie(path, input);
      ADD_FAILURE() << failure.what << "\nThe input is in " << path;
      return false;
    }
  }
};

TEST_P(FuzzReplay, SeedsAndKeptInputs) {
  ASSERT_FALSE(target().seeds.empty());
  for (const std::string& input : Inputs()) Holds(input);
}

TEST_P(FuzzReplay, Mutations) {
  Mutator mutator(Inputs(), target().words);
  bool holds = true;
  const int64_t runs = ForFuzzSeconds([&] { return holds = Holds(mutator.Next()); });
  RecordProperty("runs", static_cast<int>(runs));
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplay, ::testing::Range(size_t{0}, FuzzTargets().size()),
                         [](const ::testing::TestParamInfo<size_t>& info) {
                           return FuzzTargets()[info.param].name;
                         });

}  // namespace
}  // namespace svdllm::testing
