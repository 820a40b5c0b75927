#include "text/expand.h"

#include <algorithm>

#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using testing::Gzip;
using testing::Zstd;

// From pieces of so many bytes.
absl::StatusOr<std::string> ExpandAll(Compression compression, std::string_view packed,
                                      size_t piece = 1 << 20) {
  std::string out;
  const auto source = [&](char* data, size_t size) -> absl::StatusOr<size_t> {
    const size_t n = packed.copy(data, std::min(size, piece));
    packed.remove_prefix(n);
    return n;
  };
  const auto sink = [&](std::string_view bytes) -> absl::StatusOr<bool> {
    out += bytes;
    return true;
  };
  RETURN_IF_ERROR(Expand(compression, source, sink));
  return out;
}

std::string SomeText() {
  std::string text;
  for (int i = 0; i < 60000; ++i) text += std::to_string(i * 7919 % 10007) + " sheep\n";
  return text;
}

struct Row {
  Compression compression;
  std::string (*pack)(std::string_view);
};
constexpr Row kRows[] = {{Compression::kGzip, Gzip}, {Compression::kZstd, Zstd}};

TEST(ExpandTest, GivesBackWhatWasPackedWhateverThePieces) {
  const std::string text = SomeText();
  for (const Row& row : kRows) {
    const std::string packed = row.pack(text);
    EXPECT_EQ(CompressionOf(packed), row.compression);
    for (const size_t piece : {1, 7, 4096, 1 << 20}) {
      const auto out = ExpandAll(row.compression, packed, piece);
      ASSERT_OK(out);
      EXPECT_TRUE(*out == text) << CompressionName(row.compression) << " by " << piece;
    }
    EXPECT_EQ(*ExpandAll(row.compression, row.pack("")), "");
    // A long text of one letter: output buffers fill up without more input.
    const std::string same(5 << 20, 'x');
    EXPECT_TRUE(*ExpandAll(row.compression, row.pack(same)) == same);
  }
  EXPECT_EQ(*ExpandAll(Compression::kNone, text), text);
  EXPECT_EQ(CompressionOf(text), Compression::kNone);
}

TEST(ExpandTest, MembersAndFramesAreOneText) {
  for (const Row& row : kRows) {
    const std::string packed = row.pack("one\n") + row.pack("") + row.pack("two\n");
    for (const size_t piece : {1, 1 << 20}) {
      EXPECT_EQ(*ExpandAll(row.compression, packed, piece), "one\ntwo\n");
    }
  }
  EXPECT_EQ(*ExpandAll(Compression::kGzip, Gzip("one") + std::string(512, '\0')), "one")
      << "filled up with zeros";
  const std::string skippable("\x50\x2a\x4d\x18\x02\0\0\0xy", 10);
  EXPECT_EQ(CompressionOf(skippable), Compression::kZstd);
  EXPECT_EQ(*ExpandAll(Compression::kZstd, skippable + Zstd("one")), "one");
}

TEST(ExpandTest, WhatIsCutOrDamagedIsSaid) {
  const std::string text = SomeText();
  for (const Row& row : kRows) {
    const std::string packed = row.pack(text);
    for (const size_t size : {size_t{3}, packed.size() / 2, packed.size() - 1}) {
      EXPECT_STATUS(ExpandAll(row.compression, packed.substr(0, size)), kInvalidArgument, "",
                    {CompressionName(row.compression), "end in the middle"});
    }
    std::string damaged = packed;
    for (size_t i = packed.size() / 2; i < packed.size() / 2 + 64; ++i) damaged[i] = '\x55';
    EXPECT_STATUS(ExpandAll(row.compression, damaged), kInvalidArgument, "", {"damaged"});
    EXPECT_STATUS(ExpandAll(row.compression, packed + "and more"), kInvalidArgument, "",
                  {"damaged"});
  }
}

TEST(ExpandTest, SinksEndItAndErrorsPass) {
  for (const Row& row : kRows) {
    std::string packed = row.pack(std::string(5 << 20, 'x'));
    size_t calls = 0;
    const auto source = [&](char* data, size_t size) -> absl::StatusOr<size_t> {
      const size_t n = packed.copy(data, size);
      packed.erase(0, n);
      return n;
    };
    EXPECT_OK(Expand(row.compression, source, [&](std::string_view) -> absl::StatusOr<bool> {
      ++calls;
      return false;
    }));
    EXPECT_EQ(calls, 1u);
    const auto failing = [](char*, size_t) -> absl::StatusOr<size_t> {
      return absl::DataLossError("disk");
    };
    EXPECT_EQ(Expand(row.compression, failing, [](std::string_view) { return true; }).code(),
              absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace svdllm
