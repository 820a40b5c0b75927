#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "tests/support/safetensors_bytes.h"
#include "tests/support/source_dir.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using testing::SafetensorsBytes;
using testing::TempDir;

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(SafetensorsFile, ReadsEveryFloatType) {
  TempDir dir;
  const std::string path =
      dir.Write("a.safetensors", SafetensorsBytes({{"f64", DType::kF64, {1}, "abcdefgh"},
                                                   {"f32", DType::kF32, {2, 1}, "ijklmnop"},
                                                   {"f16", DType::kF16, {3}, "qrstuv"},
                                                   {"bf16", DType::kBF16, {1, 1, 1}, "wx"}}));
  auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  EXPECT_THAT(file->Names(), ElementsAre("bf16", "f16", "f32", "f64"));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->path(), path);
  auto view = file->Get("f32");
  ASSERT_OK(view);
  EXPECT_EQ(view->dtype, DType::kF32);
  EXPECT_THAT(view->shape, ElementsAre(2, 1));
  EXPECT_EQ(view->elements(), 2);
  EXPECT_EQ(Text(view->bytes), "ijklmnop");
  EXPECT_EQ(Text(file->Get("f64")->bytes), "abcdefgh");
  EXPECT_EQ(Text(file->Get("f16")->bytes), "qrstuv");
  EXPECT_EQ(file->Get("bf16")->dtype, DType::kBF16);
  EXPECT_EQ(Text(file->Get("bf16")->bytes), "wx");
}

TEST(SafetensorsFile, AcceptsWhatTheFormatAllows) {
  TempDir dir;
  // Order of the header free of the data's; scalars; empty tensors anywhere; padding by blanks; no
  // metadata; other element types beside.
  const std::string path =
      dir.Write("a.safetensors",
                SafetensorsBytes(R"({"b":{"data_offsets":[4,8],"shape":[],"dtype":"F32"},)"
                                 R"("e":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
                                 R"("i":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},)"
                                 R"("odd":{"dtype":"F4_NEW","shape":[2],"data_offsets":[16,17]},)"
                                 R"("n":{"dtype":"I32","shape":[1],"data_offsets":[17,21]},)"
                                 R"("a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}      )",
                                 "AAAABBBBiiiiiiii4nnnn"));
  auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  EXPECT_EQ(Text(file->Get("b")->bytes), "BBBB");
  EXPECT_EQ(file->Get("b")->elements(), 1);
  EXPECT_EQ(file->Get("e")->elements(), 0);
  EXPECT_TRUE(file->Has("i"));
  EXPECT_FALSE(file->Has("j"));
  EXPECT_EQ(file->Get("n")->dtype, DType::kI32);
  EXPECT_EQ(Text(file->Get("n")->bytes), "nnnn");
  EXPECT_STATUS(file->Get("i"), kInvalidArgument, kModelCorrupt, {path, "i: dtype I64"});
  EXPECT_STATUS(file->Get("odd"), kInvalidArgument, kModelCorrupt, {path, "odd: dtype F4_NEW"});
  EXPECT_STATUS(file->Get("none"), kNotFound, "", {path, "none"});
}

TEST(SafetensorsFile, AcceptsAFileWithoutTensors) {
  TempDir dir;
  auto file = SafetensorsFile::Open(dir.Write("a.safetensors", SafetensorsBytes("{}", "")));
  ASSERT_OK(file);
  EXPECT_TRUE(file->Names().empty());
}

TEST(SafetensorsFile, SurvivesBeingMoved) {
  TempDir dir;
  const std::string path =
      dir.Write("a.safetensors", SafetensorsBytes({{"t", DType::kF32, {1}, "abcd"}}));
  auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  const auto view = file->Get("t");
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(Text(view->bytes), "abcd");  // the map stays where it is
  EXPECT_EQ(Text(moved.Get("t")->bytes), "abcd");
}

TEST(SafetensorsFile, AbsentFileIsNotFound) {
  TempDir dir;
  EXPECT_STATUS(SafetensorsFile::Open(dir.File("absent.safetensors")), kNotFound, "",
                {"absent.safetensors"});
}

TEST(SafetensorsFile, ReadsTheRealTinyModel) {
  const std::string path = SourceDir() + "/../shared/models/stories260K/model.safetensors";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/models/stories260K not present";
  auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  auto embedding = file->Get("model.embed_tokens.weight");
  ASSERT_OK(embedding);
  EXPECT_THAT(embedding->shape, ElementsAre(512, 64));
}

}  // namespace
}  // namespace svdllm
