#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "base/files.h"
#include "formats/safetensors.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using testing::FileExists;
using testing::TempDir;

std::span<const std::byte> Bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const std::vector<TensorSpec> kSpecs = {{"b.weight", DType::kF32, {1, 2}},
                                        {"a.weight", DType::kBF16, {3}},
                                        {"empty", DType::kF16, {0, 7}}};

TEST(SafetensorsWriter, WhatIsWrittenInAnyOrderIsRead) {
  TempDir dir;
  const std::string path = dir.File("out.safetensors");
  auto writer = SafetensorsWriter::Create(path, kSpecs);
  ASSERT_OK(writer);
  ASSERT_OK(writer->Write("empty", {}));
  ASSERT_OK(writer->Write("a.weight", Bytes("abcdef")));
  ASSERT_OK(writer->Write("b.weight", Bytes("12345678")));
  ASSERT_OK(writer->Finish());

  auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  EXPECT_THAT(file->Names(), ElementsAre("a.weight", "b.weight", "empty"));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->Get("b.weight")->dtype, DType::kF32);
  EXPECT_THAT(file->Get("b.weight")->shape, ElementsAre(1, 2));
  EXPECT_EQ(Text(file->Get("b.weight")->bytes), "12345678");
  EXPECT_EQ(file->Get("a.weight")->dtype, DType::kBF16);
  EXPECT_EQ(Text(file->Get("a.weight")->bytes), "abcdef");
  EXPECT_EQ(file->Get("empty")->elements(), 0);

  const auto bytes = ReadFile(path);
  ASSERT_OK(bytes);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes->data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(bytes->substr(8 + header_bytes), "12345678abcdef");  // in the order declared
}

TEST(SafetensorsWriter, TypesThatNothingComputesWithAreCopied) {
  TempDir dir;
  const std::string path = dir.File("out.safetensors");
  auto writer =
      SafetensorsWriter::Create(path, {{"i", DType::kF32, {2}, "I64", 16},
                                       {"odd \"type\"", DType::kF32, {3, 3}, "F4\"NEW", 5},
                                       {"f", DType::kF16, {1}}});
  ASSERT_OK(writer);
  EXPECT_STATUS(writer->Write("i", Bytes("1234")), kInvalidArgument, "", {"i", "16 declared"});
  ASSERT_OK(writer->Write("i", Bytes("0123456789abcdef")));
  ASSERT_OK(writer->Write("odd \"type\"", Bytes("vwxyz")));
  ASSERT_OK(writer->Write("f", Bytes("ff")));
  ASSERT_OK(writer->Finish());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_OK(file);
  EXPECT_EQ(file->Raw("i")->type, "I64");
  EXPECT_EQ(Text(file->Raw("i")->bytes), "0123456789abcdef");
  EXPECT_EQ(file->Raw("odd \"type\"")->type, "F4\"NEW");
  EXPECT_EQ(Text(file->Raw("odd \"type\"")->bytes), "vwxyz");
  EXPECT_EQ(Text(file->Get("f")->bytes), "ff");
  EXPECT_STATUS(SafetensorsWriter::Create(path, {{"i", DType::kF32, {2}, "I64", -1}}),
                kInvalidArgument, "", {"impossible size"});
}

TEST(SafetensorsWriter, TheSameInputGivesTheSameBytes) {
  TempDir dir;
  std::string first;
  for (const char* name : {"one", "two"}) {
    auto writer = SafetensorsWriter::Create(dir.File(name), kSpecs);
    ASSERT_OK(writer);
    ASSERT_OK(writer->Write("b.weight", Bytes("12345678")));
    ASSERT_OK(writer->Write("empty", {}));
    ASSERT_OK(writer->Write("a.weight", Bytes("abcdef")));
    ASSERT_OK(writer->Finish());
    const auto bytes = ReadFile(dir.File(name));
    ASSERT_OK(bytes);
    if (first.empty()) first = *bytes;
    EXPECT_EQ(*bytes, first);
  }
}

TEST(SafetensorsWriter, NamesThatJsonMustEscape) {
  TempDir dir;
  const std::string name = "a\"b\\c\nd \xc3\xa9";
  auto writer = SafetensorsWriter::Create(dir.File("out"), {{name, DType::kF16, {1}}});
  ASSERT_OK(writer);
  ASSERT_OK(writer->Write(name, Bytes("ab")));
  ASSERT_OK(writer->Finish());
  auto file = SafetensorsFile::Open(dir.File("out"));
  ASSERT_OK(file);
  EXPECT_TRUE(file->Has(name));
}

TEST(SafetensorsWriter, RefusesWrongWrites) {
  TempDir dir;
  auto writer = SafetensorsWriter::Create(dir.File("out"), kSpecs);
  ASSERT_OK(writer);
  EXPECT_STATUS(writer->Write("c", Bytes("ab")), kInvalidArgument, "", {"out", "c: not declared"});
  EXPECT_STATUS(writer->Write("a.weight", Bytes("ab")), kInvalidArgument, "",
                {"a.weight: 2 bytes given, 6 declared"});
  ASSERT_OK(writer->Write("a.weight", Bytes("abcdef")));
  EXPECT_STATUS(writer->Write("a.weight", Bytes("abcdef")), kFailedPrecondition, "",
                {"a.weight: written before"});
  EXPECT_STATUS(writer->Finish(), kFailedPrecondition, "", {"b.weight: never written"});
  ASSERT_OK(writer->Write("b.weight", Bytes("12345678")));
  ASSERT_OK(writer->Write("empty", {}));
  ASSERT_OK(writer->Finish());
  EXPECT_STATUS(writer->Finish(), kFailedPrecondition, "", {"finished before"});
}

TEST(SafetensorsWriter, TakesATensorInParts) {
  TempDir dir;
  auto writer = SafetensorsWriter::Create(dir.File("out"), kSpecs);
  ASSERT_OK(writer);
  ASSERT_OK(writer->Write("empty", {}));
  ASSERT_OK(writer->Write("a.weight", Bytes("abcdef")));
  ASSERT_OK(writer->WritePart("b.weight", 5, Bytes("678")));
  EXPECT_STATUS(writer->Finish(), kFailedPrecondition, "", {"b.weight: never written"});
  EXPECT_STATUS(writer->WritePart("b.weight", 5, Bytes("6789")), kInvalidArgument, "",
                {"b.weight: 4 bytes from 5 on given, 8 declared"});
  EXPECT_STATUS(writer->WritePart("b.weight", -1, Bytes("1")), kInvalidArgument, "", {"b.weight"});
  EXPECT_STATUS(writer->WritePart("c", 0, Bytes("1")), kInvalidArgument, "", {"c: not declared"});
  EXPECT_STATUS(writer->WritePart("b.weight", 0, Bytes("123456")), kFailedPrecondition, "",
                {"b.weight: written before"});
  ASSERT_OK(writer->WritePart("b.weight", 0, Bytes("12345")));
  EXPECT_STATUS(writer->WritePart("b.weight", 0, Bytes("1")), kFailedPrecondition, "",
                {"b.weight: written before"});
  ASSERT_OK(writer->Finish());
  auto file = SafetensorsFile::Open(dir.File("out"));
  ASSERT_OK(file);
  const auto tensor = file->Get("b.weight");
  ASSERT_OK(tensor);
  EXPECT_EQ(std::memcmp(tensor->bytes.data(), "12345678", 8), 0);
}

TEST(SafetensorsWriter, RefusesImpossibleDeclarations) {
  TempDir dir;
  const std::string path = dir.File("out");
  const int64_t big = int64_t{1} << 40;
  EXPECT_STATUS(SafetensorsWriter::Create(path, {{"neg", DType::kF32, {-1}}}), kInvalidArgument, "",
                {"neg"});
  EXPECT_STATUS(SafetensorsWriter::Create(path, {{"big", DType::kF32, {big, big}}}),
                kInvalidArgument, "", {"big"});
  EXPECT_STATUS(SafetensorsWriter::Create(path, {{"w", DType::kF32, {1}}, {"w", DType::kF32, {1}}}),
                kInvalidArgument, "", {"w: name used twice"});
  EXPECT_STATUS(SafetensorsWriter::Create(path, {{"\xff", DType::kF32, {1}}}), kInvalidArgument, "",
                {"not UTF-8"});
  EXPECT_FALSE(FileExists(path));
}

TEST(SafetensorsWriter, AFileThatIsNotFinishedGoes) {
  TempDir dir;
  {
    auto writer = SafetensorsWriter::Create(dir.File("out"), kSpecs);
    ASSERT_OK(writer);
    std::optional<SafetensorsWriter> moved(*std::move(writer));
    EXPECT_TRUE(FileExists(dir.File("out")));
  }
  EXPECT_FALSE(FileExists(dir.File("out")));
}

TEST(SafetensorsWriter, ADirectoryThatIsNotThereIsNamed) {
  TempDir dir;
  EXPECT_STATUS(SafetensorsWriter::Create(dir.File("absent/out"), kSpecs), kNotFound, "",
                {"absent/out"});
}

TEST(SafetensorsWriter, AFileThatNoDiskHoldsIsRefusedAtOnce) {
  TempDir dir;
  const std::string path = dir.File("out");
  const auto writer =
      SafetensorsWriter::Create(path, {{"huge", DType::kF32, {int64_t{1} << 52}}});  // 16 PiB
  EXPECT_STATUS(writer, kResourceExhausted, kScratchFull, {path});
  EXPECT_FALSE(FileExists(path));
}

}  // namespace
}  // namespace svdllm
