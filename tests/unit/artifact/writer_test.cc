// What becomes of linears that a dense checkpoint stores fused (Phi-3), whole or in part.
#include "artifact/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "artifact/assets.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using ::testing::Contains;
using ::testing::Not;

class FusedArtifactTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::TinyCheckpointOptions options = testing::TinyFamilies().at("phi3");
    testing::WriteTinyCheckpoint(dir_.File("model"), options);
    auto checkpoint = Checkpoint::Open(dir_.File("model"));
    ASSERT_OK(checkpoint);
    checkpoint_ = std::make_unique<Checkpoint>(*std::move(checkpoint));
    targets_ = LinearLayers(*checkpoint_);
    std::filesystem::create_directory(dir_.File("out"));
  }

  // Writes numbers of its own for every target of `ranks` (name → rank), and opens the result.
  absl::StatusOr<Checkpoint> Write(OutputFormat format, Encoding encoding,
                                   const std::map<std::string, int64_t>& ranks) {
    CompressSpec spec;
    spec.output_format = format;
    spec.encoding = encoding;
    std::vector<int64_t> list;
    for (const LinearLayer& target : targets_) {
      list.push_back(ranks.count(target.name) ? ranks.at(target.name) : 0);
    }
    ASSIGN_OR_RETURN(ArtifactWriter writer, ArtifactWriter::Create(*checkpoint_, targets_, spec,
                                                                   0.5, list, dir_.File("out")));
    for (size_t i = 0; i < targets_.size(); ++i) {
      const int64_t rows = targets_[i].rows, cols = targets_[i].cols;
      if (list[i] == 0) continue;
      if (format == OutputFormat::kDense) {
        RETURN_IF_ERROR(writer.WriteDense(i, Numbers(rows * cols)));
        continue;
      }
      std::vector<int32_t> order;
      if (encoding == Encoding::kPivoted) {
        for (int64_t row = 0; row < rows; ++row) order.push_back(static_cast<int32_t>(row));
      }
      const int64_t b_rows = order.empty() ? rows : rows - list[i];
      std::span<const std::byte> a = Numbers(list[i] * cols);
      const std::vector<std::byte> kept(a.begin(), a.end());
      RETURN_IF_ERROR(writer.WriteFactors(i, kept, Numbers(b_rows * list[i]), order));
    }
    RETURN_IF_ERROR(writer.FinishWeights());
    parameters_ = writer.layout().parameters;
    return Checkpoint::Open(dir_.File("out"), /*require_manifest=*/false);
  }

  std::span<const std::byte> Numbers(int64_t count) {
    numbers_.assign(static_cast<size_t>(count), 0.25f);
    return std::as_bytes(std::span(numbers_));
  }

  static std::string Bytes(const Checkpoint& checkpoint, const std::string& name) {
    const auto tensor = checkpoint.Tensor(name);
    EXPECT_TRUE(tensor.ok()) << name;
    if (!tensor.ok()) return "";
    return {reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size()};
  }

  const std::string attn_ = "model.layers.0.self_attn.qkv_proj.";
  const std::string mlp_ = "model.layers.1.mlp.gate_up_proj.";
  testing::TempDir dir_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<LinearLayer> targets_;
  std::vector<float> numbers_;
  int64_t parameters_ = 0;
};

TEST_F(FusedArtifactTest, ACompressedPartTakesTheOthersOutOfTheFusedTensor) {
  for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
    const auto artifact =
        Write(OutputFormat::kFactored, encoding, {{attn_ + "k_proj", 2}, {mlp_ + "gate_proj", 3}});
    ASSERT_OK(artifact);
    const std::vector<std::string> names = artifact->TensorNames();
    EXPECT_THAT(names, Not(Contains("model.layers.0.self_attn.qkv_proj.weight")));
    EXPECT_THAT(names, Contains(attn_ + "q_proj.weight"));
    EXPECT_THAT(names, Contains(attn_ + "k_proj.low_rank_a.weight"));
    EXPECT_THAT(names, Contains(mlp_ + "up_proj.weight"));
    for (const std::string name : {"q_proj.weight", "v_proj.weight"}) {
      EXPECT_EQ(Bytes(*artifact, attn_ + name), Bytes(*checkpoint_, attn_ + name)) << name;
    }
    EXPECT_EQ(Bytes(*artifact, mlp_ + "up_proj.weight"),
              Bytes(*checkpoint_, mlp_ + "up_proj.weight"));
    // Modules without a compressed part stay as they are.
    for (const std::string name :
         {"model.layers.1.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"}) {
      EXPECT_EQ(Bytes(*artifact, name), Bytes(*checkpoint_, name)) << name;
    }
    EXPECT_EQ(artifact->parameters(), parameters_);
  }
}

TEST_F(FusedArtifactTest, DenseOutputReplacesThePartsRowsOnly) {
  const auto artifact = Write(OutputFormat::kDense, Encoding::kPlain,
                              {{attn_ + "k_proj", 2}, {mlp_ + "gate_proj", 3}});
  ASSERT_OK(artifact);
  EXPECT_EQ(artifact->TensorNames(), checkpoint_->TensorNames());
  EXPECT_EQ(artifact->parameters(), checkpoint_->parameters());
  for (const std::string& name :
       {attn_ + "q_proj.weight", attn_ + "v_proj.weight", mlp_ + "up_proj.weight"}) {
    EXPECT_EQ(Bytes(*artifact, name), Bytes(*checkpoint_, name)) << name;
  }
  for (const std::string& name : {attn_ + "k_proj.weight", mlp_ + "gate_proj.weight"}) {
    const std::string bytes = Bytes(*artifact, name);
    ASSERT_FALSE(bytes.empty());
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    EXPECT_THAT(values, ::testing::Each(0.25f)) << name;
  }
}

TEST(ArtifactWriter, EveryFamilyHasItsClassesInTheLoadingCode) {
  for (const auto& [name, options] : testing::TinyFamilies()) {
    SCOPED_TRACE(name);
    testing::TempDir dir;
    testing::WriteTinyCheckpoint(dir.File("model"), options);
    const auto checkpoint = Checkpoint::Open(dir.File("model"));
    ASSERT_OK(checkpoint);
    const std::vector<LinearLayer> targets = LinearLayers(*checkpoint);
    CompressSpec spec;
    std::vector<int64_t> ranks(targets.size(), 0);
    ranks.back() = 1;
    std::filesystem::create_directory(dir.File("out"));
    auto writer = ArtifactWriter::Create(*checkpoint, targets, spec, 0.5, ranks, dir.File("out"));
    ASSERT_OK(writer);
    const std::vector<float> numbers(
        static_cast<size_t>(targets.back().rows + targets.back().cols));
    const auto bytes = std::as_bytes(std::span(numbers));
    const auto count = [](int64_t numbers_of) { return static_cast<size_t>(numbers_of) * 4; };
    ASSERT_OK(writer->WriteFactors(targets.size() - 1, bytes.first(count(targets.back().cols)),
                                   bytes.first(count(targets.back().rows)), {}));
    ASSERT_OK(writer->FinishWeights());
    const auto artifact = Checkpoint::Open(dir.File("out"), /*require_manifest=*/false);
    ASSERT_OK(artifact);
    EXPECT_EQ(artifact->config().family, checkpoint->config().family);
    const auto config = nlohmann::json::parse(artifact->config_text());
    const std::string model = config.at("auto_map").at("AutoModel");
    const std::string front = "modeling_svdllm.LowRank", back = "Model";
    ASSERT_THAT(model, ::testing::StartsWith(front));
    const std::string family =
        model.substr(front.size(), model.size() - front.size() - back.size());
    EXPECT_THAT(kConfigurationPy, ::testing::HasSubstr("\"" + family + "\"")) << model;
    for (const std::string kind : {"ForCausalLM", "ForSequenceClassification"}) {
      EXPECT_EQ(config.at("auto_map").at("AutoModel" + kind), front + family + kind);
      EXPECT_THAT(kModelingPy, ::testing::HasSubstr("\"" + kind + "\""));
    }
  }
}

}  // namespace
}  // namespace svdllm
