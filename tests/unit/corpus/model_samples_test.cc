#include "corpus/model_samples.h"

#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

class ModelSamplesTest : public JobFixture {
 protected:
  absl::StatusOr<Sequences> Sample(int64_t count, int64_t seq_len, uint64_t seed) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(model_));
    ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(model_));
    const RunHooks hooks;
    Progress progress(hooks, 1, 0);
    return SampleModel(checkpoint, tokenizer, *backend_, count, seq_len, seed, progress);
  }
  std::set<int32_t> FirstTokens() {
    std::set<int32_t> tokens;
    const auto sequences = Sample(6, 3, 1);
    if (!sequences.ok()) return tokens;
    for (int64_t s = 0; s < sequences->count(); ++s) {
      tokens.insert(
          sequences->ids[static_cast<size_t>(sequences->offsets[static_cast<size_t>(s)])]);
    }
    return tokens;
  }
  void Edit(const std::string& file, const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json json = nlohmann::json::parse(*ReadFile(model_ + "/" + file));
    change(json);
    ASSERT_OK(WriteFileAtomic(model_ + "/" + file, json.dump()));
  }
};

TEST_F(ModelSamplesTest, RepeatsWithTheSeedAndDiffersWithoutIt) {
  const auto a = Sample(5, 40, 7), b = Sample(5, 40, 7), c = Sample(5, 40, 8);
  ASSERT_OK(a);
  EXPECT_EQ(a->offsets, (std::vector<int64_t>{0, 40, 80, 120, 160, 200}));
  EXPECT_EQ(a->ids, b->ids);
  EXPECT_NE(a->ids, c->ids);
  EXPECT_FALSE(std::equal(a->ids.begin(), a->ids.begin() + 40, a->ids.begin() + 40));
}

TEST_F(ModelSamplesTest, BeginWithTheTokenThatBeginsATextOrElseTheNextBest) {
  EXPECT_EQ(FirstTokens(), std::set<int32_t>{256}) << "the tokenizer's";
  Edit("tokenizer.json", [](auto& json) { json["post_processor"] = nullptr; });
  Edit("config.json", [](auto& json) { json["bos_token_id"] = 99; });
  EXPECT_EQ(FirstTokens(), std::set<int32_t>{99}) << "config.json's";
  Edit("config.json", [](auto& json) {
    json["bos_token_id"] = nullptr;
    json["eos_token_id"] = {98, 97};
  });
  EXPECT_EQ(FirstTokens(), std::set<int32_t>{98}) << "the first end of a text";
  Edit("config.json", [](auto& json) { json["eos_token_id"] = 1 << 30; });
  EXPECT_GT(FirstTokens().size(), 3u) << "any";
}

}  // namespace
}  // namespace svdllm
