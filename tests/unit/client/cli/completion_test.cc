// What shells complete, asked of a real bash.
#include <gmock/gmock.h>

#include <array>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_split.h"
#include "client/cli/command_line.h"
#include "tests/support/command_harness.h"
#include "tests/support/temp_dir.h"

namespace svdllm::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;

class CompletionTest : public CommandTest {
 protected:
  CompletionTest() {
    std::ofstream(temp_.path() + "/svdllm.bash") << Run({"completion", "bash"}).out;
    std::ofstream(temp_.path() + "/first.txt");
    std::ofstream(temp_.path() + "/with blank.txt");
  }
  // What bash offers behind this much of a line. breaks: what divides words, beside blanks.
  std::vector<std::string> Offered(const std::string& line, const std::string& breaks = "=:") {
    const std::string script =
        "source '" + temp_.path() + "/svdllm.bash'; cd '" + temp_.path() + "'; COMP_WORDBREAKS=' " +
        breaks + "'; COMP_LINE='" + line +
        "'; COMP_POINT=${#COMP_LINE}; _svdllm; printf '%s\\n' \"${COMPREPLY[@]}\"";
    std::ofstream(temp_.path() + "/ask.bash") << script;
    FILE* const bash = popen(("bash '" + temp_.path() + "/ask.bash' 2>&1").c_str(), "r");
    std::string text;
    std::array<char, 4096> part{};
    for (size_t n = 0; (n = fread(part.data(), 1, part.size(), bash)) > 0;)
      text.append(part.data(), n);
    EXPECT_EQ(pclose(bash), 0) << text;
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }
  testing::TempDir temp_;
};

TEST_F(CompletionTest, BashCompletesCommands) {
  EXPECT_THAT(Offered("svdllm "), IsSupersetOf({"compress", "evaluate", "jobs", "help"}));
  EXPECT_THAT(Offered("svdllm j"), ElementsAre("jobs"));
  EXPECT_THAT(Offered("svdllm jobs w"), UnorderedElementsAre("watch", "wait"));
  EXPECT_THAT(Offered("svdllm help comp"), UnorderedElementsAre("compress", "completion"));
  EXPECT_THAT(Offered("svdllm completion z"), ElementsAre("zsh"));
  EXPECT_THAT(Offered("svdllm nonsense "), ElementsAre());
}

TEST_F(CompletionTest, BashCompletesFlagsAndTheirValues) {
  EXPECT_THAT(Offered("svdllm compress --meth"), ElementsAre("--method="));
  EXPECT_THAT(Offered("svdllm compress --model=/m --valid"), ElementsAre("--validate_only"));
  EXPECT_THAT(Offered("svdllm compress --method=svd_"), ElementsAre("svd_llm", "svd_llm_update"));
  EXPECT_THAT(Offered("svdllm compress --method svd_"), ElementsAre("svd_llm", "svd_llm_update"));
  EXPECT_THAT(Offered("svdllm jobs list --format="), ElementsAre("text", "json"));
  EXPECT_THAT(Offered("svdllm compress --method=svd_l", ""),
              ElementsAre("--method=svd_llm", "--method=svd_llm_update"));
}

TEST_F(CompletionTest, BashCompletesFiles) {
  EXPECT_THAT(Offered("svdllm compress --calibration=fi"), ElementsAre("first.txt"));
  EXPECT_THAT(Offered("svdllm compress --calibration=3:fi"), ElementsAre("first.txt"));
  EXPECT_THAT(Offered("svdllm evaluate --dataset=wiki=wi"), ElementsAre("with blank.txt"));
  EXPECT_THAT(Offered("svdllm evaluate --dataset=wiki=fi", ""),
              ElementsAre("--dataset=wiki=first.txt"));
}

// Of every command every flag.
TEST_F(CompletionTest, NothingIsLeftOut) {
  const std::vector<CommandSpec> commands = AllCommands();
  const std::string zsh = Run({"completion", "zsh"}).out;
  for (const DescribedCommand& command : DescribeCommands(commands)) {
    const std::vector<std::string> offered = Offered("svdllm " + command.name + " --");
    EXPECT_THAT(zsh, HasSubstr("('" + command.name + "')"));
    EXPECT_GT(command.flags.size(), 3u) << command.name;
    for (const DescribedFlag& flag : command.flags) {
      EXPECT_THAT(offered, Contains("--" + flag.name + (flag.value.empty() ? "" : "=")));
      EXPECT_THAT(zsh, HasSubstr("'*--" + flag.name + (flag.value.empty() ? "[" : "=[")));
    }
  }
}

TEST_F(CompletionTest, OtherShellsAreRefused) {
  const Ran ran = Run({"completion", "fish"});
  EXPECT_EQ(ran.exit_status, kExitUsage);
  EXPECT_THAT(ran.err, HasSubstr("not for fish"));
}

}  // namespace
}  // namespace svdllm::cli
