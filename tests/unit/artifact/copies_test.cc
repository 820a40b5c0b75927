// What an artifact takes over from its source: tensors that nobody computes with, and files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "artifact/manifest.h"
#include "artifact/writer.h"
#include "tests/support/edit_tensors.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using testing::AddRawTensor;
using testing::EditConfig;
using testing::EditTensors;
using testing::Find;
using testing::TempDir;
using testing::TestTensor;
using testing::WriteTinyCheckpoint;

class CopiesTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteTinyCheckpoint(model_); }

  absl::Status Open() {
    auto checkpoint = Checkpoint::Open(model_);
    RETURN_IF_ERROR(checkpoint.status());
    source_ = std::make_unique<Checkpoint>(*std::move(checkpoint));
    linears_ = LinearLayers(*source_);
    return absl::OkStatus();
  }

  // The first linear at rank 1, the others as they are.
  absl::StatusOr<Layout> Plan() {
    RETURN_IF_ERROR(Open());
    return LayoutOf(*source_, linears_, {}, Ranks());
  }

  absl::StatusOr<Checkpoint> Write(OutputFormat format = OutputFormat::kFactored) {
    RETURN_IF_ERROR(Open());
    spec_.output_format = format;
    std::filesystem::remove_all(out_);
    std::filesystem::create_directory(out_);
    ASSIGN_OR_RETURN(ArtifactWriter writer,
                     ArtifactWriter::Create(*source_, linears_, spec_, 0.5, Ranks(), out_));
    const LinearLayer& first = linears_[0];
    const std::vector<float> numbers(static_cast<size_t>(first.rows * first.cols), 0.25f);
    const auto bytes = std::as_bytes(std::span(numbers));
    if (format == OutputFormat::kDense) {
      RETURN_IF_ERROR(writer.WriteDense(0, bytes));
    } else {
      RETURN_IF_ERROR(writer.WriteFactors(0, bytes.first(static_cast<size_t>(first.cols) * 4),
                                          bytes.first(static_cast<size_t>(first.rows) * 4), {}));
    }
    RETURN_IF_ERROR(writer.FinishWeights());
    layout_ = writer.layout();
    return Checkpoint::Open(out_, /*require_manifest=*/false);
  }

  std::vector<int64_t> Ranks() const {
    std::vector<int64_t> ranks(linears_.size(), 0);
    ranks[0] = 1;
    return ranks;
  }

  // What the artifact has less than the source: W [16,16] against A and B of rank 1.
  static constexpr int64_t kSaved = 16 * 16 - 32;

  TempDir dir_;
  const std::string model_ = dir_.File("model"), out_ = dir_.File("out");
  CompressSpec spec_;
  std::unique_ptr<Checkpoint> source_;
  std::vector<LinearLayer> linears_;
  Layout layout_;
};

TEST_F(CopiesTest, NaNInWhatIsOnlyCopiedIsRefusedBeforeAnythingIsComputed) {
  const float kBad[] = {std::nanf(""), std::numeric_limits<float>::infinity()};
  for (const char* name : {"model.norm.weight", "lm_head.weight", "model.embed_tokens.weight",
                           "model.layers.1.mlp.up_proj.weight"}) {
    for (const float bad : kBad) {
      WriteTinyCheckpoint(model_);
      EditTensors(model_, [&](auto& tensors) {
        std::string& bytes = Find(tensors, name).bytes;
        std::memcpy(&bytes[bytes.size() - 4], &bad, 4);
      });
      EXPECT_OK(Plan());  // headers only
      EXPECT_STATUS(Write(), kInvalidArgument, kModelCorrupt,
                    {model_, name, "holds NaN or infinite values"});
    }
  }
}

TEST_F(CopiesTest, NaNInABufferThatNobodyUsesIsRefusedToo) {
  AddRawTensor(model_, "model.scales", "F8_E4M3", {2}, "\x01\x7f");
  EXPECT_STATUS(Write(), kInvalidArgument, kModelCorrupt, {"model.scales", "NaN"});
}

TEST_F(CopiesTest, TensorsOfEveryTypeAreCopiedUntouched) {
  AddRawTensor(model_, "model.layers.0.self_attn.position_ids", "I64", {2}, "0123456789abcdef");
  AddRawTensor(model_, "model.mask", "BOOL", {3}, std::string("\0\1\1", 3));
  AddRawTensor(model_, "model.bytes", "U8", {2, 2}, "\xff\xfe\xfd\xfc");
  AddRawTensor(model_, "model.odd", "F4_NEW", {5}, "abc");
  AddRawTensor(model_, "model.order", "I32", {1}, "\xff\xff\xff\xff");
  for (const OutputFormat format : {OutputFormat::kFactored, OutputFormat::kDense}) {
    const auto artifact = Write(format);
    ASSERT_OK(artifact);
    for (const char* name : {"model.layers.0.self_attn.position_ids", "model.mask", "model.bytes",
                             "model.odd", "model.order"}) {
      const auto before = source_->FiniteBytes(name), after = artifact->FiniteBytes(name);
      ASSERT_OK(before);
      ASSERT_OK(after);
      EXPECT_TRUE(std::equal(before->bytes.begin(), before->bytes.end(), after->bytes.begin(),
                             after->bytes.end()));
      EXPECT_EQ(source_->Spec(name)->type_name(), artifact->Spec(name)->type_name());
      EXPECT_EQ(source_->Spec(name)->shape, artifact->Spec(name)->shape);
      EXPECT_FALSE(artifact->IsUsed(name));
    }
    EXPECT_STATUS(artifact->Tensor("model.mask"), kInvalidArgument, kModelCorrupt, {"BOOL"});
  }
}

// Before, planned and after count the same tensors, whatever else is stored.
TEST_F(CopiesTest, TensorsThatNobodyUsesCountForNothing) {
  const auto plain = Write();
  ASSERT_OK(plain);
  const int64_t before = source_->parameters(), after = plain->parameters();
  EXPECT_EQ(before - after, kSaved);
  const int64_t stored = layout_.stored_bytes;
  EXPECT_EQ(stored, layout_.weight_bytes);

  AddRawTensor(model_, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, "abcdefgh");
  AddRawTensor(model_, "model.position_ids", "I64", {1}, "abcdefgh");
  EditConfig(model_, R"({"num_hidden_layers": 1})");  // the second is left over
  const auto spare = Write();
  ASSERT_OK(spare);
  EXPECT_EQ(source_->parameters() - spare->parameters(), kSaved);
  EXPECT_LT(source_->parameters(), before);
  EXPECT_EQ(layout_.parameters, spare->parameters());
  EXPECT_EQ(layout_.weight_bytes, spare->weight_bytes());
  EXPECT_EQ(layout_.stored_bytes, stored + 16);
  EXPECT_TRUE(spare->Has("model.layers.1.mlp.up_proj.weight"));
  const auto index = nlohmann::json::parse(*ReadFile(out_ + "/model.safetensors.index.json"));
  EXPECT_EQ(index.at("metadata").at("total_size"), stored + 16);
}

TEST_F(CopiesTest, ASpareHeadCountsForNothing) {
  EditConfig(model_, R"({"tie_word_embeddings": true})");
  EditTensors(model_, [](auto& tensors) {
    Find(tensors, "lm_head.weight").bytes = Find(tensors, "model.embed_tokens.weight").bytes;
  });
  const auto artifact = Write();
  ASSERT_OK(artifact);
  EXPECT_TRUE(artifact->config().tie_word_embeddings);
  EXPECT_TRUE(artifact->Has("lm_head.weight"));
  EXPECT_EQ(source_->parameters() - artifact->parameters(), kSaved);
  EXPECT_EQ(layout_.parameters, artifact->parameters());
  EXPECT_EQ(layout_.weight_bytes, artifact->weight_bytes());
}

TEST_F(CopiesTest, AHeadOfOtherNumbersMakesTheArtifactUntied) {
  EditConfig(model_, R"({"tie_word_embeddings": true, "some_key": 7})");
  for (const OutputFormat format : {OutputFormat::kFactored, OutputFormat::kDense}) {
    const auto artifact = Write(format);
    ASSERT_OK(artifact);
    const auto config = nlohmann::json::parse(*ReadFile(out_ + "/config.json"));
    EXPECT_EQ(config.at("tie_word_embeddings"), false);
    EXPECT_EQ(config.at("some_key"), 7);
    EXPECT_FALSE(artifact->config().tie_word_embeddings);
    EXPECT_TRUE(artifact->IsUsed("lm_head.weight"));
  }
}

// Where transformers looks for them, whatever the source called them.
TEST_F(CopiesTest, NamesAreThoseOfTheWholeModel) {
  const auto usual = Write();
  ASSERT_OK(usual);
  EditTensors(model_, [](auto& tensors) {
    for (TestTensor& tensor : tensors) {
      if (tensor.name.starts_with("model.")) tensor.name = tensor.name.substr(6);
    }
  });
  const auto renamed = Write();
  ASSERT_OK(renamed);
  EXPECT_EQ(renamed->TensorNames(), usual->TensorNames());
}

TEST_F(CopiesTest, SideFilesAndTheirManifest) {
  const char* kCarried[] = {"LICENSE.md",
                            "NOTICE.txt",
                            "COPYING",
                            "chat_template.json",
                            "additional_chat_templates/tool_use.jinja",
                            "tokenizer.json"};
  for (const char* name : kCarried) dir_.Write(std::string("model/") + name, name);
  dir_.Write("model/modeling.py", "code");
  dir_.Write("model/README.md", "the source's card");
  ASSERT_OK(Write());
  for (const char* name : kCarried) EXPECT_EQ(*ReadFile(out_ + "/" + name), name);
  EXPECT_FALSE(testing::FileExists(out_ + "/modeling.py"));
  EXPECT_FALSE(testing::FileExists(out_ + "/README.md"));
  ASSERT_OK(WriteManifest(out_, "job"));
  const auto manifest = nlohmann::json::parse(*ReadFile(out_ + "/compression_manifest.json"));
  EXPECT_TRUE(manifest.at("files").contains("additional_chat_templates/tool_use.jinja"));
  EXPECT_TRUE(manifest.at("files").contains("config.json"));
  EXPECT_FALSE(manifest.at("files").contains("additional_chat_templates"));
}

TEST_F(CopiesTest, ASideFileThatCannotBeCarriedIsNamedInThePlan) {
  std::filesystem::create_symlink(dir_.Write("secret", "x"), model_ + "/NOTICE");
  EXPECT_OK(Open());  // who only evaluates carries nothing
  EXPECT_STATUS(Plan(), kInvalidArgument, kModelCorrupt,
                {"NOTICE", "out of the model's directory"});
}

}  // namespace
}  // namespace svdllm
