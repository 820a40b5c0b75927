#include "tasks/text.h"

#include <gmock/gmock.h>

#include "tasks/csv.h"
#include "tasks/text_pattern.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;

TEST(Text, SpaceIsPythons) {
  EXPECT_EQ(StripSpace("\t\u00a0\u2003 a b\u3000\x1f\n"), "a b");
  EXPECT_EQ(StripSpaceRight("  a \u2028"), "  a");
  EXPECT_EQ(StripSpace("\u200b a"), "\u200b a");  // a zero-width space is none
  EXPECT_EQ(StripSpace(" \n"), "");
  EXPECT_THAT(SplitAtSpace(" a\u00a0b\t\tc é "), ElementsAre("a", "b", "c", "é"));
  EXPECT_THAT(SplitAtSpace(""), ElementsAre());
  EXPECT_THAT(SplitAt("a;;b;", ';'), ElementsAre("a", "", "b", ""));
}

TEST(Text, ChangesCase) {
  EXPECT_EQ(Capitalize("éCLAIRS And ÖL"), "Éclairs and öl");
  EXPECT_EQ(Capitalize(""), "");
  EXPECT_EQ(LowerCase("ÀB\nC"), "àb\nc");
}

TEST(TextPattern, FindsGroups) {
  const TextPattern pattern("(a)|(b+)");
  const auto matches = pattern.FindAll("xabbé a");
  ASSERT_EQ(matches.size(), 3u);
  EXPECT_THAT(matches[0], ElementsAre("a", "a", ""));
  EXPECT_THAT(matches[1], ElementsAre("bb", "", "bb"));
  EXPECT_EQ(TextPattern("x*?y").Replace("xxyzy", "<$0>"), "<xxy>z<y>");
  EXPECT_EQ(TextPattern("a").Replace(std::string(1000, 'a'), "bcd").size(), 3000u);
}

TEST(Csv, ReadsRfc4180) {
  const auto rows = ParseCsv("a,b\r\n\"x, \"\"y\"\"\",\"two\nlines\"\r\n\r\n,last", "f.csv");
  ASSERT_OK(rows);
  ASSERT_EQ(rows->size(), 3u);
  EXPECT_THAT((*rows)[0].fields, ElementsAre("a", "b"));
  EXPECT_THAT((*rows)[1].fields, ElementsAre("x, \"y\"", "two\nlines"));
  EXPECT_THAT((*rows)[2].fields, ElementsAre("", "last"));
  EXPECT_EQ((*rows)[2].line, 5);
  EXPECT_EQ(ParseCsv("a\nb\nc", "f.csv", 2)->size(), 2u);
  EXPECT_STATUS(ParseCsv("a\n\"b\nc", "f.csv"), kInvalidArgument, kDatasetInvalid,
                {"f.csv: line 2", "not closed"});
  EXPECT_STATUS(ParseCsv("\"a\"b", "f.csv"), kInvalidArgument, kDatasetInvalid, {"line 1"});
  EXPECT_STATUS(ParseCsv("a\nb \"c\"", "f.csv"), kInvalidArgument, kDatasetInvalid, {"line 2"});
}

}  // namespace
}  // namespace svdllm
