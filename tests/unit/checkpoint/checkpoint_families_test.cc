// Checkpoints of the families beside LLaMA, and linears that one tensor holds together.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/checkpoint.h"
#include "model/block.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using testing::TempDir;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

// Phi-3: one tensor holds several linears.
class FusedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override { options_ = testing::TinyFamilies().at("phi3"); }
  absl::StatusOr<Checkpoint> Open() {
    WriteTinyCheckpoint(dir_.path(), options_);
    return Checkpoint::Open(dir_.path());
  }
  const std::string qkv_ = "model.layers.1.self_attn.qkv_proj";
  TinyCheckpointOptions options_;
  TempDir dir_;
};

TEST_F(FusedCheckpoint, PartsAreRowsOfTheWhole) {
  const auto checkpoint = Open();
  ASSERT_OK(checkpoint);
  const auto whole = checkpoint->Tensor(qkv_ + ".weight");
  ASSERT_OK(whole);
  EXPECT_EQ(whole->shape, (std::vector<int64_t>{16 + 8 + 8, 16}));
  std::vector<std::byte> parts;
  for (const auto& [name, rows] :
       std::vector<std::pair<std::string, int64_t>>{{"q", 16}, {"k", 8}, {"v", 8}}) {
    const std::string part = qkv_ + "." + name + "_proj.weight";
    EXPECT_TRUE(checkpoint->Has(part));
    const auto view = checkpoint->Tensor(part);
    ASSERT_OK(view);
    EXPECT_EQ(view->shape, (std::vector<int64_t>{rows, 16}));
    const Checkpoint::Part* where = checkpoint->PartOf(part);
    ASSERT_NE(where, nullptr);
    EXPECT_EQ(where->tensor, qkv_ + ".weight");
    EXPECT_EQ(where->first_row * 16 * 4, static_cast<int64_t>(parts.size()));
    EXPECT_EQ(where->rows, rows);
    parts.insert(parts.end(), view->bytes.begin(), view->bytes.end());
  }
  EXPECT_TRUE(std::equal(parts.begin(), parts.end(), whole->bytes.begin(), whole->bytes.end()));
  EXPECT_EQ(checkpoint->PartOf(qkv_ + ".weight"), nullptr);
  const std::vector<std::string> names = checkpoint->TensorNames();
  EXPECT_EQ(std::count(names.begin(), names.end(), qkv_ + ".q_proj.weight"), 0);
}

TEST_F(FusedCheckpoint, IsInPartsWhereOneIsCompressed) {
  options_.ranks[qkv_ + ".k_proj"] = 3;
  options_.pivoted = true;
  const auto checkpoint = Open();
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->config().model_type, "lowrank_phi3");
  EXPECT_FALSE(checkpoint->Has(qkv_ + ".weight"));
  EXPECT_EQ(checkpoint->Tensor(qkv_ + ".q_proj.weight")->shape, (std::vector<int64_t>{16, 16}));
  EXPECT_EQ(checkpoint->PartOf(qkv_ + ".q_proj.weight"), nullptr);
  EXPECT_TRUE(checkpoint->Has(qkv_ + ".k_proj.low_rank_order"));
  // The others' stay whole.
  EXPECT_TRUE(checkpoint->Has("model.layers.0.self_attn.qkv_proj.weight"));
  EXPECT_NE(checkpoint->PartOf("model.layers.1.mlp.gate_up_proj.up_proj.weight"), nullptr);

  const std::unique_ptr<Backend> backend = NewCpuBackend(1);
  const auto block = LoadBlock(*checkpoint, 1, *backend);
  ASSERT_OK(block);
  EXPECT_TRUE(block->linear(LinearId::kK).pivoted());
  EXPECT_EQ(block->linear(LinearId::kV).w.rows(), 8);
  EXPECT_EQ(block->linear(LinearId::kGate).w.rows(), options_.intermediate_size);
}

TEST_F(FusedCheckpoint, AWholeOfTheWrongShapeIsNamed) {
  options_.config_json = R"({"num_key_value_heads": 4})";
  EXPECT_STATUS(Open(), kInvalidArgument, kModelCorrupt,
                {"model.layers.0.self_attn.qkv_proj.weight: shape is [32,16]", "[48,16]"});
}

TEST(Checkpoint, EveryFamilyNamesWhatIsMissing) {
  for (const auto& [name, options] : testing::TinyFamilies()) {
    SCOPED_TRACE(name);
    TempDir dir;
    WriteTinyCheckpoint(dir.path(), options);
    ASSERT_OK(Checkpoint::Open(dir.path()));
    // A layer more than there is.
    TempDir other;
    TinyCheckpointOptions longer = options;
    longer.config_json = R"({"num_hidden_layers": 4})";
    WriteTinyCheckpoint(other.path(), longer);
    EXPECT_STATUS(Checkpoint::Open(other.path()), kInvalidArgument, kModelCorrupt,
                  {"layers.3.", "missing"});
  }
}

}  // namespace
}  // namespace svdllm
