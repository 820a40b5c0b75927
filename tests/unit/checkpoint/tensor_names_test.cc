// The names that tensors are stored under, heads that are tied or not, and heads of other models.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "tests/support/edit_tensors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using testing::EditConfig;
using testing::EditTensors;
using testing::Find;
using testing::TempDir;
using testing::TestTensor;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

constexpr char kHead[] = "lm_head.weight", kEmbedding[] = "model.embed_tokens.weight";

std::string Renamed(const std::string& name, const std::string& from, const std::string& to) {
  return name.starts_with(from) ? to + name.substr(from.size()) : name;
}

void RenameAll(const std::string& dir, const std::string& from, const std::string& to) {
  EditTensors(dir, [&](std::vector<TestTensor>& tensors) {
    for (TestTensor& tensor : tensors) tensor.name = Renamed(tensor.name, from, to);
  });
}

void ExpectSameTensors(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.TensorNames(), b.TensorNames());
  EXPECT_EQ(a.parameters(), b.parameters());
  for (const std::string& name : a.TensorNames()) {
    const auto x = a.Tensor(name), y = b.Tensor(name);
    ASSERT_OK(x);
    ASSERT_OK(y);
    EXPECT_TRUE(std::equal(x->bytes.begin(), x->bytes.end(), y->bytes.begin(), y->bytes.end()));
  }
}

// Every family, stored as its base model is: without "model.", or with it everywhere.
TEST(TensorNames, APrefixTooFewOrTooManyIsNoDifference) {
  for (const auto& [family, options] : testing::TinyFamilies()) {
    TempDir usual, without, twice;
    for (const TempDir* dir : {&usual, &without, &twice}) WriteTinyCheckpoint(dir->path(), options);
    RenameAll(without.path(), "model.", "");
    RenameAll(twice.path(), "", "model.");
    const auto expected = Checkpoint::Open(usual.path());
    ASSERT_OK(expected);
    for (const TempDir* dir : {&without, &twice}) {
      SCOPED_TRACE(family);
      const auto checkpoint = Checkpoint::Open(dir->path());
      ASSERT_OK(checkpoint);
      ExpectSameTensors(*checkpoint, *expected);
    }
  }
}

TEST(TensorNames, ShardsOfABaseModel) {
  TempDir usual, shards;
  TinyCheckpointOptions options;
  WriteTinyCheckpoint(usual.path(), options);
  options.shards = 3;
  WriteTinyCheckpoint(shards.path(), options);
  const std::string index = shards.File("model.safetensors.index.json");
  nlohmann::json root = nlohmann::json::parse(*ReadFile(index));
  nlohmann::json map;
  for (const auto& [name, file] : root["weight_map"].items()) {
    map[Renamed(name, "model.", "")] = file;
    const std::string path = shards.File(file.get<std::string>());
    // Of the same length, so that the header still fits.
    std::string bytes = *ReadFile(path);
    const size_t at = bytes.find('"' + name + '"');
    const std::string shorter = '"' + Renamed(name, "model.", "") + '"';
    bytes.replace(at, name.size() + 2,
                  shorter + std::string(name.size() + 2 - shorter.size(), ' '));
    ASSERT_OK(WriteFileAtomic(path, bytes));
  }
  root["weight_map"] = map;
  ASSERT_OK(WriteFileAtomic(index, root.dump()));
  const auto expected = Checkpoint::Open(usual.path()),
             checkpoint = Checkpoint::Open(shards.path());
  ASSERT_OK(expected);
  ASSERT_OK(checkpoint);
  ExpectSameTensors(*checkpoint, *expected);
}

TEST(TensorNames, StoredUnderTwoNamesIsRefused) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  EditTensors(dir.path(), [](auto& tensors) {
    TestTensor copy = Find(tensors, "model.norm.weight");
    copy.name = "norm.weight";
    tensors.push_back(copy);
  });
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {"model.norm.weight: stored twice", "as norm.weight"});
}

TEST(TensorNames, WhatIsMissingHasItsOwnName) {
  TempDir dir;
  WriteTinyCheckpoint(dir.path());
  RenameAll(dir.path(), "model.", "");
  EditTensors(dir.path(), [](auto& tensors) {
    std::erase_if(tensors, [](auto& tensor) { return tensor.name == "norm.weight"; });
  });
  EXPECT_STATUS(Checkpoint::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {"model.norm.weight: missing"});
}

class TiedHead : public ::testing::Test {
 protected:
  // A model whose configuration is tied, and which stores a head: that of `edit`.
  absl::StatusOr<Checkpoint> Open(const std::function<void(std::vector<TestTensor>&)>& edit) {
    WriteTinyCheckpoint(dir_.path());
    EditConfig(dir_.path(), R"({"tie_word_embeddings": true})");
    EditTensors(dir_.path(), edit);
    return Checkpoint::Open(dir_.path());
  }
  static void CopyEmbedding(std::vector<TestTensor>& tensors) {
    Find(tensors, kHead).bytes = Find(tensors, kEmbedding).bytes;
  }
  int64_t TiedParameters() {
    TempDir dir;
    TinyCheckpointOptions options;
    options.tied = true;
    WriteTinyCheckpoint(dir.path(), options);
    return Checkpoint::Open(dir.path())->parameters();
  }
  TempDir dir_;
};

TEST_F(TiedHead, OfTheSameNumbersCountsOnce) {
  const auto checkpoint = Open(CopyEmbedding);
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->config().tie_word_embeddings);
  EXPECT_TRUE(checkpoint->Has(kHead));
  EXPECT_FALSE(checkpoint->IsUsed(kHead));
  EXPECT_EQ(checkpoint->parameters(), TiedParameters());
  EXPECT_EQ(checkpoint->config_text(), *ReadFile(dir_.File("config.json")));
}

TEST_F(TiedHead, OfTheSameNumbersInAnotherTypeCountsOnce) {
  const auto checkpoint = Open([](auto& tensors) {
    const TestTensor& embedding = Find(tensors, kEmbedding);
    TestTensor& head = Find(tensors, kHead);
    const size_t count = embedding.bytes.size() / 4;
    head.dtype = DType::kF64;
    head.bytes.resize(8 * count);
    ConvertElements(embedding.bytes.data(), DType::kF32, head.bytes.data(), DType::kF64, count);
  });
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->config().tie_word_embeddings);
}

// As transformers 5: what is stored goes before what the configuration says.
TEST_F(TiedHead, OfOtherNumbersIsAHeadOfItsOwn) {
  const auto checkpoint = Open([](auto& tensors) {
    CopyEmbedding(tensors);
    Find(tensors, kHead).bytes.back() ^= 1;  // one bit of the last number
  });
  ASSERT_OK(checkpoint);
  EXPECT_FALSE(checkpoint->config().tie_word_embeddings);
  EXPECT_TRUE(checkpoint->IsUsed(kHead));
  EXPECT_EQ(checkpoint->parameters(), TiedParameters() + 260 * 16);
  const auto text = nlohmann::json::parse(checkpoint->config_text());
  EXPECT_EQ(text.at("tie_word_embeddings"), false);
  EXPECT_EQ(text.at("hidden_size"), 16);
}

TEST_F(TiedHead, ByTheFamilysDefaultIsTheSame) {
  for (const char* family : {"opt", "gemma2", "gemma3"}) {
    SCOPED_TRACE(family);
    TempDir dir;
    TinyCheckpointOptions options = testing::TinyFamilies().at(family);
    options.tied = false;  // a head of its own is stored
    WriteTinyCheckpoint(dir.path(), options);
    auto config = nlohmann::json::parse(*ReadFile(dir.File("config.json")));
    config.erase("tie_word_embeddings");
    dir.Write("config.json", config.dump());
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_OK(checkpoint);
    EXPECT_FALSE(checkpoint->config().tie_word_embeddings);
    EXPECT_EQ(nlohmann::json::parse(checkpoint->config_text()).at("tie_word_embeddings"), false);
  }
}

TEST_F(TiedHead, OfAnotherShapeIsRefused) {
  const auto checkpoint = Open([](auto& tensors) {
    TestTensor& head = Find(tensors, kHead);
    head.shape = {259, 16};
    head.bytes.resize(259 * 16 * 4);
  });
  EXPECT_STATUS(checkpoint, kInvalidArgument, kModelCorrupt, {kHead, "[259,16]", "[260,16]"});
}

TEST_F(TiedHead, AloneIsTheEmbedding) {
  const auto checkpoint = Open([](auto& tensors) {
    std::erase_if(tensors, [](auto& tensor) { return tensor.name == kEmbedding; });
  });
  ASSERT_OK(checkpoint);
  EXPECT_TRUE(checkpoint->config().tie_word_embeddings);
  EXPECT_TRUE(checkpoint->IsUsed(kEmbedding));
  EXPECT_FALSE(checkpoint->Has(kHead));
  EXPECT_EQ(checkpoint->parameters(), TiedParameters());
}

TEST(OtherHeads, AreRefusedByName) {
  for (const char* name : {"score.weight", "classifier.weight", "qa_outputs.weight"}) {
    TempDir dir;
    WriteTinyCheckpoint(dir.path());
    EditTensors(dir.path(), [name](auto& tensors) {
      tensors.push_back({name, DType::kF32, {1, 16}, std::string(64, '\0')});
    });
    EXPECT_STATUS(Checkpoint::Open(dir.path()), kUnimplemented, kUnsupportedArchitecture,
                  {dir.path(), name, "classifier"});
  }
}

// What LlamaModel.save_pretrained leaves: no head, and names without a prefix.
TEST(OtherHeads, ABaseModelNeedsATiedHead) {
  for (const bool tied : {false, true}) {
    TempDir dir;
    TinyCheckpointOptions options;
    options.tied = true;
    WriteTinyCheckpoint(dir.path(), options);
    RenameAll(dir.path(), "model.", "");
    EditConfig(dir.path(), R"({"architectures": ["LlamaModel"]})");
    EditConfig(dir.path(), tied ? "{}" : R"({"tie_word_embeddings": false})");
    const auto checkpoint = Checkpoint::Open(dir.path());
    if (tied) {
      EXPECT_OK(checkpoint);
    } else {
      EXPECT_STATUS(checkpoint, kUnimplemented, kUnsupportedArchitecture,
                    {"LlamaModel has no head", kHead});
    }
  }
}

}  // namespace
}  // namespace svdllm
