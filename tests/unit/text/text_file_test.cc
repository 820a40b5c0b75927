#include "text/text_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <random>

#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using namespace std::string_literals;
using testing::Gzip;
using testing::Zstd;

class TextFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<TextFile> Read(const std::string& name, std::string_view content,
                                const TextLimits& limits = {}) {
    return ReadTextFile(dir_.Write(name, content), limits);
  }
  void Refuses(const std::string& name, std::string_view content,
               std::initializer_list<std::string_view> parts) {
    EXPECT_STATUS(Read(name, content), kInvalidArgument, kDatasetInvalid, parts) << name;
  }
  testing::TempDir dir_;
};

TEST_F(TextFileTest, CompressedOrNotItIsTheSameText) {
  const std::string text = "One day.\nÉtait-ce un chat?\n";
  const struct {
    const char* name;
    std::string bytes;
    const char* ending;
  } cases[] = {
      {"a.txt", text, ".txt"},
      {"A.JSONL", text, ".jsonl"},
      {"a.ndjson", text, ".ndjson"},
      {"none", text, ""},
      {".hidden", text, ""},
      {"a.b/c", text, ""},
      {"a.jsonl.gz", Gzip(text), ".jsonl"},
      {"a.TXT.GZ", Gzip(text), ".txt"},
      {"a.json.zst", Zstd(text), ".json"},
      {"a.zstd", Zstd(text), ""},
      {"parts.txt.gz", Gzip(text.substr(0, 5)) + Gzip(text.substr(5)), ".txt"},
      {"mark.txt", "\xef\xbb\xbf" + text, ".txt"},
      {"mark.txt.gz", Gzip("\xef\xbb\xbf" + text), ".txt"},
  };
  for (const auto& one : cases) {
    const auto file = Read(one.name, one.bytes);
    ASSERT_OK(file);
    EXPECT_EQ(file->text, text) << one.name;
    EXPECT_EQ(file->ending, one.ending);
    EXPECT_TRUE(file->whole);
  }
  EXPECT_EQ(Read("empty.txt", "")->text, "");
  EXPECT_EQ(Read("empty.txt.gz", Gzip(""))->text, "");
}

TEST_F(TextFileTest, NamesAreTakenApart) {
  const auto parts = [](const char* path) {
    const TextName name = TextNameOf(path);
    return name.stem + "|" + name.ending + "|" + std::string(CompressionName(name.compression));
  };
  EXPECT_EQ(parts("a.b/A.test.JSONL.gz"), "A.test|.jsonl|gzip");
  EXPECT_EQ(parts("/x/a.TXT"), "a|.txt|");
  EXPECT_EQ(parts("a.zst"), "a||Zstandard");
  EXPECT_EQ(parts("a"), "a||");
  EXPECT_EQ(parts(".gz"), ".gz||");
}

TEST_F(TextFileTest, NamesAndContentsHaveToAgree) {
  Refuses("a.jsonl", Gzip("text"), {"a.jsonl", "gzip", "its name does not say", ".gz"});
  Refuses("a.txt", Zstd("text"), {"Zstandard", ".zst"});
  Refuses("a.txt.gz", "text", {"not compressed with gzip"});
  Refuses("a.txt.zst", Gzip("text"), {"gzip", "its name does not say"});
  Refuses("twice.txt.gz", Gzip(Gzip("text")), {"compressed twice"});
  Refuses("a.txt.bz2", "text", {"bzip2 -dc a.txt.bz2"});
  Refuses("a.parquet", "PAR1\x15\x04", {"Parquet", "read_parquet(\"a.parquet\")"});
  Refuses("table.txt.gz", Gzip("PAR1\x15\x04"s), {"Parquet"});
  Refuses("all.tar.gz", Gzip("name"s + std::string(253, '\0') + "ustar\0"s), {"a tar archive"});
  Refuses("wide.txt", "\xff\xfeh\0i\0"s, {"UTF-16", "iconv"});
  Refuses("half.jsonl.gz", Gzip(std::string(9999, 'x')).substr(0, 30), {"end in the middle"});
}

TEST_F(TextFileTest, WhatIsNoTextIsPlaced) {
  Refuses("a.txt", "one\nété caf\xe9 noir\n",
          {"a.txt: line 2, column 8 (byte 13)", "0xE9", "UTF-8"});
  Refuses("b.txt", "one\n\xed\xa0\x80", {"line 2, column 1", "0xED"});
  Refuses("c.txt", "cut \xc3", {"line 1, column 5", "0xC3"});
  Refuses("d.txt", "one\ntwo\0three\n"s, {"line 2, column 4", "NUL"});
  Refuses("e.txt.gz", Gzip("one\ncaf\xe9\n"), {"e.txt.gz: line 2", "0xE9"});
}

TEST_F(TextFileTest, OnlyFilesAreRead) {
  EXPECT_STATUS(ReadTextFile(dir_.File("none.txt")), kNotFound, kDatasetInvalid, {"none.txt"});
  EXPECT_STATUS(ReadTextFile(dir_.path()), kInvalidArgument, kDatasetInvalid, {"a directory"});
  const std::string pipe = dir_.File("pipe.txt");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_STATUS(ReadTextFile(pipe), kInvalidArgument, kDatasetInvalid, {"pipe.txt", "pipe"});
  EXPECT_STATUS(ReadTextFile("/dev/zero"), kInvalidArgument, kDatasetInvalid, {"a device"});
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  dir_.File("s").copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_STATUS(ReadTextFile(dir_.File("s")), kInvalidArgument, kDatasetInvalid, {"a socket"});
  close(fd);
  ASSERT_EQ(symlink(dir_.Write("a.txt", "x").c_str(), dir_.File("link.txt").c_str()), 0);
  EXPECT_EQ(ReadTextFile(dir_.File("link.txt"))->text, "x");
}

TEST_F(TextFileTest, SizesAreBounded) {
  const TextLimits limits{100};
  EXPECT_OK(Read("a.txt", std::string(100, 'x'), limits));
  EXPECT_STATUS(Read("b.txt", std::string(101, 'x'), limits), kInvalidArgument, kDatasetInvalid,
                {"b.txt", "more than the", "accepted"});
  EXPECT_STATUS(Read("c.txt.gz", Gzip(std::string(101, 'x')), limits), kInvalidArgument,
                kDatasetInvalid, {"c.txt.gz", "more than the"});
  // 80 MB of one letter, in some kilobytes.
  const std::string bomb(80 << 20, 'x');
  Refuses("d.txt.zst", Zstd(bomb), {"d.txt.zst", "200 times its size"});
  EXPECT_OK(Read("e.txt.gz", Gzip(bomb.substr(0, 60 << 20))));
}

TEST_F(TextFileTest, ThePartThatIsReadTellsOfTheWhole) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < 3000000) text += std::to_string(random() % 10007) + " é\n";
  for (const auto& [name, bytes] :
       {std::pair("a.txt"s, text), {"a.txt.gz", Gzip(text)}, {"a.txt.zst", Zstd(text)}}) {
    const auto file = Read(name, bytes, {kMaxTextBytes, 1000000});
    ASSERT_OK(file);
    EXPECT_FALSE(file->whole);
    EXPECT_GE(file->text.size(), 999999u);
    EXPECT_TRUE(text.starts_with(file->text)) << name;
    EXPECT_NEAR(file->bytes, 3e6, 0.5e6) << name;
  }
  // Behind the part nothing is looked at, and a character is not cut.
  const auto cut = Read("b.txt", "ab\xc3\xa9 \xff", {kMaxTextBytes, 3});
  ASSERT_OK(cut);
  EXPECT_EQ(cut->text, "ab");
  EXPECT_EQ(Read("b.txt", "ab\xc3\xa9 \xff", {kMaxTextBytes, 4})->text, "ab\xc3\xa9");
  const auto all = Read("c.txt", "abc", {kMaxTextBytes, 3});
  EXPECT_TRUE(all->whole);
  EXPECT_EQ(all->bytes, 3);
}

}  // namespace
}  // namespace svdllm
