#include "text/foreign.h"

#include <gmock/gmock.h>

namespace svdllm {
namespace {

using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

// As the little-endian or big-endian units of so many bytes.
std::string Wide(std::string_view text, size_t unit, bool big) {
  std::string out;
  for (const char c : text) {
    const std::string zeros(unit - 1, '\0');
    out += big ? zeros + c : c + zeros;
  }
  return out;
}

TEST(ForeignTest, FilesAreNamedForWhatTheyAreWithWhatToDo) {
  const struct {
    std::string bytes, name, advice;
  } cases[] = {
      {"PAR1\x15\x04\x15\x10"s, "a Parquet file",
       R"(pandas.read_parquet("x.bin").to_json("x.jsonl", orient="records", lines=True))"},
      {"ARROW1\0\0\xff\xff\xff\xff"s, "an Arrow (Feather) file", "pandas.read_feather"},
      {"\xff\xff\xff\xff\x10\x01\0\0"s, "an Arrow stream", "pyarrow.ipc.open_stream"},
      {"PK\x03\x04\x14\0"s, "a zip archive", "unzip -p x.bin > x"},
      {"BZh91AY&SY\x12"s, "bzip2", "bzip2 -dc x.bin > x"},
      {"\xfd\x37zXZ\0\0\x04"s, "xz", "xz -dc x.bin > x"},
      {"name"s + std::string(253, '\0') + "ustar\0"s, "a tar archive", "tar -xOf"},
      {"\xff\xfeh\0i\0"s, "UTF-16", "iconv -f UTF-16 -t UTF-8 x.bin > utf8-x.bin"},
      {"\xfe\xff\0h\0i"s, "UTF-16", "iconv"},
      {"\xff\xfe\0\0h\0\0\0"s, "UTF-32", "iconv -f UTF-32 "},
      {Wide("Once upon a time", 2, false), "UTF-16LE", "iconv -f UTF-16LE"},
      {Wide("Once upon a time", 2, true), "UTF-16BE", "iconv -f UTF-16BE"},
      {Wide("Once upon a time", 4, false), "UTF-32LE", "iconv -f UTF-32LE"},
      {Wide("Once upon a time", 4, true), "UTF-32BE", "iconv -f UTF-32BE"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS pointer",
       "git lfs pull"},
      {"/annex/objects/SHA256E-s12--4d7a.txt\n", "git-annex pointer", "git annex get"},
      {" \n<!DOCTYPE HTML>\n<title>404</title>", "an HTML page", "fetch it again"},
      {"<html lang=\"en\">", "an HTML page", "fetch it again"},
      {"%PDF-1.7\n", "a PDF document", "not a text"},
      {"GGUF\x03\0\0\0"s, "GGUF", "not a text"},
      {"\x40\x01\0\0\0\0\0\0{\"__metadata__\":{}"s, "safetensors", "not a text"},
      {"\x80\x04\x95\x10\0"s, "pickle", "not a text"},
      {"SQLite format 3\0\x10"s, "SQLite", "not a text"},
  };
  for (const auto& one : cases) {
    EXPECT_THAT(NameForeign(one.bytes, "/data/x.bin"),
                AllOf(HasSubstr(one.name), HasSubstr(one.advice)));
  }
}

TEST(ForeignTest, TextsThatBeginWithTheSameLettersAreTexts) {
  for (const std::string& text :
       {"PAR1 is a receptor."s, "ORCHIDS grow."s, "GGUF holds models."s, "BZh, she said"s, "FEA1"s,
        "{\"text\": \"PK\"}"s, "Ein Märchen\r\n\tvon früher\f"s, ""s, "\n"s, "a"s,
        "The version https://git-lfs.github.com/spec/v1 of"s, "Once <html> was young"s,
        "\xef\xbb\xbfOnce"s, std::string(257, 'x') + "ustar and more"}) {
    EXPECT_EQ(NameForeign(text, "x.txt"), "") << text;
  }
  // A character that the beginning's end cuts in two is no sign of other bytes.
  std::string cut = "PAR1";
  while (cut.size() < kTellingBytes + 1) cut += "é";
  EXPECT_EQ(NameForeign(cut.substr(0, kTellingBytes), "x.txt"), "");
  EXPECT_EQ(NameForeign(("x" + cut).substr(0, kTellingBytes), "x.txt"), "");
}

TEST(ForeignTest, NamesThatACommandWouldMisreadStayOutOfIt) {
  EXPECT_EQ(
      PandasCommand("read_csv", "/data/my \"own\".csv"),
      R"(import pandas; pandas.read_csv("FILE").to_json("FILE.jsonl", orient="records", lines=True))");
  EXPECT_THAT(NameForeign("PK\x03\x04", "/data/-rf.zip"), HasSubstr("unzip -p FILE > FILE"));
}

TEST(ForeignTest, EndingsThatAreNotReadAreNamed) {
  EXPECT_THAT(NameForeignEnding(".parquet", "a.parquet"), HasSubstr("read_parquet(\"a.parquet\")"));
  EXPECT_THAT(NameForeignEnding(".bz2", "a.txt.bz2"), HasSubstr("bzip2 -dc a.txt.bz2 > a.txt"));
  for (const char* ending : {"", ".txt", ".jsonl", ".csv", ".raw"}) {
    EXPECT_EQ(NameForeignEnding(ending, "a"), "");
  }
}

}  // namespace
}  // namespace svdllm
