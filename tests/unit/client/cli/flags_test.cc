#include "client/cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/suggest.h"

namespace svdllm::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

FlagTable Table() {
  return {{"All",
           {{"on", FlagType::kSwitch, "", "", "A switch."},
            {"text", FlagType::kText, "TEXT", "none", "A text."},
            {"count", FlagType::kInteger, "N", "7", "A count."},
            {"size", FlagType::kPositive, "N", "", "A size."},
            {"ratio", FlagType::kReals, "R", "", "Ratios.", true},
            {"sizes", FlagType::kSizes, "N[,N...]", "", "Sizes."},
            {"share", FlagType::kReal, "S", "0.5", "A share."},
            {"wait", FlagType::kDuration, "DURATION", "10s", "A time."},
            {"kind", FlagType::kChoice, "FIRST|SECOND", "FIRST", "A kind."},
            {"label", FlagType::kLabel, "K=V", "", "Labels.", true}}}};
}

absl::StatusOr<Flags> Parse(const std::vector<std::string>& arguments) {
  return Flags::Parse(Table(), arguments);
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  const absl::StatusOr<Flags> flags = Parse(arguments);
  return flags.ok() ? "" : std::string(flags.status().message());
}

TEST(FlagsTest, DefaultsHoldWhereNothingIsGiven) {
  const absl::StatusOr<Flags> flags = Parse({});
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ(flags->Text("text"), "none");
  EXPECT_EQ(flags->Integer("count"), 7);
  EXPECT_EQ(flags->Seconds("wait"), 10);
  EXPECT_EQ(flags->Real("share"), 0.5);
  EXPECT_FALSE(flags->On("on"));
  EXPECT_FALSE(flags->Has("text"));
  EXPECT_TRUE(flags->Reals("ratio").empty());
}

TEST(FlagsTest, BothFormsAreRead) {
  const absl::StatusOr<Flags> flags =
      Parse({"--text=a=b", "--count", "12", "one", "--on", "--ratio=0.8,0.6", "--ratio", "0.5",
             "--wait=1h30m", "--kind=second", "--label=a=1", "--label", "b=x=y", "--", "--two"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->Text("text"), "a=b");
  EXPECT_EQ(flags->Integer("count"), 12);
  EXPECT_TRUE(flags->On("on"));
  EXPECT_THAT(flags->Reals("ratio"), ElementsAre(0.8, 0.6, 0.5));
  EXPECT_EQ(flags->Seconds("wait"), 5400);
  EXPECT_EQ(flags->Text("kind"), "SECOND");
  EXPECT_EQ(flags->Labels("label"), (std::map<std::string, std::string>{{"a", "1"}, {"b", "x=y"}}));
  EXPECT_THAT(flags->arguments(), ElementsAre("one", "--two"));
}

TEST(FlagsTest, SwitchesTakeNoSeparateValue) {
  const absl::StatusOr<Flags> flags = Parse({"--on", "false"});
  ASSERT_TRUE(flags.ok());
  EXPECT_TRUE(flags->On("on"));
  EXPECT_THAT(flags->arguments(), ElementsAre("false"));
  EXPECT_FALSE(Parse({"--on=false"})->On("on"));
}

TEST(FlagsTest, SizesMayBeLeftOut) {
  const absl::StatusOr<Flags> alone = Parse({"--sizes", "8"});
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_TRUE(alone->Has("sizes"));
  EXPECT_TRUE(alone->Sizes("sizes").empty());
  EXPECT_THAT(alone->arguments(), ElementsAre("8"));
  EXPECT_THAT(Parse({"--sizes=1,16"})->Sizes("sizes"), ElementsAre(1, 16));
  EXPECT_FALSE(Parse({})->Has("sizes"));
  for (const char* wrong : {"--sizes=", "--sizes=0", "--sizes=1,", "--sizes=1,x", "--sizes=-1"}) {
    EXPECT_THAT(ErrorOf({wrong}), HasSubstr("which is not an integer of at least 1")) << wrong;
  }
  EXPECT_THAT(FlagHelp(Table()), HasSubstr("  --sizes[=N[,N...]]\n"));
}

TEST(FlagsTest, ErrorsNameTheFlag) {
  EXPECT_EQ(ErrorOf({"--txt=a"}), "unknown flag --txt, did you mean --text?");
  EXPECT_EQ(ErrorOf({"--nothing_like_it"}), "unknown flag --nothing_like_it");
  EXPECT_EQ(ErrorOf({"-text=a"}), "unknown flag -text, did you mean --text?");
  EXPECT_EQ(ErrorOf({"--text"}), "--text needs a value: TEXT");
  EXPECT_EQ(ErrorOf({"--text", "--on"}), "--text needs a value: TEXT");
  EXPECT_EQ(ErrorOf({"--text="}), "--text= is empty");
  EXPECT_EQ(ErrorOf({"--text=a", "--text=b"}), "--text is given twice");
  EXPECT_THAT(ErrorOf({"--count=-1"}), HasSubstr("--count=-1 is not an integer"));
  EXPECT_THAT(ErrorOf({"--count=1.5"}), HasSubstr("--count=1.5"));
  EXPECT_THAT(ErrorOf({"--count=99999999999999999999"}), HasSubstr("--count=99"));
  EXPECT_THAT(ErrorOf({"--size=0"}), HasSubstr("at least 1"));
  EXPECT_THAT(ErrorOf({"--ratio=0.8,,0.6"}), HasSubstr("--ratio=0.8,,0.6 has ''"));
  EXPECT_THAT(ErrorOf({"--ratio=x"}), HasSubstr("'x'"));
  EXPECT_THAT(ErrorOf({"--wait=10"}), HasSubstr("90s"));
  EXPECT_EQ(ErrorOf({"--kind=secnd"}),
            "--kind=secnd is not one of FIRST|SECOND, did you mean SECOND?");
  EXPECT_THAT(ErrorOf({"--label=x"}), HasSubstr("key=value"));
  EXPECT_THAT(ErrorOf({"--label==x"}), HasSubstr("key=value"));
  EXPECT_THAT(ErrorOf({"--on=maybe"}), HasSubstr("--on=maybe"));
}

TEST(FlagsTest, HelpExplainsEachFlagWithItsDefault) {
  const std::string help = FlagHelp(Table());
  EXPECT_THAT(help, HasSubstr("  --count=N\n      A count. Default: 7.\n"));
  EXPECT_THAT(help, HasSubstr("  --on\n      A switch.\n"));
  EXPECT_THAT(help, HasSubstr("--label=K=V (may be repeated)"));
}

TEST(FlagsTest, WrapKeepsLinesShortAndWordsWhole) {
  EXPECT_EQ(Wrap("one two  three", "  ", 9), "  one two\n  three\n");
  EXPECT_EQ(Wrap("muchtoolong x", "  ", 5), "  muchtoolong\n  x\n");
}

TEST(SuggestTest, OnlyWhatIsCloseIsSuggested) {
  const std::vector<std::string> names = {"keep_ratio", "method", "model"};
  EXPECT_EQ(Closest("keep_ratios", names), "keep_ratio");
  EXPECT_EQ(Closest("modle", names), "model");
  EXPECT_EQ(Closest("METHOD", names), "method");
  EXPECT_EQ(Closest("keep", names), "keep_ratio");
  EXPECT_EQ(Closest("zzz", names), "");
  EXPECT_EQ(Closest("", names), "");
}

}  // namespace
}  // namespace svdllm::cli
