// What Load says of files that are missing, malformed or beyond what can be matched exactly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"
#include "fixtures.h"
#include "tests/support/temp_dir.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

using svdllm::testing::TempDir;

using nlohmann::json;
using ::testing::HasSubstr;

void ExpectError(const TempDir& dir, absl::StatusCode code, std::string_view reason,
                 const std::string& named) {
  const absl::Status status = Tokenizer::Load(dir.path()).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_EQ(ErrorReason(status), reason) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(named));
}

struct BadJson {
  std::string patch, named;
};

void ExpectPatched(const BadJson& bad, absl::StatusCode code, std::string_view reason) {
  TempDir dir;
  json file = json::parse(ReadData("byte_level.json"));
  file.merge_patch(json::parse(bad.patch));
  dir.Write("tokenizer.json", file.dump());
  ExpectError(dir, code, reason, bad.named);
  ExpectError(dir, code, reason, "tokenizer.json");
}

TEST(TokenizerErrors, NothingThere) {
  TempDir dir;
  ExpectError(dir, absl::StatusCode::kNotFound, kModelNotFound, dir.path());
}

TEST(TokenizerErrors, UnknownComponentsAreNamed) {
  const BadJson kBad[] = {
      {R"({"normalizer": {"type": "Nmt"}})", "normalizer Nmt"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}})",
       "Lowercase"},
      {R"({"pre_tokenizer": {"type": "UnicodeScripts"}})", "pre_tokenizer UnicodeScripts"},
      {R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "invert": false,
           "behavior": "Scattered"}})",
       "Scattered"},
      {R"({"model": {"type": "WordPiece"}})", "model WordPiece"},
      {R"({"model": {"dropout": 0.5}})", "dropout"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix"},
      {R"({"post_processor": {"type": "Whatever"}})", "post_processor Whatever"},
      {R"({"decoder": {"type": "WordPiece"}})", "decoder WordPiece"},
      {R"({"decoder": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}})",
       "decoder Replace pattern Regex"},
  };
  for (const BadJson& bad : kBad) {
    ExpectPatched(bad, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer);
  }
}

// Syntax that the reference's library and ours read differently, or that one of them refuses.
TEST(TokenizerErrors, UnsupportedExpressionsAreNamed) {
  for (const std::string pattern :
       {R"(\bword\b)", R"([a[bc]])", R"([a-z&&[^x]])", R"([[:alpha:]])", R"((?i)abc)", R"(\h+)",
        R"((?m:.))", R"(a{2,3}+)", R"(a{2}?)", R"(a{,3})", R"((*ACCEPT))", R"((unclosed)",
        R"(\p{NoSuchProperty})", R"((a)\1)", R"(\x41)", R"(a\)", R"([^\W_])", "[a"}) {
    const json patch = {{"pre_tokenizer",
                         {{"type", "Split"},
                          {"behavior", "Isolated"},
                          {"invert", false},
                          {"pattern", {{"Regex", pattern}}}}}};
    ExpectPatched({patch.dump(), pattern}, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer);
  }
}

TEST(TokenizerErrors, MalformedFilesAreNamed) {
  const BadJson kBad[] = {
      {R"({"model": null})", "model"},
      {R"({"model": {"vocab": null}})", "vocab"},
      {R"({"model": {"vocab": ["a"]}})", "token"},
      {R"({"model": {"vocab": {"a": -1}}})", "id of token a"},
      {R"({"model": {"vocab": {"a": 4294967296}}})", "id of token a"},
      {R"({"model": {"vocab": {"a": 2000000000}}})", "id of token a"},
      {R"({"model": {"vocab": {"a": "b"}}})", "number"},
      {R"({"model": {"merges": ["a b c"]}})", "a b c"},
      {R"({"model": {"merges": ["no_such_token a"]}})", "no_such_token"},
      {R"({"model": {"merges": [["Q", "Q"]]}})", "QQ"},
      {R"({"model": {"merges": [5]}})", "number"},
      {R"({"model": {"unk_token": "<none>"}})", "<none>"},
      {R"({"added_tokens": [{"id": 3}]})", "content"},
      {R"({"pre_tokenizer": {"type": null}})", "type"},
      {R"({"post_processor": {"type": "BertProcessing", "cls": ["x", 99999], "sep": ["x", 1]}})",
       "99999"},
  };
  for (const BadJson& bad : kBad) {
    ExpectPatched(bad, absl::StatusCode::kInvalidArgument, kModelCorrupt);
  }
}

TEST(TokenizerErrors, NotJson) {
  for (const char* content : {"", "{", "[]", "\xff\xfe", "{\"model\": }", "null"}) {
    TempDir dir;
    dir.Write("tokenizer.json", content);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "tokenizer.json");
  }
}

TEST(TokenizerErrors, TruncatedAnywhere) {
  const std::string whole = ReadData("byte_level.json");
  for (size_t size = 0; size < whole.size(); size += 97) {
    TempDir dir;
    dir.Write("tokenizer.json", whole.substr(0, size));
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "tokenizer.json");
  }
}

TEST(TokenizerErrors, BadConfiguration) {
  for (const char* content :
       {"[]", "{\"legacy\": 3}", "{\"added_tokens_decoder\": {\"x\": \"a\"}}",
        "{\"added_tokens_decoder\": {\"99999999999\": \"a\"}}", "{\"bos_token\": {}}"}) {
    TempDir dir;
    dir.Write("tokenizer.json", ReadData("byte_level.json"));
    dir.Write("tokenizer_config.json", content);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "tokenizer_config.json");
  }
}

// Such values can be made by the parser, and not be copied without running out of stack.
// A file that says so little cannot be refused before it meets its text.
TEST(TokenizerErrors, ExpressionsThatTakeTooLongAreErrorsNotOtherTokens) {
  TempDir dir;
  json file = json::parse(ReadData("byte_level.json"));
  file["pre_tokenizer"] = json::parse(
      R"({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false})");
  dir.Write("tokenizer.json", file.dump());
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_TRUE(tokenizer->Encode("aaaa", true).ok());
  const auto ids = tokenizer->Encode(std::string(100, 'a') + "!", true);
  EXPECT_EQ(ErrorReason(ids.status()), kUnsupportedTokenizer) << ids.status();
  for (const char* named : {"/tokenizer.json", "(a+)+$", "match limit exceeded"}) {
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr(named));
  }
}

TEST(TokenizerErrors, DeepNesting) {
  const std::string deep =
      "{\"a\": " + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  for (const std::string name : {"tokenizer.json", "tokenizer_config.json"}) {
    TempDir dir;
    dir.Write("tokenizer.json", ReadData("byte_level.json"));
    dir.Write(name, deep);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, name);
  }
  TempDir dir;
  dir.Write("tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\"}");
  dir.Write("vocab.json", deep);
  dir.Write("merges.txt", "");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "vocab.json");
}

TEST(TokenizerErrors, BadSentencePieceModel) {
  for (const std::string& content :
       {std::string(), std::string("not a model"), ReadData("sentencepiece.model").substr(0, 99)}) {
    TempDir dir;
    dir.Write("tokenizer.model", content);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "tokenizer.model");
  }
}

TEST(TokenizerErrors, UnsupportedSentencePieceUse) {
  TempDir dir;
  dir.Write("tokenizer.model", ReadData("sentencepiece.model"));
  dir.Write("tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer"})");
  ExpectError(dir, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "T5Tokenizer");
  dir.Write("tokenizer_config.json", R"({"added_tokens_decoder": {"500":
            {"content": "<x>", "single_word": true}}})");
  ExpectError(dir, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "<x>");
}

TEST(TokenizerErrors, MalformedRankFiles) {
  const std::string whole = ReadData("ranks.model");
  for (const auto& [content, named] : std::vector<std::pair<std::string, std::string>>{
           {"IQ== 0\nIg== 1\nIw== 2\n", "not all bytes"},
           {whole + "not base64 400\n", "line 329"},
           {whole + "IQ== 400\n", "line 329"},    // a token that is there
           {whole + "aWwgZQ== 0\n", "line 329"},  // a rank that is taken
           {whole + "aWwgZQ== 99999999\n", "line 329"},
           {whole + "aWwgZQ==\n", "line 329"}}) {
    TempDir dir;
    dir.Write("tokenizer.model", content);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, named);
    ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "tokenizer.model");
  }
  TempDir dir;
  dir.Write("tokenizer.model", whole);
  dir.Write("tokenizer_config.json", R"({"bos_token": "<none>"})");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "bos_token");
}

TEST(TokenizerErrors, MalformedVocabAndMerges) {
  TempDir dir;
  dir.Write("vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  ExpectError(dir, absl::StatusCode::kNotFound, kModelNotFound, "merges.txt");
  dir.Write("merges.txt", "#version: 0.2\na b\nb b\n");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "bb");
  dir.Write("merges.txt", "a b c\n");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "a b c");
  dir.Write("merges.txt", "");
  dir.Write("vocab.json", "[]");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "vocab.json");
  dir.Write("vocab.json", R"({"a": 0})");
  dir.Write("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer"})");
  ExpectError(dir, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "RobertaTokenizer");
  dir.Write("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": null})");
  ExpectError(dir, absl::StatusCode::kInvalidArgument, kModelCorrupt, "bos_token");
}

TEST(TokenizerErrors, Tekken) {
  TempDir dir;
  dir.Write("tekken.json", "{}");
  ExpectError(dir, absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "tekken.json");
}

}  // namespace
}  // namespace svdllm
