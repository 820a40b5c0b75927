// Small tokenizers against recorded ids of the reference: see tests/reference/tokenizer_cases.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "fixtures.h"
#include "model/tokenizer.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using svdllm::testing::TempDir;

using nlohmann::json;

const json& Cases() {
  static const json cases = json::parse(ReadData("cases.json"));
  return cases;
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const json& one : Cases().at("cases")) names.push_back(one.at("name"));
  return names;
}

class TokenizerCases : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerCases, EqualsTheReference) {
  json one;
  for (const json& candidate : Cases().at("cases")) {
    if (candidate.at("name") == GetParam()) one = candidate;
  }
  const std::string base = one.at("base");
  TempDir dir;
  if (base.ends_with(".model")) {
    dir.Write("tokenizer.model", ReadData(base));
  } else {
    json file = json::parse(ReadData(base));
    file.merge_patch(one.at("patch"));
    dir.Write("tokenizer.json", file.dump());
  }
  if (one.contains("config")) dir.Write("tokenizer_config.json", one.at("config").dump());
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (size_t i = 0; i < one.at("ids").size(); ++i) {
    const std::string text = Cases().at("texts").at(i);
    const std::vector<int32_t> ids = tokenizer->Encode(text, true);
    EXPECT_EQ(ids, one.at("ids").at(i).get<std::vector<int32_t>>()) << text;
    EXPECT_THAT(ids, ::testing::Each(::testing::Lt(tokenizer->vocab_size())));
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerCases, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(Tokenizer, SpecialTokensOnlyWhereAskedFor) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> plain = tokenizer->Encode("The hill", false);
  EXPECT_THAT(tokenizer->Encode("", false), ::testing::IsEmpty());
  EXPECT_THAT(tokenizer->Encode("", true), ::testing::ElementsAre(1));
  plain.insert(plain.begin(), 1);
  EXPECT_EQ(tokenizer->Encode("The hill", true), plain);
}

TEST(Tokenizer, TokenizerJsonWinsOverTokenizerModel) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  dir.Write("tokenizer.json", ReadData("byte_level.json"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->vocab_size(), 330);
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  for (const char* base : {"byte_level.json", "metaspace.json"}) {
    TempDir dir;
    dir.Write("tokenizer.json", ReadData(base));
    const auto tokenizer = Tokenizer::Load(dir.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ(tokenizer->Encode("a\xff\xe2\x96 b\xf0\x9f\x98", true),
              tokenizer->Encode("a\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd", true));
  }
}

TEST(Tokenizer, OlderLayoutsAddedTokensAreFound) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  dir.Write("special_tokens_map.json", R"({"bos_token": "<s>", "pad_token": "<pad>"})");
  dir.Write("added_tokens.json", R"({"<pad>": 420, "<tool>": 425})");
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(tokenizer->Encode("<pad><tool>", true), ::testing::ElementsAre(1, 420, 425));
  EXPECT_EQ(tokenizer->vocab_size(), 426);
}

TEST(Tokenizer, EncodesFromSeveralThreadsAtOnce) {
  TempDir dir;
  dir.Write("tokenizer.json", ReadData("byte_level.json"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (const std::string piece : Cases().at("texts")) text += piece;
  const std::vector<int32_t> expected = tokenizer->Encode(text, true);
  std::vector<std::vector<int32_t>> got(4);
  std::vector<std::thread> threads;
  for (auto& ids : got) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) ids = tokenizer->Encode(text, true);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(got, ::testing::Each(expected));
}

// A word of a million characters: anything quadratic would take hours.
TEST(Tokenizer, LongWordsAreNotQuadratic) {
  std::string letters, same(1000000, 'e');
  uint32_t state = 1;
  for (int i = 0; i < 1000000; ++i) {
    state = state * 1664525 + 1013904223;
    letters.push_back(static_cast<char>('a' + (state >> 24) % 26));
  }
  for (const char* base : {"byte_level.json", "metaspace.json"}) {
    TempDir dir;
    dir.Write("tokenizer.json", ReadData(base));
    const auto tokenizer = Tokenizer::Load(dir.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const std::string& text : {letters, same, std::string(1000000, ' ')}) {
      EXPECT_GT(tokenizer->Encode(text, true).size(), 1000u);
    }
  }
}

}  // namespace
}  // namespace svdllm
