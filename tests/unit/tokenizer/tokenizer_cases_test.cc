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
#include "tests/support/temp_dir.h"
#include "tokenizer/tokenizer.h"

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

// The files of a case, as a model directory holds them.
void WriteFiles(const json& one, const TempDir& dir) {
  const std::string base = one.at("base");
  if (base == "vocab.json") {
    const json model = json::parse(ReadData("byte_level.json")).at("model");
    std::string merges = "#version: 0.2\n";
    for (const json& merge : model.at("merges")) {
      merges += merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>() + "\n";
    }
    dir.Write("vocab.json", model.at("vocab").dump());
    dir.Write("merges.txt", merges);
  } else if (base.ends_with(".model")) {
    dir.Write("tokenizer.model", ReadData(base));
  } else {
    json file = json::parse(ReadData(base));
    file.merge_patch(one.at("patch"));
    dir.Write("tokenizer.json", file.dump());
  }
  if (one.contains("config")) dir.Write("tokenizer_config.json", one.at("config").dump());
}

class TokenizerCases : public ::testing::TestWithParam<std::string> {};

TEST_P(TokenizerCases, EqualsTheReference) {
  json one;
  for (const json& candidate : Cases().at("cases")) {
    if (candidate.at("name") == GetParam()) one = candidate;
  }
  TempDir dir;
  WriteFiles(one, dir);
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (size_t i = 0; i < one.at("ids").size(); ++i) {
    const std::string text = Cases().at("texts").at(i);
    const std::vector<int32_t> ids = *tokenizer->Encode(text, true);
    EXPECT_EQ(ids, one.at("ids").at(i).get<std::vector<int32_t>>()) << text;
    EXPECT_THAT(ids, ::testing::Each(::testing::Lt(tokenizer->vocab_size())));
  }
  std::vector<std::vector<int32_t>> lists = one.at("ids");
  for (const json& random : one.at("random")) lists.push_back(random);
  ASSERT_EQ(lists.size(), one.at("decoded").size());
  for (size_t i = 0; i < lists.size(); ++i) {
    const std::string text = one.at("decoded").at(i);
    EXPECT_EQ(tokenizer->Decode(lists[i], false), text) << i;
    EXPECT_EQ(tokenizer->Decode(lists[i], true),
              one.at("without_special").value(std::to_string(i), text))
        << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerCases, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(Tokenizer, SpecialTokensOnlyWhereAskedFor) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> plain = *tokenizer->Encode("The hill", false);
  EXPECT_THAT(*tokenizer->Encode("", false), ::testing::IsEmpty());
  EXPECT_THAT(*tokenizer->Encode("", true), ::testing::ElementsAre(1));
  plain.insert(plain.begin(), 1);
  EXPECT_EQ(*tokenizer->Encode("The hill", true), plain);
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
    EXPECT_EQ(*tokenizer->Encode("a\xff\xe2\x96 b\xf0\x9f\x98", true),
              *tokenizer->Encode("a\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd", true));
  }
}

TEST(Tokenizer, OlderLayoutsAddedTokensAreFound) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  dir.Write("special_tokens_map.json", R"({"bos_token": "<s>", "pad_token": "<pad>"})");
  dir.Write("added_tokens.json", R"({"<pad>": 420, "<tool>": 425})");
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*tokenizer->Encode("<pad><tool>", true), ::testing::ElementsAre(1, 420, 425));
  EXPECT_EQ(tokenizer->vocab_size(), 426);
}

TEST(Tokenizer, EndsOfTextsAreThoseThatTheFilesOrTheClassName) {
  struct Case {
    std::string file, config;
    std::optional<int32_t> bos, eos;
  };
  const std::string with_end = [] {
    json file = json::parse(ReadData("byte_level.json"));
    file.merge_patch({{"added_tokens", {{{"id", 330}, {"content", "<|endoftext|>"}}}}});
    return file.dump();
  }();
  const Case kCases[] = {
      {ReadData("byte_level.json"), "{}", std::nullopt, std::nullopt},
      {ReadData("byte_level.json"), R"({"bos_token": null, "eos_token": "</s>"})", std::nullopt, 1},
      {ReadData("byte_level.json"), R"({"eos_token": {"content": "<end>"}})", std::nullopt, 330},
      {ReadData("metaspace.json"), R"({"tokenizer_class": "LlamaTokenizer"})", 1, 2},
      {with_end, R"({"tokenizer_class": "GPT2TokenizerFast"})", 330, 330},
      {with_end, R"({"tokenizer_class": "Qwen2Tokenizer"})", std::nullopt, 330},
  };
  for (const Case& one : kCases) {
    TempDir dir;
    dir.Write("tokenizer.json", one.file);
    dir.Write("tokenizer_config.json", one.config);
    const auto tokenizer = Tokenizer::Load(dir.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ(tokenizer->bos_id(), one.bos) << one.config;
    EXPECT_EQ(tokenizer->eos_id(), one.eos) << one.config;
  }
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->IdOf("</s>"), 2);
  EXPECT_EQ(tokenizer->IdOf("no such token"), std::nullopt);
}

TEST(Tokenizer, IdsOfNoTokenAreDecodedToNothing) {
  for (const char* base : {"byte_level.json", "sentencepiece.model"}) {
    TempDir dir;
    dir.Write(base == std::string("byte_level.json") ? "tokenizer.json" : "tokenizer.model",
              ReadData(base));
    const auto tokenizer = Tokenizer::Load(dir.path());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const std::vector<int32_t> ids = {-1, 1 << 30, static_cast<int32_t>(tokenizer->vocab_size())};
    EXPECT_EQ(tokenizer->Decode(ids, false), "");
    EXPECT_EQ(tokenizer->Decode({}, true), "");
  }
}

TEST(Tokenizer, TheLatestOfMistralsVersionsIsRead) {
  TempDir dir;
  dir.Write("tokenizer.model.v1", ReadData("unigram.model"));
  dir.Write("tokenizer.model.v3", ReadData("sentencepiece.model"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->vocab_size(), 420);
}

TEST(Tokenizer, EncodesFromSeveralThreadsAtOnce) {
  TempDir dir;
  dir.Write("tokenizer.json", ReadData("byte_level.json"));
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::string text;
  for (const std::string piece : Cases().at("texts")) text += piece;
  const std::vector<int32_t> expected = *tokenizer->Encode(text, true);
  std::vector<std::vector<int32_t>> got(4);
  std::vector<std::thread> threads;
  for (auto& ids : got) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) ids = *tokenizer->Encode(text, true);
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
      EXPECT_GT(tokenizer->Encode(text, true)->size(), 1000u);
    }
  }
}

}  // namespace
}  // namespace svdllm
