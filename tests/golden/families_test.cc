// Every family's forward pass against what transformers computes from the same files.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/decoder.h"
#include "tests/support/source_dir.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using nlohmann::json;
constexpr double kTolerance = 1e-4;

struct Model {
  static absl::StatusOr<Model> Open(const std::string& dir) {
    Model model;
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
    model.checkpoint = std::make_unique<Checkpoint>(std::move(checkpoint));
    for (int64_t layer = 0; layer < model.checkpoint->config().num_layers; ++layer) {
      ASSIGN_OR_RETURN(Block block, LoadBlock(*model.checkpoint, layer, *model.backend));
      model.blocks.push_back(std::move(block));
    }
    ASSIGN_OR_RETURN(model.head, LoadHead(*model.checkpoint, *model.backend));
    return model;
  }

  // The logits of every token of the batch.
  absl::StatusOr<std::vector<float>> Logits(const std::vector<int32_t>& ids,
                                            const SequenceLayout& layout) {
    const ModelConfig& config = checkpoint->config();
    const auto tokens = static_cast<int64_t>(ids.size());
    Forward forward(config, checkpoint->arch(), *backend);
    ASSIGN_OR_RETURN(const Matrix x, backend->New(tokens, config.hidden_size, DType::kF32));
    RETURN_IF_ERROR(Embed(*checkpoint, ids, Positions(layout), *backend, x));
    for (const Block& block : blocks) RETURN_IF_ERROR(forward.RunBlock(block, layout, x));
    ASSIGN_OR_RETURN(const Matrix logits, backend->New(tokens, config.vocab_size, DType::kF32));
    RETURN_IF_ERROR(forward.Logits(head, x, logits));
    std::vector<float> host(static_cast<size_t>(logits.ref().size()));
    RETURN_IF_ERROR(backend->Download(logits, host.data(), DType::kF32));
    return host;
  }

  std::unique_ptr<Backend> backend = NewCpuBackend();
  std::unique_ptr<Checkpoint> checkpoint;
  std::vector<Block> blocks;
  Head head;
};

double Worst(std::span<const float> got, std::span<const float> expected) {
  if (got.size() != expected.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    worst = difference <= worst ? worst : difference;  // a NaN wins
  }
  return worst;
}

// Directories that tests/reference/make_families.py has written, where there are any.
TEST(Families, EqualTransformers) {
  const char* root = std::getenv("SVDLLM_FAMILIES_DIR");
  if (root == nullptr) GTEST_SKIP() << "SVDLLM_FAMILIES_DIR is not set";
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    std::ifstream in(entry.path() / "expected.json");
    if (!in) continue;
    const json expected = json::parse(in);
    auto model = Model::Open(entry.path());
    ASSERT_OK(model);
    std::vector<int32_t> ids;
    std::vector<int64_t> offsets = {0};
    std::vector<float> logits;
    for (size_t s = 0; s < expected["sequences"].size(); ++s) {
      for (const json& id : expected["sequences"][s]) ids.push_back(id);
      offsets.push_back(static_cast<int64_t>(ids.size()));
      for (const json& row : expected["logits"][s]) {
        for (const json& logit : row) logits.push_back(logit);
      }
    }
    const auto got = model->Logits(ids, offsets);
    ASSERT_OK(got);
    const double worst = Worst(*got, logits);
    EXPECT_LT(worst, kTolerance) << entry.path();
    std::printf("%s: worst difference of a logit %.2g\n", entry.path().filename().c_str(), worst);
    ++compared;
  }
  EXPECT_GT(compared, 0) << root;
}

// One sequence, and what transformers made of the tiny checkpoints of TinyFamilies for it:
// tests/reference/family_logits.py wrote the file.
TEST(Families, EqualStoredLogits) {
  std::ifstream in(SourceDir() + "/tests/golden/families.json");
  ASSERT_TRUE(in);
  const json golden = json::parse(in);
  const std::vector<int32_t> ids = golden["ids"];
  for (const auto& [name, options] : testing::TinyFamilies()) {
    SCOPED_TRACE(name);
    testing::TempDir dir;
    testing::WriteTinyCheckpoint(dir.path(), options);
    auto model = Model::Open(dir.path());
    ASSERT_OK(model);
    const std::vector<int64_t> offsets = {0, static_cast<int64_t>(ids.size())};
    const auto got = model->Logits(ids, offsets);
    ASSERT_OK(got);
    ASSERT_TRUE(golden["logits"].contains(name)) << name;
    const auto vocab = static_cast<size_t>(options.vocab_size);
    std::vector<float> chosen, expected;
    for (const json& entry : golden["logits"][name]) {
      chosen.push_back((*got)[entry[0].get<size_t>() * vocab + entry[1].get<size_t>()]);
      expected.push_back(entry[2]);
    }
    EXPECT_GE(chosen.size(), 24u) << name;
    EXPECT_LT(Worst(chosen, expected), kTolerance) << name;
  }
}

// For family_logits.py.
TEST(Families, WriteTinyCheckpoints) {
  const char* root = std::getenv("SVDLLM_TINY_FAMILIES_DIR");
  if (root == nullptr) GTEST_SKIP() << "SVDLLM_TINY_FAMILIES_DIR is not set";
  for (const auto& [name, options] : testing::TinyFamilies()) {
    testing::WriteTinyCheckpoint(std::string(root) + "/" + name, options);
  }
}

}  // namespace
}  // namespace svdllm
