// What help says of the flags, and that compress and evaluate speak one language.
#include <gmock/gmock.h>

#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "tests/support/command_harness.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::StartsWith;

struct HelpedFlag {
  std::string group;
  std::string value;  // what stands behind the name: "=N (may be repeated)"
  std::string help;
};

// The flags that a command's help explains, by name.
std::map<std::string, HelpedFlag> FlagsIn(const std::string& help) {
  std::map<std::string, HelpedFlag> flags;
  std::string group, name;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    if (absl::StartsWith(line, "  --")) {
      const size_t end = std::min(line.find_first_of("[= ", 4), line.size());
      name = line.substr(4, end - 4);
      flags[name] = {group, line.substr(end), ""};
    } else if (absl::StartsWith(line, "      ") && !name.empty()) {
      flags[name].help += line.substr(6) + " ";
    } else if (!line.empty() && line[0] != ' ' && line.back() == ':') {
      group = line.substr(0, line.size() - 1);
      name.clear();
    }
  }
  return flags;
}

class HelpTest : public CommandTest {
 protected:
  std::string HelpOf(const std::string& command) {
    std::vector<std::string> words = absl::StrSplit(command, ' ');
    words.push_back("--help");
    const Ran ran = RunRaw(words);
    EXPECT_EQ(ran.exit_status, kExitOk);
    words.pop_back();
    words.insert(words.begin(), "help");
    EXPECT_EQ(RunRaw(words).out, ran.out);
    return ran.out;
  }
};

TEST_F(HelpTest, EveryCommandSaysHowItIsUsedAndHowItEnds) {
  for (const CommandSpec& command : AllCommands()) {
    const std::string help = HelpOf(command.name);
    EXPECT_THAT(help, StartsWith("Usage: svdllm " + command.name + " "));
    for (const char* status :
         {"Exit status: 0 ", "; 1 ", "; 2 ", "; 3 ", "; 4 ", "; 5 ", "; 6 ", "; 130 "}) {
      std::string line = help;
      std::replace(line.begin(), line.end(), '\n', ' ');
      EXPECT_THAT(line, HasSubstr(status));
    }
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
  EXPECT_EQ(script().calls, 0) << "help asks no server";
}

TEST_F(HelpTest, EveryFlagSaysWhatHoldsWithoutIt) {
  for (const CommandSpec& command : AllCommands()) {
    const std::map<std::string, HelpedFlag> flags = FlagsIn(HelpOf(command.name));
    std::vector<std::string> names;
    for (const auto& [name, flag] : flags) {
      names.push_back(name);
      EXPECT_FALSE(flag.help.empty()) << name;
      const bool is_switch = flag.value.empty();
      const bool is_required = absl::StrContains(flag.value, "(required)");
      const bool is_other_spelling = absl::StartsWith(flag.help, "The same as --");
      EXPECT_TRUE(is_switch || is_required || is_other_spelling ||
                  absl::StrContains(flag.help, "Default"))
          << command.name << " --" << name << " does not say what it is by default";
    }
    EXPECT_THAT(names, IsSupersetOf({"server", "format", "rpc_timeout"}));
    EXPECT_THAT(HelpOf(command.name), HasSubstr("-h,--help\n"));
  }
}

TEST_F(HelpTest, CompressAndEvaluateShareTheirWords) {
  const auto compress = FlagsIn(HelpOf("compress"));
  const auto evaluate = FlagsIn(HelpOf("evaluate"));
  std::vector<std::string> shared;
  for (const auto& [name, flag] : compress) {
    const auto other = evaluate.find(name);
    // What an earlier spelling stands for is the command's own.
    if (other == evaluate.end() || flag.group == "Earlier spellings") continue;
    shared.push_back(name);
    EXPECT_EQ(flag.value, other->second.value) << name;
    EXPECT_EQ(flag.help, other->second.help) << name;
  }
  EXPECT_THAT(shared, IsSupersetOf({"model",
                                    "tasks",
                                    "dataset",
                                    "answers",
                                    "fewshot",
                                    "seq_len",
                                    "limit",
                                    "dataset_packing",
                                    "text_field",
                                    "throughput",
                                    "prompt_tokens",
                                    "new_tokens",
                                    "repetitions",
                                    "max_accuracy_drop",
                                    "max_perplexity_increase",
                                    "output",
                                    "validate_only",
                                    "watch",
                                    "detach",
                                    "request_id",
                                    "label",
                                    "timeout",
                                    "artifact_ttl"}));
  std::vector<std::string> own;  // of evaluate
  for (const auto& [name, flag] : evaluate) {
    if (compress.count(name) == 0) own.push_back(name);
  }
  EXPECT_THAT(own, testing::ElementsAre("baseline"));
}

TEST_F(HelpTest, EnumsAreListedAsTheApiHasThem) {
  const auto flags = FlagsIn(HelpOf("compress"));
  EXPECT_EQ(flags.at("method").value, "=svd|asvd|svd_llm|svd_llm_update|anchored");
  EXPECT_EQ(flags.at("calibration_packing").value, "=concatenated|documents");
  EXPECT_EQ(flags.at("window_start").value, "=text|window");
  EXPECT_EQ(flags.at("calibration_window_start").value, "=text|window");
  EXPECT_EQ(FlagsIn(HelpOf("jobs list")).at("kind").value,
            "=compress_model|evaluate (may be repeated)");
}

}  // namespace
}  // namespace svdllm::cli
