// The file format alone: what is read, and what is refused.
#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "tests/support/gguf_bytes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using testing::GgufBytes;
using ::testing::Optional;
using testing::TempDir;

const std::string kEightFloats(32, 'x');

template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

TEST(GgufFile, ValuesAndTensorsAreRead) {
  TempDir dir;
  GgufBytes bytes;
  bytes.Uint32("u", 7).Float32("f", 1e-5f).Bool("b", true).String("s", "text");
  bytes.Strings("ss", {"a", "", "c"}).Int32s("is", {-1, 2}).Float32s("fs", {0.5f});
  bytes.Value("i8", 1, Bytes(int8_t{-5})).Value("u64", 10, Bytes(uint64_t{1} << 40));
  bytes.Value("f64", 12, Bytes(0.1));
  bytes.Value(
      "nested", 9,
      Bytes(uint32_t{9}) + Bytes(uint64_t{1}) + Bytes(uint32_t{0}) + Bytes(uint64_t{2}) + "ab");
  bytes.Tensor("m", 0, {2, 4}, kEightFloats).Tensor("scalar", 0, {}, "abcd");
  bytes.Tensor("strange", 16, {256}, "");
  for (const uint32_t version : {2u, 3u}) {
    const auto file = GgufFile::Open(dir.Write("a.gguf", bytes.Make(version)));
    ASSERT_OK(file);
    EXPECT_THAT(*file->Int("u"), Optional(7));
    EXPECT_THAT(*file->Int("b"), Optional(1));
    EXPECT_THAT(*file->Int("i8"), Optional(-5));
    EXPECT_THAT(*file->Int("u64"), Optional(int64_t{1} << 40));
    EXPECT_THAT(*file->Double("f"), Optional(1e-5));  // not what 1e-5f is to the last bit
    EXPECT_THAT(*file->Double("f64"), Optional(0.1));
    EXPECT_THAT(*file->Double("u"), Optional(7.0));
    EXPECT_THAT(*file->String("s"), Optional(std::string("text")));
    EXPECT_THAT(**file->Strings("ss"), ElementsAre("a", "", "c"));
    EXPECT_THAT(**file->Ints("is"), ElementsAre(-1, 2));
    EXPECT_THAT(**file->Doubles("fs"), ElementsAre(0.5));
    EXPECT_EQ(*file->Int("absent"), std::nullopt);
    EXPECT_EQ(*file->Strings("absent"), nullptr);
    EXPECT_STATUS(file->Int("s"), kInvalidArgument, kModelCorrupt, {"a.gguf: s", "whole number"});
    EXPECT_STATUS(file->Strings("is"), kInvalidArgument, kModelCorrupt, {"a.gguf: is"});
    const GgufTensor& matrix = file->tensors().at("m");
    EXPECT_THAT(matrix.shape, ElementsAre(2, 4));
    EXPECT_EQ(std::memcmp(matrix.bytes.data(), kEightFloats.data(), 32), 0);
    EXPECT_EQ(file->tensors().at("scalar").bytes.size(), 4u);
    EXPECT_TRUE(file->tensors().at("strange").bytes.empty());
  }
}

TEST(GgufFile, MalformedFilesAreRefusedByName) {
  struct Case {
    std::string bytes;
    std::string named;
  };
  GgufBytes sound;
  sound.Uint32("key", 7).Tensor("m", 0, {2, 4}, kEightFloats);
  const std::string big_endian = [&] {
    std::string bytes = sound.Make();
    std::swap(bytes[4], bytes[7]);
    return bytes;
  }();
  const Case kCases[] = {
      {"", "magic"},
      {"GGML" + sound.Make().substr(4), "not a GGUF file"},
      {sound.Make(1), "version 1"},
      {big_endian, "big-endian"},
      {sound.Make().substr(0, sound.Make().size() - 32), "m: not in the file's data"},
      {"GGUF" + Bytes(uint32_t{3}) + std::string(16, '\xff'), "more tensors"},
      {GgufBytes().Uint32("key", 7).Uint32("key", 8).Make(), "key: appears twice"},
      {GgufBytes().Value("key", 99, "abcd").Make(), "key: unknown value type 99"},
      {GgufBytes().Value("key", 10, std::string(8, '\xff')).Make(), "key: 18446744073709551615"},
      {GgufBytes().Value("key", 9, Bytes(uint32_t{4}) + Bytes(uint64_t{1} << 23)).Make(), "key"},
      {GgufBytes().Value("key", 9, Bytes(uint32_t{4}) + Bytes(uint64_t{1} << 60)).Make(), "key"},
      {GgufBytes().Value("key", 9, Bytes(uint32_t{77}) + Bytes(uint64_t{0})).Make(), "key"},
      {GgufBytes().Value("key", 8, Bytes(uint64_t{1} << 50)).Make(), "key"},
      {GgufBytes().Uint32("", 1).Make(), "impossible name"},
      {GgufBytes().Uint32("general.alignment", 3).Make(), "general.alignment"},
      {GgufBytes().Tensor("m", 0, {1, 1, 1, 1, 1}, "abcd").Make(), "m: 5 dimensions"},
      {GgufBytes().Tensor("m", 8, {2, 33}, "").Make(), "m: rows of 33"},
      {GgufBytes().Tensor("m", 0, {1 << 30, 1 << 30, 1 << 30}, "").Make(), "m: impossible shape"},
      {GgufBytes().Tensor("m", 0, {-1}, "").Make(), "m"},
      {GgufBytes().Tensor("m", 2, {int64_t{1} << 33, 0}, "").Make(), "m: a dimension of 0"},
      {GgufBytes().Tensor("m", 0, {1}, "abcd").Tensor("m", 0, {1}, "abcd").Make(),
       "m: appears twice"},
  };
  for (const Case& one : kCases) {
    TempDir dir;
    const std::string path = dir.Write("bad.gguf", one.bytes);
    EXPECT_STATUS(GgufFile::Open(path), kInvalidArgument, kModelCorrupt, {path, one.named});
  }
  const std::string whole = sound.Make();
  for (size_t size = 0; size < whole.size(); ++size) {
    TempDir dir;
    EXPECT_FALSE(GgufFile::Open(dir.Write("cut.gguf", whole.substr(0, size))).ok()) << size;
  }
}

// A model in three parts, as llama.cpp's gguf-split writes them: the metadata in the first.
class GgufParts : public ::testing::Test {
 protected:
  static constexpr int kParts = 3;
  static std::string NameOf(int part, const std::string& front = "m") {
    return front + "-0000" + std::to_string(part) + "-of-0000" + std::to_string(kParts) + ".gguf";
  }
  static GgufBytes Part(int part, int tensors = kParts) {
    GgufBytes bytes;
    if (part == 1) bytes.String("general.architecture", "llama");
    bytes.Value("split.no", 2, Bytes(static_cast<uint16_t>(part - 1)));
    bytes.Value("split.count", 2, Bytes(static_cast<uint16_t>(kParts)));
    bytes.Value("split.tensors.count", 5, Bytes(int32_t{tensors}));
    bytes.Tensor("t" + std::to_string(part), 0, {2, 4}, std::string(32, static_cast<char>(part)));
    return bytes;
  }
  void SetUp() override {
    for (int part = 1; part <= kParts; ++part) dir_.Write(NameOf(part), Part(part).Make());
  }
  void ExpectCorrupt(std::initializer_list<std::string_view> parts) {
    EXPECT_STATUS(GgufFile::Open(dir_.File(NameOf(1))), kInvalidArgument, kModelCorrupt, parts);
  }
  TempDir dir_;
};

TEST_F(GgufParts, AnyOneStandsForAll) {
  for (int part = 1; part <= kParts; ++part) {
    auto opened = GgufFile::Open(dir_.File(NameOf(part)));
    ASSERT_OK(opened);
    const GgufFile file = *std::move(opened);  // views stay where they are
    EXPECT_THAT(*file.String("general.architecture"), Optional(std::string("llama")));
    EXPECT_EQ(file.path(), dir_.File(NameOf(1)));
    ASSERT_EQ(file.tensors().size(), 3u);
    for (int other = 1; other <= kParts; ++other) {
      const GgufTensor& tensor = file.tensors().at("t" + std::to_string(other));
      ASSERT_EQ(tensor.bytes.size(), 32u);
      EXPECT_EQ(static_cast<int>(tensor.bytes[31]), other);
    }
  }
  EXPECT_EQ(*GgufPathOf(dir_.path()), dir_.File(NameOf(1)));
  EXPECT_EQ(*GgufPathOf(dir_.File(NameOf(2))), dir_.File(NameOf(2)));
  dir_.Write(NameOf(1, "other"), "");
  EXPECT_STATUS(GgufPathOf(dir_.path()), kInvalidArgument, kModelCorrupt, {"several .gguf files"});
}

TEST_F(GgufParts, WhatDoesNotBelongTogetherIsNamed) {
  std::filesystem::rename(dir_.File(NameOf(3)), dir_.File("kept"));
  ExpectCorrupt({"part " + dir_.File(NameOf(3)) + " is missing"});
  dir_.Write(NameOf(3), Part(2).Make());
  ExpectCorrupt({NameOf(3), "not those of part 3 of 3"});
  dir_.Write(NameOf(3), GgufBytes().Tensor("t3", 0, {2, 4}, kEightFloats).Make());
  ExpectCorrupt({NameOf(3), "split.no"});
  dir_.Write(NameOf(3), Part(3).Tensor("t1", 0, {2, 4}, kEightFloats).Make());
  ExpectCorrupt({NameOf(3), "t1: in another part"});
  dir_.Write(NameOf(3), Part(3).Tensor("t4", 0, {2, 4}, kEightFloats).Make());
  ExpectCorrupt({NameOf(1), "split.tensors.count: 3, and the parts hold 4"});
  dir_.Write(NameOf(3), "GGUF");
  ExpectCorrupt({NameOf(3), "version"});
}

TEST_F(GgufParts, APartUnderAnotherNameCannotFindTheOthers) {
  for (const char* name : {"renamed.gguf", "m-00001-of-00002.gguf", "m-1-of-3.gguf",
                           "m-00004-of-00003.gguf", "m-0001x-of-00003.gguf"}) {
    EXPECT_STATUS(GgufFile::Open(dir_.Write(name, Part(1).Make())), kInvalidArgument, kModelCorrupt,
                  {name, "one of 3 parts", "-00001-of-00003.gguf"});
  }
}

TEST(GgufPathOf, AFileByNameOrTheOnlyOneOfADirectory) {
  TempDir dir;
  EXPECT_EQ(*GgufPathOf(dir.path()), std::nullopt);
  EXPECT_EQ(*GgufPathOf(dir.File("absent")), std::nullopt);
  EXPECT_EQ(*GgufPathOf(dir.File("absent.gguf")), dir.File("absent.gguf"));
  dir.Write("a.gguf", "");
  EXPECT_EQ(*GgufPathOf(dir.path()), dir.File("a.gguf"));
  dir.Write("b.gguf", "");
  EXPECT_STATUS(GgufPathOf(dir.path()), kInvalidArgument, kModelCorrupt, {dir.path(), "several"});
  EXPECT_EQ(*GgufPathOf(dir.File("b.gguf")), dir.File("b.gguf"));
  dir.Write("config.json", "{}");  // a Hugging Face directory that has such files too
  EXPECT_EQ(*GgufPathOf(dir.path()), std::nullopt);
}

}  // namespace
}  // namespace svdllm
