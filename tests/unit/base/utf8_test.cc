#include "base/utf8.h"

#include <gtest/gtest.h>

#include <utility>

namespace svdllm {
namespace {

TEST(Utf8Test, ReplacesMaximalInvalidPrefixes) {
  const std::string r = "\xef\xbf\xbd";
  const std::pair<std::string, std::string> kCases[] = {
      {"plain \xc3\xa9 \xf0\x9f\x98\x80", "plain \xc3\xa9 \xf0\x9f\x98\x80"},
      {"\x80", r},
      {"a\xc3", "a" + r},
      {"\xe2\x96z", r + "z"},
      {"\xf0\x9f\x98", r},
      {"\xf0\x9f\xf0\x9f\x98\x80", r + "\xf0\x9f\x98\x80"},
      {"\xc0\x80", r + r},                  // overlong
      {"\xe0\x9f\xbf", r + r + r},          // overlong
      {"\xed\xa0\x80", r + r + r},          // surrogate
      {"\xf4\x90\x80\x80", r + r + r + r},  // past U+10FFFF
      {"\xf5\xff", r + r},
      {std::string("\0\xc2", 2), std::string("\0", 1) + r},
  };
  for (const auto& [in, out] : kCases) {
    EXPECT_EQ(ToValidUtf8(in), out) << ::testing::PrintToString(in);
    EXPECT_EQ(IsValidUtf8(in), in == out);
    EXPECT_TRUE(IsValidUtf8(out));
  }
}

TEST(Utf8Test, EveryCharacterSurvivesEncodingAndDecoding) {
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(DecodeChar(text, 0), c);
    ASSERT_EQ(CharLength(text[0]), text.size());
    ASSERT_TRUE(IsValidUtf8(text));
  }
}

TEST(Utf8Test, CountsCharactersNotBytes) {
  EXPECT_EQ(CountCharacters("naïve 😀"), 7u);
  EXPECT_EQ(CountCharacters(""), 0u);
}

TEST(Utf8Test, FindsInvalidUtf8) {
  EXPECT_EQ(FirstInvalidUtf8("é😀"), std::string_view::npos);
  EXPECT_EQ(FirstInvalidUtf8("ab\xff"), 2u);
  EXPECT_EQ(FirstInvalidUtf8("a\xc3"), 1u);             // cut short
  EXPECT_EQ(FirstInvalidUtf8("\xc0\xaf"), 0u);          // longer than need be
  EXPECT_EQ(FirstInvalidUtf8("a\xed\xa0\x80"), 1u);     // a surrogate
  EXPECT_EQ(FirstInvalidUtf8("\xf4\x90\x80\x80"), 0u);  // beyond Unicode
}

TEST(Utf8Test, ShortensBetweenCharacters) {
  EXPECT_EQ(Shortened("short", 5), "short");
  EXPECT_EQ(Shortened("longer", 5), "lo…");
  EXPECT_EQ(Shortened("ééé", 5), "é…");
  EXPECT_EQ(Shortened("😀😀", 7), "😀…");
  EXPECT_EQ(Shortened("😀😀", 6), "…");
  EXPECT_EQ(Shortened("a\xff", 4), "a\xef\xbf\xbd");
  EXPECT_EQ(Shortened("", 3), "");
}

TEST(Utf8Test, ReplacesOnceFromTheLeft) {
  EXPECT_EQ(ReplaceAll("a    b", "  ", " "), "a  b");
  EXPECT_EQ(ReplaceAll("aaa", "aa", "b"), "ba");
}

}  // namespace
}  // namespace svdllm
