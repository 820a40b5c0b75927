// The commands and the recipe that the documents show are ones that svdllm takes.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "tests/support/command_harness.h"
#include "tests/support/source_dir.h"
#include "tests/support/temp_dir.h"

namespace svdllm::cli {
namespace {

struct Block {
  std::string language;
  std::string text;
};

// What stands between lines of three backticks.
std::vector<Block> BlocksOf(const std::string& file) {
  std::vector<Block> blocks;
  std::ifstream in(file);
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (absl::StartsWith(line, "```")) {
      inside = !inside;
      if (inside) blocks.push_back({line.substr(3), ""});
    } else if (inside) {
      blocks.back().text += line + "\n";
    }
  }
  return blocks;
}

// The arguments of every "svdllm ..." of a block, as a shell divides them, up to what is the
// shell's.
std::vector<std::vector<std::string>> CommandsOf(const Block& block) {
  std::vector<std::vector<std::string>> commands;
  std::istringstream lines(absl::StrReplaceAll(block.text, {{"\\\n", " "}}));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (std::filesystem::path(word).filename() != "svdllm") continue;
    std::vector<std::string>& command = commands.emplace_back();
    while (words >> word && word.find_first_of("|&;>#") == std::string::npos) {
      command.push_back(word);
    }
  }
  return commands;
}

TEST_F(CommandTest, TakesTheCommandsOfTheDocuments) {
  testing::TempDir temp;
  const std::string usage = SourceDir() + "/docs/usage.md";
  const std::string recipe = temp.path() + "/compress.yaml";
  for (const Block& block : BlocksOf(usage)) {
    if (block.language == "yaml") std::ofstream(recipe) << block.text;
  }
  std::vector<std::string> files = {SourceDir() + "/README.md"};
  for (const auto& entry : std::filesystem::directory_iterator(SourceDir() + "/docs")) {
    if (entry.path().extension() == ".md") files.push_back(entry.path());
  }
  int ran = 0;
  for (const std::string& file : files) {
    for (const Block& block : BlocksOf(file)) {
      for (std::vector<std::string> command : CommandsOf(block)) {
        std::string written = file + ":";
        for (std::string& word : command) {
          written += " " + word;
          word = absl::StrReplaceAll(
              word, {{"--request=compress.yaml", "--request=" + recipe}, {"0a1b2c…", kName}});
        }
        // The scripted service has an address of its own, and asks for nothing.
        std::erase_if(command, [](const std::string& word) {
          return absl::StartsWith(word, "--server=") || absl::StartsWith(word, "--ca=") ||
                 absl::StartsWith(word, "--cert=") || absl::StartsWith(word, "--key=") ||
                 absl::StartsWith(word, "--token_file=");
        });
        const Ran result = Run(command);
        EXPECT_NE(result.exit_status, kExitUsage) << written << "\n" << result.err;
        ++ran;
      }
    }
  }
  EXPECT_GE(ran, 10);
  EXPECT_GE(script().compress_requests.size(), 3u);
}

}  // namespace
}  // namespace svdllm::cli
