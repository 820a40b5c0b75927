#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "linalg/backend.h"
#include "model/block.h"
#include "tests/support/edit_tensors.h"
#include "tests/support/source_dir.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::EditTensors;
using ::testing::ElementsAre;
using testing::Find;
using testing::TempDir;
using testing::TestTensor;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

constexpr char kDownProj[] = "model.layers.1.mlp.down_proj.weight";

TEST(Checkpoint, OpensOneFile) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->dir(), dir.path());
  EXPECT_EQ(checkpoint->arch().family, "llama");
  EXPECT_EQ(checkpoint->config().num_layers, 2);
  EXPECT_EQ(checkpoint->config_text(), *ReadFile(dir.File("config.json")));
  const auto view = checkpoint->Tensor(kDownProj);
  ASSERT_OK(view);
  EXPECT_THAT(view->shape, ElementsAre(16, 40));
  EXPECT_TRUE(checkpoint->Has("lm_head.weight"));
  EXPECT_EQ(checkpoint->TensorNames().size(), 3u + 2 * 9);
  EXPECT_STATUS(checkpoint->Tensor("absent"), kNotFound, "", {dir.path(), "absent"});
  // Embedding and head; attention 16·16 twice and 8·16 twice; MLP 16·40 thrice; norms.
  const int64_t expected = 2 * 260 * 16 + 2 * (2 * 256 + 2 * 128 + 3 * 640 + 2 * 16) + 16;
  EXPECT_EQ(checkpoint->parameters(), expected);
  EXPECT_EQ(checkpoint->weight_bytes(), 4 * expected);
}

TEST(Checkpoint, EveryVariantOpens) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const bool flag : {false, true}) {
      TempDir dir;
      TinyCheckpointOptions options;
      options.dtype = dtype;
      options.tied = flag;
      options.attention_bias = flag;
      options.mlp_bias = !flag;
      options.shards = flag ? 3 : 1;
      options.head_dim = flag ? 6 : 4;
      WriteTinyCheckpoint(dir.path(), options);
      const auto checkpoint = Checkpoint::Open(dir.path());
      ASSERT_OK(checkpoint);
      EXPECT_EQ(checkpoint->config().dtype, dtype);
      EXPECT_EQ(checkpoint->Tensor(kDownProj)->dtype, dtype);
      EXPECT_EQ(checkpoint->Has("lm_head.weight"), !flag);
      EXPECT_EQ(checkpoint->weight_bytes(),
                checkpoint->parameters() * static_cast<int64_t>(SizeOf(dtype)));
    }
  }
}

TEST(Checkpoint, ShardsHoldWhatOneFileHolds) {
  TempDir one, many;
  TinyCheckpointOptions options;
  WriteTinyCheckpoint(one.path(), options);
  options.shards = 4;
  WriteTinyCheckpoint(many.path(), options);
  const auto a = Checkpoint::Open(one.path()), b = Checkpoint::Open(many.path());
  ASSERT_OK(a);
  ASSERT_OK(b);
  ASSERT_EQ(a->TensorNames(), b->TensorNames());
  EXPECT_EQ(a->parameters(), b->parameters());
  for (const std::string& name : a->TensorNames()) {
    const auto x = a->Tensor(name), y = b->Tensor(name);
    ASSERT_OK(x);
    ASSERT_OK(y);
    EXPECT_TRUE(std::equal(x->bytes.begin(), x->bytes.end(), y->bytes.begin(), y->bytes.end()));
  }
}

TEST(Checkpoint, ExtraTensorsAreLeftAlone) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  const int64_t parameters = Checkpoint::Open(dir.path())->parameters();
  EditTensors(dir.path(), [](auto& tensors) {
    tensors.push_back(
        {"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {2}, std::string(8, '\0')});
  });
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->parameters(), parameters);
  EXPECT_TRUE(checkpoint->Has("model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(checkpoint->IsUsed("model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_TRUE(checkpoint->IsUsed(kDownProj));
}

TEST(Checkpoint, ShardsMayBeLinks) {
  TempDir dir;
  WriteTinyCheckpoint(dir.File("model"));
  fs::rename(dir.File("model/model.safetensors"), dir.File("blob"));
  fs::create_symlink("../blob", dir.File("model/model.safetensors"));
  EXPECT_OK(Checkpoint::Open(dir.File("model")));
}

TEST(Checkpoint, WhatIsNotAModelDirectoryIsNotFound) {
  TempDir dir;
  EXPECT_STATUS(Checkpoint::Open(dir.File("absent")), kNotFound, kModelNotFound,
                {dir.File("absent"), "no such directory"});
  EXPECT_STATUS(Checkpoint::Open(dir.Write("file", "x")), kNotFound, kModelNotFound,
                {"file", "not a directory"});
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kNotFound, kModelNotFound,
                {dir.path(), "config.json is missing"});
  WriteTinyCheckpoint(dir.File("m"));
  fs::remove(dir.File("m/model.safetensors"));
  EXPECT_STATUS(Checkpoint::Open(dir.File("m")), kNotFound, kModelNotFound,
                {dir.File("m"), "model.safetensors"});
  dir.Write("m/pytorch_model.bin", "x");
  EXPECT_STATUS(Checkpoint::Open(dir.File("m")), kNotFound, kModelNotFound,
                {dir.File("m"), "pytorch_model.bin", "save_pretrained"});
}

TEST(Checkpoint, ConfigurationErrorsNameTheDirectory) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  dir.Write("config.json", R"({"model_type": "bert"})");
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kUnimplemented, kUnsupportedArchitecture,
                {dir.path(), "bert", "llama"});
  dir.Write("config.json", "{");
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {dir.path(), "config.json"});
}

TEST(Checkpoint, TensorErrorsNameTheTensor) {
  const auto expect = [](const std::function<void(std::vector<TestTensor>&)>& edit,
                         std::initializer_list<std::string_view> parts) {
    TempDir dir;
    WriteTinyCheckpoint(dir.path());
    EditTensors(dir.path(), edit);
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt, parts);
  };
  expect([](auto& tensors) { std::erase_if(tensors, [](auto& t) { return t.name == kDownProj; }); },
         {"model.layers.1.mlp.down_proj.weight: missing"});
  expect(
      [](auto& tensors) {
        std::erase_if(tensors, [](auto& t) { return t.name == "lm_head.weight"; });
      },
      {"lm_head.weight: missing"});
  expect(
      [](auto& tensors) {
        Find(tensors, kDownProj).shape = {40, 16};
      },
      {"model.layers.1.mlp.down_proj.weight: shape is [40,16]", "[16,40]"});
  expect([](auto& tensors) { Find(tensors, kDownProj).shape = {640}; }, {"down_proj", "[640]"});
}

TEST(Checkpoint, BiasesThatTheConfigurationPromisesMustBeThere) {
  TempDir dir;
  TinyCheckpointOptions options;
  options.config_json = R"({"attention_bias": true})";
  WriteTinyCheckpoint(dir.path(), options);
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {"model.layers.0.self_attn.q_proj.bias: missing"});
}

TEST(Checkpoint, IntegerWeightsAreRefused) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  std::string bytes = *ReadFile(dir.File("model.safetensors"));
  // Same width, other type: "F32" with the rest of the entry, so that no other tensor is hit.
  const size_t name = bytes.find("\"model.norm.weight\"");
  const size_t begin = bytes.find("\"F32\"", name);
  ASSERT_NE(begin, std::string::npos);
  bytes.replace(begin, 5, "\"I32\"");
  dir.Write("model.safetensors", bytes);
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {"model.norm.weight: dtype I32 is not a floating-point type"});
}

TEST(Checkpoint, TruncatedFileIsNamed) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  fs::resize_file(dir.File("model.safetensors"), fs::file_size(dir.File("model.safetensors")) - 1);
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {dir.File("model.safetensors")});
}

class Index : public ::testing::Test {
 protected:
  void SetUp() override {
    TinyCheckpointOptions options;
    options.shards = 2;
    WriteTinyCheckpoint(dir_.path(), options);
    index_ = json::parse(*ReadFile(dir_.File(kName)));
  }
  void ExpectCorrupt(const std::string& text, std::initializer_list<std::string_view> parts) {
    dir_.Write(kName, text);
    EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt, parts);
  }
  static constexpr char kName[] = "model.safetensors.index.json";
  TempDir dir_;
  json index_;
};

TEST_F(Index, MissingShardIsNamed) {
  fs::remove(dir_.File("model-00002-of-00002.safetensors"));
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {dir_.path(), "model-00002-of-00002.safetensors is missing"});
}

TEST_F(Index, BrokenShardIsNamed) {
  dir_.Write("model-00002-of-00002.safetensors", "abc");
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {"model-00002-of-00002.safetensors", "truncated"});
}

TEST_F(Index, TensorInAnotherShardIsNamed) {
  index_["weight_map"]["model.embed_tokens.weight"] = "model-00002-of-00002.safetensors";
  ExpectCorrupt(index_.dump(), {"model.embed_tokens.weight", "model-00002-of-00002.safetensors"});
}

TEST_F(Index, TensorLeftOutIsMissing) {
  index_["weight_map"].erase(kDownProj);
  ExpectCorrupt(index_.dump(), {"model.layers.1.mlp.down_proj.weight: missing"});
}

TEST_F(Index, ShardsAreFileNames) {
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "",
                           "a\\b.safetensors"}) {
    index_["weight_map"][kDownProj] = name;
    ExpectCorrupt(index_.dump(), {kName, "down_proj.weight", "not a plain file name"});
  }
  index_["weight_map"][kDownProj] = std::string("a\0b", 3);
  ExpectCorrupt(index_.dump(), {"not a plain file name"});
}

TEST_F(Index, OtherFormsAreRefused) {
  ExpectCorrupt("", {kName, "not JSON"});
  ExpectCorrupt("[]", {kName, "weight_map"});
  ExpectCorrupt("{}", {kName, "weight_map"});
  ExpectCorrupt(R"({"weight_map": []})", {kName, "weight_map"});
  ExpectCorrupt(R"({"weight_map": {"a": 1}})", {kName, "a: not a file name"});
  ExpectCorrupt(std::string(100000, '['), {kName, "nested too deeply"});
}

class LowRank : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.attention_bias = true;
    options_.ranks = {{"model.layers.0.self_attn.q_proj", 5}, {"model.layers.1.mlp.up_proj", 7}};
    WriteTinyCheckpoint(dir_.path(), options_);
  }
  TempDir dir_;
  TinyCheckpointOptions options_;
};

TEST_F(LowRank, Opens) {
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->config().is_low_rank());
  EXPECT_THAT(checkpoint->Tensor("model.layers.0.self_attn.q_proj.low_rank_a.weight")->shape,
              ElementsAre(5, 16));
  EXPECT_THAT(checkpoint->Tensor("model.layers.0.self_attn.q_proj.low_rank_b.weight")->shape,
              ElementsAre(16, 5));
  EXPECT_TRUE(checkpoint->Has("model.layers.0.self_attn.q_proj.low_rank_b.bias"));
  EXPECT_TRUE(checkpoint->Has("model.layers.0.self_attn.k_proj.weight"));
  TempDir dense;
  options_.ranks.clear();
  WriteTinyCheckpoint(dense.path(), options_);
  EXPECT_EQ(Checkpoint::Open(dense.path())->parameters() - checkpoint->parameters(),
            (16 * 16 - 5 * 32) + (40 * 16 - 7 * 56));
}

TEST_F(LowRank, WithoutAManifestItIsNotAnArtifact) {
  fs::remove(dir_.File("compression_manifest.json"));
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {dir_.path(), "compression_manifest.json"});
}

TEST_F(LowRank, FactorsMustFitTheRank) {
  json config = json::parse(*ReadFile(dir_.File("config.json")));
  config["low_rank_config"]["modules"]["model.layers.1.mlp.up_proj"]["rank"] = 6;
  dir_.Write("config.json", config.dump());
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {"model.layers.1.mlp.up_proj.low_rank_a.weight", "[7,16]", "[6,16]"});
  config["low_rank_config"]["modules"]["model.layers.1.mlp.gate_proj"]["rank"] = 6;
  dir_.Write("config.json", config.dump());
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {"model.layers.1.mlp.gate_proj.low_rank_a.weight: missing"});
}

class Pivoted : public ::testing::Test {
 protected:
  static constexpr char kUp[] = "model.layers.1.mlp.up_proj";
  static constexpr char kOrder[] = "model.layers.1.mlp.up_proj.low_rank_order";
  void SetUp() override {
    options_.attention_bias = true;
    options_.dtype = DType::kF16;
    options_.pivoted = true;
    // k_proj keeps every row: nothing is left for b.
    options_.ranks = {{"model.layers.0.self_attn.k_proj", 8}, {kUp, 7}};
    WriteTinyCheckpoint(dir_.path(), options_);
  }
  void ExpectCorruptOrder(const std::function<void(TestTensor&)>& edit, std::string_view expected) {
    WriteTinyCheckpoint(dir_.path(), options_);
    EditTensors(dir_.path(), [&](auto& tensors) { edit(Find(tensors, kOrder)); });
    EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                  {std::string(kOrder) + ": " + std::string(expected)});
  }
  void ExpectCorruptOrder(size_t index, int32_t value, std::string_view expected) {
    ExpectCorruptOrder([&](TestTensor& order) { std::memcpy(&order.bytes[4 * index], &value, 4); },
                       expected);
  }
  TempDir dir_;
  TinyCheckpointOptions options_;
};

TEST_F(Pivoted, Opens) {
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->config().pivoted);
  EXPECT_THAT(checkpoint->Tensor(std::string(kUp) + ".low_rank_a.weight")->shape,
              ElementsAre(7, 16));
  EXPECT_THAT(checkpoint->Tensor(std::string(kUp) + ".low_rank_b.weight")->shape,
              ElementsAre(33, 7));
  EXPECT_THAT(checkpoint->Tensor(kOrder)->shape, ElementsAre(40));
  EXPECT_EQ(checkpoint->Tensor(kOrder)->dtype, DType::kI32);
  EXPECT_THAT(checkpoint->Tensor("model.layers.0.self_attn.k_proj.low_rank_b.weight")->shape,
              ElementsAre(0, 8));
  EXPECT_TRUE(checkpoint->Has("model.layers.0.self_attn.k_proj.bias"));
  TempDir dense;
  options_.ranks.clear();
  WriteTinyCheckpoint(dense.path(), options_);
  EXPECT_EQ(Checkpoint::Open(dense.path())->parameters() - checkpoint->parameters(),
            40 * 16 - 7 * (40 + 16 - 7));
  EXPECT_EQ(checkpoint->weight_bytes(), 2 * checkpoint->parameters() + 4 * (40 + 8));
}

TEST_F(Pivoted, TheOrderIsAPermutation) {
  ExpectCorruptOrder(5, 40, "index 40 is not between 0 and 39");
  ExpectCorruptOrder(0, -1, "index -1 is not between 0 and 39");
  ExpectCorruptOrder(39, INT32_MIN, "index -2147483648 is not between");
  ExpectCorruptOrder([](TestTensor& order) { order.bytes.replace(4, 4, order.bytes, 0, 4); },
                     "index ");
  ExpectCorruptOrder([](TestTensor& order) { order.dtype = DType::kF32; }, "dtype F32 is not I32");
  ExpectCorruptOrder([](TestTensor& order) { order.shape = {1, 40}; }, "shape is [1,40]");
  ExpectCorruptOrder([](TestTensor& order) { order.shape = {39}, order.bytes.resize(39 * 4); },
                     "shape is [39], config.json asks for [40]");
  WriteTinyCheckpoint(dir_.path(), options_);
  EditTensors(dir_.path(), [](auto& tensors) {
    std::erase_if(tensors, [](const TestTensor& tensor) { return tensor.name == kOrder; });
  });
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {std::string(kOrder) + ": missing"});
}

// What is factored is what the configuration lists: other tensors of such names were not checked.
TEST_F(Pivoted, FactorsThatAreNotListedAreNotUsed) {
  options_.ranks = {{kUp, 7}};
  WriteTinyCheckpoint(dir_.path(), options_);
  const std::string module = "model.layers.0.self_attn.k_proj";
  EditTensors(dir_.path(), [&](auto& tensors) {
    const TestTensor weight = Find(tensors, module + ".weight");
    tensors.push_back(weight);
    tensors.back().name = module + ".low_rank_a.weight";
  });
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->Has(module + ".low_rank_a.weight"));
  EXPECT_FALSE(checkpoint->IsFactored(module));
  EXPECT_TRUE(checkpoint->IsFactored(std::string(kUp)));
  const auto backend = NewCpuBackend(1);
  const auto block = LoadBlock(*checkpoint, 0, *backend);
  ASSERT_OK(block);
  EXPECT_FALSE(block->linear(LinearId::kK).factored());
}

// Plain factors do not become pivoted ones by their name.
TEST_F(Pivoted, TheEncodingDecidesTheShapes) {
  json config = json::parse(*ReadFile(dir_.File("config.json")));
  config["low_rank_config"]["encoding"] = "plain";
  dir_.Write("config.json", config.dump());
  EXPECT_STATUS(Checkpoint::Open(dir_.path()), kInvalidArgument, kModelCorrupt,
                {"low_rank_b.weight: shape is [0,8], config.json asks for [8,8]"});
}

TEST(TinyCheckpoint, TheSameOptionsGiveTheSameBytes) {
  TempDir a, b, c;
  TinyCheckpointOptions options;
  WriteTinyCheckpoint(a.path(), options);
  WriteTinyCheckpoint(b.path(), options);
  options.seed = 2;
  WriteTinyCheckpoint(c.path(), options);
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    EXPECT_EQ(*ReadFile(a.File(name)), *ReadFile(b.File(name))) << name;
  }
  EXPECT_NE(*ReadFile(a.File("model.safetensors")), *ReadFile(c.File("model.safetensors")));
}

TEST(Checkpoint, OpensTheRealTinyModel) {
  const std::string dir = SourceDir() + "/../shared/models/stories260K";
  if (!fs::exists(dir)) GTEST_SKIP() << "../shared/models/stories260K not present";
  const auto checkpoint = Checkpoint::Open(dir);
  ASSERT_OK(checkpoint);
  EXPECT_FALSE(checkpoint->Has("lm_head.weight"));
  EXPECT_EQ(checkpoint->parameters(),
            512 * 64 + 5 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 172 * 64 + 2 * 64) + 64);
  EXPECT_EQ(checkpoint->weight_bytes(), 4 * checkpoint->parameters());
}

}  // namespace
}  // namespace svdllm
