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

TEST(SafetensorsFile, GivesEveryTypeForACopy) {
  TempDir dir;
  const auto file = SafetensorsFile::Open(
      dir.Write("a.safetensors",
                SafetensorsBytes(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                                 R"("b":{"dtype":"BOOL","shape":[3],"data_offsets":[4,7]},)"
                                 R"("i":{"dtype":"I64","shape":[1],"data_offsets":[7,15]},)"
                                 R"("odd":{"dtype":"F4_NEW","shape":[9],"data_offsets":[15,17]}})",
                                 "AAAABBBiiiiiiii44")));
  ASSERT_OK(file);
  const std::tuple<const char*, std::string_view, std::string_view> kTensors[] = {
      {"a", "F16", "AAAA"},
      {"b", "BOOL", "BBB"},
      {"i", "I64", "iiiiiiii"},
      {"odd", "F4_NEW", "44"}};
  for (const auto& [name, type, text] : kTensors) {
    const auto raw = file->Raw(name);
    ASSERT_OK(raw);
    EXPECT_EQ(raw->type, type);
    EXPECT_EQ(Text(raw->bytes), text);
  }
  EXPECT_THAT(file->Raw("odd")->shape, ElementsAre(9));
  EXPECT_STATUS(file->Raw("none"), kNotFound, "", {"none"});
}

TEST(AllFinite, LooksAtEveryFloatingPointType) {
  const auto finite = [](std::string_view type, std::initializer_list<uint8_t> bytes) {
    const std::vector<uint8_t> copy(bytes);
    return AllFinite({type, {}, std::as_bytes(std::span(copy))});
  };
  for (const auto& [type, finite_byte, other] :
       std::vector<std::tuple<const char*, uint8_t, uint8_t>>{{"F8_E4M3", 0x7e, 0xff},
                                                              {"F8_E4M3", 0xfe, 0x7f},
                                                              {"F8_E5M2", 0x7b, 0x7c},
                                                              {"F8_E5M2", 0xfb, 0xff},
                                                              {"F8_E8M0", 0xfe, 0xff},
                                                              {"F8_E4M3FNUZ", 0xff, 0x80},
                                                              {"F8_E5M2FNUZ", 0x7f, 0x80}}) {
    EXPECT_TRUE(finite(type, {0, finite_byte})) << type;
    EXPECT_FALSE(finite(type, {0, finite_byte, other})) << type;
  }
  EXPECT_TRUE(finite("F16", {0xff, 0x7b}));
  EXPECT_FALSE(finite("F16", {0, 0, 0, 0x7c}));
  EXPECT_FALSE(finite("BF16", {0x80, 0x7f}));
  EXPECT_FALSE(finite("F32", {0, 0, 0x80, 0x7f}));
  EXPECT_FALSE(finite("F64", {0, 0, 0, 0, 0, 0, 0xf0, 0xff}));
  EXPECT_FALSE(finite("C64", {0, 0, 0, 0, 0, 0, 0xc0, 0x7f}));
  EXPECT_TRUE(finite("F32", {}));
  for (const char* type : {"I64", "I32", "U8", "BOOL", "F4_NEW"}) {
    EXPECT_TRUE(finite(type, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})) << type;
  }
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

TEST(SafetensorsFile, WhatIsNoFileOfWeightsIsNamed) {
  TempDir dir;
  EXPECT_STATUS(SafetensorsFile::Open(dir.path()), kInvalidArgument, kModelCorrupt,
                {dir.path(), "not a regular file"});
  EXPECT_STATUS(
      SafetensorsFile::Open(dir.Write("a", "version https://git-lfs.github.com/spec/v1\nsize 1\n")),
      kInvalidArgument, kModelCorrupt, {dir.File("a"), "Git LFS pointer"});
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
