// How arguments are parsed, on a command of the test's own.
#include "client/cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace svdllm::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What the flags of "do it" have set. The commands are functions without state, hence a global.
struct Values {
  bool on = false;
  bool off = false;
  std::string text = "none";
  int64_t count = 7;
  std::vector<double> ratios;
  bool has_sizes = false;
  std::vector<int32_t> sizes;
  std::vector<std::string> labels;
  std::string argument;
};
Values values;

CommandAction Define(FlagSet& flags) {
  values = {};
  flags.Group("All");
  flags.Switch("on", &values.on, "A switch.");
  flags.Switch("off", &values.off, "Another.");
  flags.Exclude("on", "off");
  flags.Add({"text", "TEXT", "A text. Default: none."}, TextValue(&values.text));
  flags.Add({"count_of", "N", "A count. Default: 7."},
            IntegerValue(0, [](int64_t count) { values.count = count; }));
  flags.AddRepeated({"ratio", "R[,R...]", "Ratios."},
                    RealList([](double ratio) { values.ratios.push_back(ratio); }));
  flags.AddOptional({"sizes", "N[,N...]", "Sizes."}, [](const std::string& text) {
    values.has_sizes = true;
    return SizeList([](int32_t size) { values.sizes.push_back(size); })(text);
  });
  flags.AddRepeated({"label", "K=V", "Labels."}, TextValue(&values.labels));
  flags.Need("label", "text");
  flags.Group("Earlier");
  flags.Alias("words", "text");
  flags.Argument("NAME", &values.argument);
  return [](CommandContext&) { return kExitOk; };
}

CommandAction DefineOther(FlagSet&) {
  return [](CommandContext&) { return kExitOk; };
}

CommandLine Parse(std::vector<std::string> arguments) {
  return ParseCommandLine({{"do it", "NAME", "Does it.", "Does it, at once.", &Define},
                           {"do that", "", "Does that.", "Does that.", &DefineOther},
                           {"rest", "", "Rests.", "Rests.", &DefineOther}},
                          arguments);
}

// Of "do it NAME" with more arguments.
CommandLine Do(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"do", "it", "name"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Parse(arguments);
}

TEST(CommandLineTest, DefaultsHoldWhereNothingIsGiven) {
  const CommandLine line = Do({});
  EXPECT_TRUE(line.run != nullptr) << line.error;
  EXPECT_EQ(line.command, "do it");
  EXPECT_EQ(line.server, "");
  EXPECT_FALSE(line.json);
  EXPECT_EQ(line.rpc_timeout_seconds, 10);
  EXPECT_EQ(values.argument, "name");
  EXPECT_EQ(values.text, "none");
  EXPECT_EQ(values.count, 7);
  EXPECT_FALSE(values.on);
  EXPECT_FALSE(values.has_sizes);
}

TEST(CommandLineTest, BothFormsAreReadOnEitherSideOfTheArgument) {
  const CommandLine line =
      Parse({"do", "it", "--text=a=b", "--count_of", "12", "one", "--on", "--ratio=0.8,0.6",
             "--ratio", "0.5", "--label=a=1", "--label", "b=-x=y", "--format", "json",
             "--rpc_timeout=1m", "--server=host:1"});
  ASSERT_TRUE(line.run != nullptr) << line.error;
  EXPECT_EQ(values.text, "a=b");
  EXPECT_EQ(values.count, 12);
  EXPECT_TRUE(values.on);
  EXPECT_THAT(values.ratios, ElementsAre(0.8, 0.6, 0.5));
  EXPECT_THAT(values.labels, ElementsAre("a=1", "b=-x=y"));
  EXPECT_EQ(values.argument, "one");
  EXPECT_TRUE(line.json);
  EXPECT_EQ(line.rpc_timeout_seconds, 60);
  EXPECT_EQ(line.server, "host:1");
}

TEST(CommandLineTest, HyphensAreUnderscoresInNamesOnly) {
  ASSERT_TRUE(Do({"--count-of=3", "--text=a-b"}).run != nullptr);
  EXPECT_EQ(values.count, 3);
  EXPECT_EQ(values.text, "a-b");
}

TEST(CommandLineTest, TwoHyphensEndTheFlags) {
  ASSERT_TRUE(Parse({"do", "it", "--on", "--", "--two-words="}).run != nullptr);
  EXPECT_EQ(values.argument, "--two-words=");
}

TEST(CommandLineTest, SwitchesTakeNoSeparateValue) {
  ASSERT_TRUE(Do({"--on=false"}).run != nullptr);
  EXPECT_FALSE(values.on);
  EXPECT_THAT(Do({"--on", "false"}).error, HasSubstr("unexpected argument"));
  EXPECT_THAT(Do({"--on=maybe"}).error, HasSubstr("--on"));
}

TEST(CommandLineTest, AnOptionalValueMayBeLeftOut) {
  ASSERT_TRUE(Do({"--sizes", "--on"}).run != nullptr);
  EXPECT_TRUE(values.has_sizes);
  EXPECT_THAT(values.sizes, IsEmpty());
  ASSERT_TRUE(Do({"--sizes=1,16"}).run != nullptr);
  EXPECT_THAT(values.sizes, ElementsAre(1, 16));
  ASSERT_TRUE(Do({"--sizes", "8"}).run != nullptr);
  EXPECT_THAT(values.sizes, ElementsAre(8));
  EXPECT_EQ(Do({"--sizes="}).error, "--sizes= is empty");
  EXPECT_THAT(Do({"--sizes=0"}).error, HasSubstr("--sizes=0 has '0', which is not an integer"));
}

TEST(CommandLineTest, AnotherSpellingIsTheSameFlag) {
  ASSERT_TRUE(Do({"--words=a", "--label=b"}).run == nullptr) << "needs --text itself";
  ASSERT_TRUE(Do({"--words=a"}).run != nullptr);
  EXPECT_EQ(values.text, "a");
  EXPECT_EQ(Do({"--words="}).error, "--words= is empty") << "errors say it as it was written";
  EXPECT_THAT(Do({"--words=a", "--text=b"}).error, HasSubstr("excludes"));
}

TEST(CommandLineTest, ErrorsNameTheOffender) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--txt=a"}, "unknown flag --txt, did you mean --text?"},
      {{"--nothing_like_it"}, "unknown flag --nothing_like_it"},
      {{"-text=a"}, "unknown flag -text, did you mean --text?"},
      {{"--text", "--on"}, "--text needs a value, TEXT, and not --on"},
      {{"--text="}, "--text= is empty"},
      {{"--text=", "--on"}, "--text= is empty"},
      {{"--text", ""}, "--text= is empty"},
      {{"--text=a", "--text=b"}, "--text is given twice"},
      {{"--count_of=-1"}, "--count_of=-1 is not an integer of at least 0"},
      {{"--count_of", "-1"}, "--count_of=-1 is not an integer of at least 0"},
      {{"--ratio=0.8,,0.6"}, "--ratio=0.8,,0.6 has '', which is not a number"},
      {{"--on", "--off"}, "--on excludes --off"},
      {{"--label=a"}, "--label requires --text"},
      {{"more"}, "unexpected argument 'more'"},
      {{"--", "more"}, "unexpected argument 'more'"},
  };
  for (const auto& [more, error] : cases) {
    const CommandLine line = Do(more);
    EXPECT_EQ(line.error, error);
    EXPECT_EQ(line.command, "do it");
    EXPECT_FALSE(line.run);
  }
  EXPECT_THAT(Do({"--text"}).error, HasSubstr("--text"));
  EXPECT_EQ(Parse({"do", "it"}).error, "NAME is required");
  EXPECT_EQ(Parse({"do", "it", "--txt=a"}).error, "unknown flag --txt, did you mean --text?")
      << "before what is missing because of it";
}

TEST(CommandLineTest, CommandsAreSuggestedToo) {
  EXPECT_EQ(Parse({"do", "itt"}).error, "unknown command 'do itt', did you mean do it?");
  EXPECT_EQ(Parse({"rst", "--on"}).error, "unknown command 'rst', did you mean rest?");
  EXPECT_EQ(Parse({"rst", "--help"}).error, "unknown command 'rst', did you mean rest?");
  EXPECT_EQ(Parse({"help", "rst"}).error, "unknown command 'rst', did you mean rest?");
  EXPECT_EQ(Parse({"do", "it", "rest"}).error, "") << "a name, though it is a command's";
}

TEST(CommandLineTest, HelpGroupsFlagsAndSaysHowTheyAreGiven) {
  const std::string text = Parse({"do", "it", "--help"}).text;
  EXPECT_THAT(text, HasSubstr("Usage: svdllm do it NAME [flags]\n\nDoes it, at once.\n\nAll:\n"));
  EXPECT_THAT(text, HasSubstr("  --on\n      A switch.\n"));
  EXPECT_THAT(text, HasSubstr("  --count_of=N\n      A count. Default: 7.\n"));
  EXPECT_THAT(text, HasSubstr("  --ratio=R[,R...] (may be repeated)\n"));
  EXPECT_THAT(text, HasSubstr("  --sizes[=N[,N...]]\n"));
  EXPECT_THAT(text, HasSubstr("\nEarlier:\n  --words=TEXT\n      The same as --text.\n"));
  EXPECT_THAT(text, HasSubstr("\nFlags of every command:\n  --server=ADDR\n"));
  EXPECT_THAT(text, HasSubstr("Exit status: 0 "));
  EXPECT_EQ(Parse({"help", "do", "it"}).text, text);
  EXPECT_EQ(Parse({"do", "it", "-h"}).text, text);
}

TEST(CommandLineTest, OverviewsListTheCommandsOfTheirGroup) {
  const CommandLine nothing = Parse({});
  EXPECT_TRUE(nothing.text_is_error);
  EXPECT_THAT(nothing.text, HasSubstr("  rest"));
  const CommandLine group = Parse({"do", "--help"});
  EXPECT_FALSE(group.text_is_error);
  EXPECT_THAT(group.text, HasSubstr("  do that"));
  EXPECT_THAT(group.text, testing::Not(HasSubstr("  rest")));
  EXPECT_TRUE(Parse({"do"}).text_is_error);
}

}  // namespace
}  // namespace svdllm::cli
