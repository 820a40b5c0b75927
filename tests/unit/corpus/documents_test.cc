#include "corpus/documents.h"

#include <gtest/gtest.h>

#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

class DocumentsTest : public ::testing::Test {
 protected:
  testing::TempDir dir_;
};

TEST_F(DocumentsTest, ReadsTextJsonAndJsonl) {
  using Documents = std::vector<std::string>;
  EXPECT_EQ(*LoadDocuments({dir_.Write("a.txt", "one\n\ntwo")}), Documents{"one\n\ntwo"});
  EXPECT_EQ(*LoadDocuments({dir_.Write("a.json", R"(["one", {"text": "two"}])")}),
            (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(
      *LoadDocuments({dir_.Write("a.jsonl", "\"one\"\n\n{\"body\": \"t\\u00e9\"}\n"), "body"}),
      (std::vector<std::string>{"one", "té"}));
}

TEST_F(DocumentsTest, ErrorsNameFileAndLine) {
  EXPECT_STATUS(LoadDocuments({dir_.Write("b.jsonl", "\"a\"\n{\"text\": 3}\n")}), kInvalidArgument,
                kDatasetInvalid, {"b.jsonl: line 2", "'text'"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("c.jsonl", "\"a\"\n\n{oops\n")}), kInvalidArgument,
                kDatasetInvalid, {"c.jsonl: line 3", "JSON"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("d.json", "{\n}")}), kInvalidArgument, kDatasetInvalid,
                {"d.json", "an array of documents"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("f.jsonl", R"({"body": "t", "id": 3, "title": "u"})")}),
                kInvalidArgument, kDatasetInvalid,
                {"f.jsonl: line 1", "'text'", "of strings it has 'body', 'title'"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("e.json", "[]")}), kInvalidArgument, kDatasetInvalid,
                {"e.json", "no text"});
  EXPECT_STATUS(LoadDocuments({dir_.File("none")}), kNotFound, kDatasetInvalid, {"none"});
}

TEST_F(DocumentsTest, BenchmarksFilesAreReadByLines) {
  TextSource source{dir_.Write("rows.txt", " = Title = \n \n a b \nend")};
  source.rows = TextRows::kWikiTextRows;
  EXPECT_EQ(*LoadDocuments(source),
            (std::vector<std::string>{" = Title = \n", "", " a b \n", "end"}));
  source.rows = TextRows::kStrippedRows;
  EXPECT_EQ(*LoadDocuments(source), (std::vector<std::string>{"= Title =", "", "a b", "end"}));
  source.max_documents = 3;
  EXPECT_EQ(*LoadDocuments(source), (std::vector<std::string>{"= Title =", "", "a b"}));
}

TEST_F(DocumentsTest, TheNamesEndingSaysWhatItIs) {
  using Documents = std::vector<std::string>;
  const std::string lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  for (const char* name : {"a.JSONL", "a.ndjson", "a.jsonlines", "a.json", "a.NdJson"}) {
    EXPECT_EQ(*LoadDocuments({dir_.Write(name, lines)}), (Documents{"one", "two"})) << name;
  }
  EXPECT_EQ(*LoadDocuments({dir_.Write("a.jsonl.gz", testing::Gzip(lines))}),
            (Documents{"one", "two"}));
  EXPECT_EQ(*LoadDocuments({dir_.Write("b.jsonl", "[\"one\"]")}), Documents{"one"});
  for (const char* name : {"a.txt", "a.raw", "a", "a.jsonl.txt"}) {
    EXPECT_STATUS(LoadDocuments({dir_.Write(name, lines)}), kInvalidArgument, kDatasetInvalid,
                  {name, "JSON lines", ".jsonl"});
  }
  EXPECT_STATUS(LoadDocuments({dir_.Write("a.csv", "text,label\na,1\n")}), kInvalidArgument,
                kDatasetInvalid, {"a.csv", "a table", "pandas.read_csv(\"a.csv\")"});
  EXPECT_STATUS(LoadDocuments({dir_.Write("a.TSV.gz", testing::Gzip("text\tlabel\n"))}),
                kInvalidArgument, kDatasetInvalid, {"a table", "pandas.read_table"});
}

TEST_F(DocumentsTest, TheFirstOfALargeTextTellOfTheRest) {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "\"document " + std::to_string(10000 + i) + "\"\n";
  TextSource source{dir_.Write("a.jsonl", lines)};
  constexpr int64_t kMany = 1 << 20;
  auto first = LoadFirstDocuments(source, kMany, kMany);
  ASSERT_OK(first);
  EXPECT_EQ(first->documents.size(), 1000u);
  EXPECT_EQ(first->count, 1000);
  EXPECT_EQ(first->times, 1);
  first = LoadFirstDocuments(source, kMany, 1710);  // 100 lines of 17 bytes, and half a line
  ASSERT_OK(first);
  EXPECT_EQ(first->documents.size(), 100u);
  EXPECT_NEAR(static_cast<double>(first->count), 1000, 10);
  EXPECT_NEAR(first->times, 10, 0.1);
  source.max_documents = 50;
  first = LoadFirstDocuments(source, kMany, 1710);
  EXPECT_EQ(first->count, 50);
  EXPECT_EQ(first->times, 1);
  source = {dir_.Write("a.txt", std::string(5000, 'x'))};
  for (const int64_t kept : {int64_t{1000}, kMany}) {
    first = LoadFirstDocuments(source, kept, kept == kMany ? 1000 : kMany);
    EXPECT_EQ(first->count, 1) << "a file is a document";
    EXPECT_EQ(first->documents.at(0).size(), 1000u);
    EXPECT_EQ(first->times, 5);
  }
  // What is wrong behind the part is not looked at; in front it is.
  source = {dir_.Write("b.jsonl", lines + "oops\n")};
  EXPECT_OK(LoadFirstDocuments(source, 1710, 1710));
  EXPECT_FALSE(LoadFirstDocuments(source, 1710, kMany).ok());
}

TEST_F(DocumentsTest, OfWhatIsReadNoMoreIsKeptThanAskedFor) {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "\"document " + std::to_string(10000 + i) + "\"\n";
  TextSource source{dir_.Write("a.jsonl", lines)};
  constexpr int64_t kMany = 1 << 20;
  auto first = LoadFirstDocuments(source, 1400, kMany);  // 100 documents of 14 bytes
  ASSERT_OK(first);
  EXPECT_EQ(first->documents.size(), 100u);
  EXPECT_EQ(first->count, 1000);
  EXPECT_EQ(first->times, 10);
  first = LoadFirstDocuments(source, 1405, kMany);
  ASSERT_OK(first);
  EXPECT_EQ(first->documents.size(), 101u);
  EXPECT_EQ(first->documents.back(), "docum");
  // Both at once: a tenth is read, and a tenth of that kept.
  first = LoadFirstDocuments(source, 140, 1710);
  ASSERT_OK(first);
  EXPECT_EQ(first->documents.size(), 10u);
  EXPECT_NEAR(first->times, 100, 1);
  EXPECT_NEAR(static_cast<double>(first->count), 1000, 10);
  // A character is not cut in two.
  source = {dir_.Write("e.txt", "é€é")};
  EXPECT_EQ(LoadFirstDocuments(source, 4, kMany)->documents.at(0), "é");
  EXPECT_EQ(LoadFirstDocuments(source, 5, kMany)->documents.at(0), "é€");
  EXPECT_TRUE(LoadFirstDocuments(source, 7, kMany)->whole());
}

}  // namespace
}  // namespace svdllm
