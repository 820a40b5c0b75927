#include "tokenizer/unicode_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>

#include "base/utf8.h"
#include "tokenizer/unicode_tables.h"

namespace svdllm {
namespace {

// What one search may take where the JIT does not do it; PCRE2's own bound is 20 GB. Its bounds on
// steps and on nesting are left as they are.
constexpr uint32_t kMaxHeapKib = 256 << 10;
constexpr size_t kMaxQuoted = 300;

bool IsHexDigit(char c) {
  return std::string_view("0123456789abcdefABCDEF").find(c) != std::string_view::npos;
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Translates one expression. The two dialects agree on most of what tokenizers use; what differs
// is rewritten where that is exact, and refused elsewhere.
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  absl::StatusOr<std::string> Run() {
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      bool ok = true;
      if (c == '\\') {
        ok = Escape();
      } else if (in_class_) {
        ok = InClass(c);
      } else if (c == '[') {
        OpenClass();
      } else if (c == '(') {
        ok = Group();
      } else if (c == '{') {
        ok = Interval();
      } else {
        Copy(1);
      }
      if (!ok) {
        return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                         "regular expression " + std::string(in_) + ": unsupported syntax at \"" +
                             std::string(in_.substr(pos_, 8)) + "\"");
      }
    }
    return out_;
  }

 private:
  bool At(std::string_view what) const { return in_.substr(pos_, what.size()) == what; }
  void Copy(size_t n) {
    out_.append(in_.substr(pos_, n));
    pos_ += n;
  }
  bool Replace(size_t n, std::string_view by) {
    out_.append(by);
    pos_ += n;
    return true;
  }

  void OpenClass() {
    in_class_ = true;
    Copy(At("[^") ? 2 : 1);
    if (At("]")) Replace(1, "\\]");
  }

  bool InClass(char c) {
    if (c == '[' || At("&&")) return false;  // nested and intersected sets, POSIX names
    if (c == ']') in_class_ = false;
    Copy(1);
    return true;
  }

  bool Group() {
    for (const std::string_view head : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (At(head)) {
        Copy(head.size());
        return true;
      }
    }
    if (At("(?") || At("(*")) return false;
    Copy(1);
    return true;
  }

  // {n,m} is the same in both; what follows it (possessive or lazy) is not.
  bool Interval() {
    if (pos_ + 1 < in_.size() && in_[pos_ + 1] == ',') return false;
    if (pos_ + 1 >= in_.size() || !IsDigit(in_[pos_ + 1])) {
      Copy(1);
      return true;
    }
    const size_t close = in_.find('}', pos_);
    if (close == in_.npos) return false;
    if (close + 1 < in_.size() && (in_[close + 1] == '+' || in_[close + 1] == '?')) return false;
    Copy(close + 1 - pos_);
    return true;
  }

  bool Escape() {
    if (pos_ + 1 >= in_.size()) return false;
    const char c = in_[pos_ + 1];
    switch (c) {
      case 's':
        return Replace(2, "\\p{White_Space}");
      case 'S':
        return Replace(2, "\\P{White_Space}");
      case 'w':
        return Replace(2, in_class_ ? std::string(kWord) : "[" + std::string(kWord) + "]");
      case 'W':
        return !in_class_ && Replace(2, "[^" + std::string(kWord) + "]");
      case 'v':
        return Replace(2, "\\x0b");
      case 'u':
        for (size_t i = 2; i < 6; ++i) {
          if (pos_ + i >= in_.size() || !IsHexDigit(in_[pos_ + i])) return false;
        }
        return Replace(6, "\\x{" + std::string(in_.substr(pos_ + 2, 4)) + "}");
      case 'x':  // without the brace a byte, not a character
      case 'p':
      case 'P': {
        const size_t close = in_.find('}', pos_);
        if (pos_ + 2 >= in_.size() || in_[pos_ + 2] != '{' || close == in_.npos) return false;
        Copy(close + 1 - pos_);
        return true;
      }
      case 'A':
      case 'z':
        if (in_class_) return false;
        break;
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        break;
      default:
        // \b, \h, \R, \X, \K, back references …: absent from one, or different.
        if (IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return false;
        break;
    }
    Copy(1 + CharLength(c));
    return true;
  }

  // Oniguruma's word characters; the last five are its quirk.
  static constexpr std::string_view kWord =
      "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

  std::string_view in_;
  std::string out_;
  size_t pos_ = 0;
  bool in_class_ = false;
};

}  // namespace

absl::StatusOr<std::string> TranslatePattern(std::string_view oniguruma_pattern) {
  return Translator(oniguruma_pattern).Run();
}

absl::StatusOr<Regex> Regex::CompilePcre(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Oniguruma's ^ and $ always match at lines, and a line ends with \n only.
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code == nullptr) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof(text));
    return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                     "regular expression " + pattern + ": at " + std::to_string(offset) + ": " +
                         reinterpret_cast<const char*>(text));
  }
  Regex regex;
  regex.pattern_ = pattern;
  regex.code_ = std::shared_ptr<const void>(
      code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
  // Where the JIT is not to be had, the interpreter gives the same matches.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return regex;
}

absl::StatusOr<Regex> Regex::Compile(std::string_view oniguruma_pattern) {
  ASSIGN_OR_RETURN(const std::string pattern, TranslatePattern(oniguruma_pattern));
  ASSIGN_OR_RETURN(Regex regex, CompilePcre(pattern));
  regex.pattern_ = oniguruma_pattern;
  regex.substitute_ = true;
  return regex;
}

absl::Status Regex::FindAll(std::string_view text, std::vector<Match>* matches) const {
  std::string substituted;
  std::string_view subject = text;
  if (substitute_ && SubstituteNewCharacters(text, &substituted)) subject = substituted;

  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(subject.data());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  pcre2_set_heap_limit(limits.get(), kMaxHeapKib);
  size_t pos = 0;
  while (pos < subject.size()) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(code, bytes, subject.size(), pos, PCRE2_NO_UTF_CHECK | options, data.get(),
                         limits.get());
    };
    int rc = match(0);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = match(PCRE2_NO_JIT);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      PCRE2_UCHAR why[256];
      pcre2_get_error_message(rc, why, sizeof(why));
      return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                       "regular expression " + Shortened(pattern_, kMaxQuoted) + ": in a text of " +
                           std::to_string(subject.size()) +
                           " bytes: " + reinterpret_cast<const char*>(why));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    if (ends[1] > ends[0]) {
      matches->push_back({ends[0], ends[1]});
      pos = ends[1];
    } else {
      // The reference steps over an empty match; one that would start where the last ended too.
      pos = ends[0] < subject.size() ? ends[0] + CharLength(subject[ends[0]]) : subject.size();
    }
  }
  return absl::OkStatus();
}

}  // namespace svdllm
