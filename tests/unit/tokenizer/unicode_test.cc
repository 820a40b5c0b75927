// The Unicode parts against values recorded from the reference (tokenizers 0.22 and 0.23).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/utf8.h"
#include "tokenizer/unicode_normalize.h"
#include "tokenizer/unicode_regex.h"

namespace svdllm {
namespace {

std::string Utf8(char32_t c) {
  std::string out;
  AppendUtf8(c, &out);
  return out;
}

// Calls f with every Unicode scalar value but U+0000.
template <typename F>
void ForEachCharacter(F f) {
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c < 0xd800 || c > 0xdfff) f(c);
  }
}

// Of "a", the character and U+0334 (combining class 1), for every character.
TEST(Normalize, EveryCharacterAsInTheReference) {
  const std::pair<NormalForm, std::string> kForms[] = {
      {NormalForm::kNfc, "08a47a6ca4da5889638ed3d3b934e4c195085c88663a55df47e21a5572440e9b"},
      {NormalForm::kNfd, "fa3543f9950cd2de846e0dd638d91cc45b6b78ac06c4fc7e73c4558260f88842"},
      {NormalForm::kNfkc, "314b9da62817f7a27ca8d7f3d41815ef5391b000174a74fdb687ba2cf4121159"},
      {NormalForm::kNfkd, "7334a2bbfe6845ad6eb4a5e919e3f73d76f0f88133edad0fd262e66bc580bae9"},
  };
  for (const auto& [form, digest] : kForms) {
    std::string all;
    ForEachCharacter([&](char32_t c) {
      all += Normalize(form, "a" + Utf8(c) + "\xcc\xb4");
      all += '\n';
    });
    EXPECT_EQ(Sha256(all), digest);
  }
}

TEST(Normalize, HangulAndReordering) {
  EXPECT_EQ(Normalize(NormalForm::kNfc, "\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(Normalize(NormalForm::kNfc, "\uac00\u11a7"), "\uac00\u11a7");
  EXPECT_EQ(Normalize(NormalForm::kNfd, "\uac01"), "\u1100\u1161\u11a8");
  EXPECT_EQ(Normalize(NormalForm::kNfc, "q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(Normalize(NormalForm::kNfc, "plain e\u0301, plain"), "plain \u00e9, plain");
  EXPECT_EQ(Normalize(NormalForm::kNfkc, "\ufb01"), "fi");
  EXPECT_EQ(Normalize(NormalForm::kNfc, ""), "");
}

TEST(Normalize, ManyMarksAreNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 300000; ++i) text += "\u0301";
  for (int i = 0; i < 300000; ++i) text += "\u0323";
  const std::string out = Normalize(NormalForm::kNfd, text);
  EXPECT_EQ(out.size(), text.size());
  EXPECT_EQ(out.substr(0, 3), "a\u0323");
}

// The characters that an expression matches: how many, and the digest of them in UTF-8.
TEST(Regex, CharacterClassesAsInTheReference) {
  struct Class {
    std::string pattern;
    int count;
    std::string digest;
  };
  const Class kClasses[] = {
      {R"(\p{L})", 141028, "8192a1dcc0cae66ef7888a27dc546e3c758d994435fa88302acf52cb50e66292"},
      {R"(\p{N})", 1911, "08fc258c1e391e3d68efae939d8a1cc3cc7bc91c6290006133415a192b9b2a55"},
      {R"(\p{M})", 2501, "f2e91f17799b5a98549666cd1650bb6fca071cebbbd90d4979184a682dbd6737"},
      {R"(\p{P})", 855, "243d2b044636cf86f14e5d4833749064622d3283c3e005ce743df6ed818efdbb"},
      {R"(\p{S})", 8514, "4bb6784c89534ebefa95e6edbc533b4d13d8440a5ede062bdc6dafeb2d5fbe6c"},
      {R"(\p{Lu})", 1858, "acae6325af0e16b82ce2c197219ba7204fc33c9e0e16e94a42b53574e08faa52"},
      {R"(\p{Ll})", 2258, "9a4c559311c0615c5c10d08579061f271f2109d0f0b0a4eee958a1b2672ec457"},
      {R"(\p{Lt})", 31, "fabb3e205241fd09f27e5bf259c0b4275382f6eb55ce4d6a6d7de8fefe68e8e1"},
      {R"(\p{Lm})", 404, "2e040f83012ca60064ad8f7d6e8fa91f69613dcdd729664427c1e74c9ce69e33"},
      {R"(\p{Lo})", 136477, "05c7a0b74c789f2675974dd6015dd6da688d990e612446cf2dc1b310139821c1"},
      {R"(\s)", 25, "c15308e40d85febdfed0e22e587f8319ce6609a2a09b062ca7238df2a065fafd"},
      {R"(\w)", 144671, "81434a540968df3af4ef4d79a2da5c956e2219d92bf508a0d8d86f06a69148c4"},
      {R"(\W)", 967392, "57be58a10744d4512186a26e1910307057bb3ebfd7bd3e18a1a6003f648286dc"},
      {R"(\d)", 760, "a9e3198e0dc8d6a60b452b3c66bcea6d1f5a8df0606827d0e0fd42b532c2e18f"},
      {R"((?i:s))", 3, "4b7b259f5d9298a9f7f06edc084d3942a94151890052490ec7aa2af5aa6b8765"},
      {R"([^\s\p{L}\p{N}])", 969099,
       "5703c5d587ccba9e4b5fde90adba29398d68ede7e1ef372639b503963a7f6de9"},
      {R"([^\r\n\p{L}\p{N}])", 969122,
       "55ca4e5948eea3f0c279bcd874a3c422a4387b0ed7a2aae7083c4e8c6aae01cc"},
      {R"(.)", 1112062, "7e00b930ca5ebda0cf0d229e7759b2ec6d62d14fb167df41708ebacf3dcaecae"},
  };
  for (const Class& one : kClasses) {
    const auto regex = Regex::Compile(one.pattern);
    ASSERT_TRUE(regex.ok()) << regex.status();
    std::string matched;
    int count = 0;
    ForEachCharacter([&](char32_t c) {
      std::vector<Match> matches;
      const std::string text = Utf8(c);
      ASSERT_TRUE(regex->FindAll(text, &matches).ok());
      if (matches.empty()) return;
      ASSERT_EQ(matches[0].end, text.size());
      matched += text;
      ++count;
    });
    EXPECT_EQ(count, one.count) << one.pattern;
    EXPECT_EQ(Sha256(matched), one.digest) << one.pattern;
  }
}

TEST(Regex, OffsetsSurviveStandIns) {
  const auto regex = Regex::Compile("\\p{L}+");
  ASSERT_TRUE(regex.ok());
  // U+31350 and U+A7DA are newer than the library's tables.
  const std::string text = "x \U00031350\ua7dab!";
  std::vector<Match> matches;
  ASSERT_TRUE(regex->FindAll(text, &matches).ok());
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(text.substr(matches[1].begin, matches[1].end - matches[1].begin), "\U00031350\ua7dab");
}

TEST(Regex, LinesAndEmptyMatches) {
  std::vector<Match> matches;
  ASSERT_TRUE(Regex::Compile("^a*")->FindAll("aa\nb\naaa", &matches).ok());
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[1].begin, 5u);
  EXPECT_EQ(matches[1].end, 8u);
}

TEST(Regex, Translation) {
  const std::pair<std::string, std::string> kCases[] = {
      {R"([^\s\p{L}]+)", R"([^\p{White_Space}\p{L}]+)"},
      {R"(\u4e00-\S\v)", R"(\x{4e00}-\P{White_Space}\x0b)"},
      {R"([]a]{2,3}\x{41}+)", R"([\]a]{2,3}\x{41}+)"},
  };
  for (const auto& [in, out] : kCases) {
    const auto translated = TranslatePattern(in);
    ASSERT_TRUE(translated.ok()) << translated.status();
    EXPECT_EQ(*translated, out);
  }
}

TEST(Regex, DeepBacktrackingFallsBackToTheInterpreter) {
  const auto regex = Regex::Compile("(?:a|b|ab)+c");
  ASSERT_TRUE(regex.ok());
  std::string text(200000, 'a');
  text += "c";
  std::vector<Match> matches;
  ASSERT_TRUE(regex->FindAll(text, &matches).ok());
  ASSERT_EQ(matches.size(), 1u);
  EXPECT_EQ(matches[0].end, text.size());
}

// What was found before the limit would be other words than the reference's.
TEST(Regex, LimitsAreErrors) {
  const std::pair<std::string, std::string> kCases[] = {
      {"(a+)+$", "match limit exceeded"},        // steps
      {"(?:a|b|ab)+c", "heap limit exceeded"}};  // memory of the interpreter
  for (const auto& [pattern, limit] : kCases) {
    const std::string text = "b" + std::string(4'000'000, 'a') + "c";
    const auto regex = Regex::Compile(pattern);
    ASSERT_TRUE(regex.ok());
    std::vector<Match> matches;
    const absl::Status status = regex->FindAll(text, &matches);
    EXPECT_EQ(ErrorReason(status), kUnsupportedTokenizer) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(pattern));
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(limit));
  }
}

}  // namespace
}  // namespace svdllm
