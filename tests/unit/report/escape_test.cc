#include "report/escape.h"

#include <gtest/gtest.h>

namespace svdllm {
namespace {

const std::string kReplacement = "\xef\xbf\xbd";

TEST(Escape, KeepsTextAndNothingElse) {
  EXPECT_EQ(Escape("größer <a href=\"x\">"), "größer &lt;a href=&quot;x&quot;&gt;");
  EXPECT_EQ(Escape("AT&T's"), "AT&amp;T&#39;s");
  EXPECT_EQ(Escape("日本 😀\n\t"), "日本 😀\n\t");
  EXPECT_EQ(Escape(std::string("a\0b", 3)), "a" + kReplacement + "b");
  EXPECT_EQ(Escape("\xc2\x85"), kReplacement);      // a control character
  EXPECT_EQ(Escape("\xef\xbf\xbf"), kReplacement);  // no character
  EXPECT_EQ(Escape("\xff\x80"), kReplacement + kReplacement);
  EXPECT_EQ(Escape("\xc0\xaf"), kReplacement + kReplacement);                     // overlong
  EXPECT_EQ(Escape("\xed\xa0\x80"), kReplacement + kReplacement + kReplacement);  // a surrogate
  EXPECT_EQ(Escape("\xe2\x82"), kReplacement);                                    // cut short
}

TEST(EscapeMarkdown, LeavesNoMarkup) {
  EXPECT_EQ(EscapeMarkdown("self_attn.q_proj, 50 % (größer)"), "self_attn.q_proj, 50 % (größer)");
  EXPECT_EQ(EscapeMarkdown("a|b"), "a\\|b");
  EXPECT_EQ(EscapeMarkdown("`x` *y* \\"), "\\`x\\` \\*y\\* \\\\");
  EXPECT_EQ(EscapeMarkdown("<b> [x](y) &lt;"), "&lt;b> \\[x\\](y) \\&lt;");
  EXPECT_EQ(EscapeMarkdown("one\n\n# two\tthree\x01\xff"),
            "one  # two three" + kReplacement + kReplacement);
}

TEST(CodeSpan, EndsWhereTheTextEnds) {
  EXPECT_EQ(CodeSpan("a|b *c*"), "`a|b *c*`");
  EXPECT_EQ(CodeSpan("a`b``c"), "```a`b``c```");
  EXPECT_EQ(CodeSpan("`a"), "`` `a ``");
  EXPECT_EQ(CodeSpan("<img *x*>"), "&lt;img \\*x\\*>");
  EXPECT_EQ(CodeSpan("a\nb\xff"), "`a b" + kReplacement + "`");
}

TEST(YamlScalar, IsQuotedWhereItHasToBe) {
  EXPECT_EQ(YamlScalar(""), "\"\"");
  EXPECT_EQ(YamlScalar("SmolLM2-135M_v1.0"), "SmolLM2-135M_v1.0");
  EXPECT_EQ(YamlScalar("-a"), "\"-a\"");
  EXPECT_EQ(YamlScalar("a: \"b\" #c"), "\"a: \\\"b\\\" #c\"");
  EXPECT_EQ(YamlScalar("a\nb: c\xff"), "\"a b: c" + kReplacement + "\"");
}

}  // namespace
}  // namespace svdllm
