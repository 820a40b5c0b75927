// Texts in every form that is read and some that are not, JSON, and what is said of bytes.
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "tests/fuzz/targets.h"
#include "tests/support/packed.h"
#include "text/json_rows.h"
#include "text/text_file.h"
#include "tokenizer/unicode_normalize.h"

namespace svdllm::testing {
namespace {

constexpr std::string_view kEndings[] = {".jsonl",    ".json",    ".txt",    ".jsonl.gz",
                                         ".json.zst", ".txt.zst", ".txt.gz", ""};

// The first byte says how the file is called, and by its highest bit whether what follows is what
// it holds or what is packed into it: changed bytes of packed ones seldom get past their checksums.
void RunText(std::string_view bytes) {
  if (bytes.empty()) return;
  static FuzzDirectory directory;
  const auto first = static_cast<unsigned char>(bytes[0]);
  const std::string_view ending = kEndings[first % std::size(kEndings)];
  std::string content(bytes.substr(1));
  if (first >= 0x80 && ending.ends_with(".gz")) content = Gzip(content);
  if (first >= 0x80 && ending.ends_with(".zst")) content = Zstd(content);
  const std::string name = "data" + std::string(ending), path = directory.Put(name, content);
  for (const int64_t first_bytes : {int64_t{0}, int64_t{20}}) {
    const auto file = ReadTextFile(path, {1 << 20, first_bytes});
    absl::Status status = file.status();
    if (file.ok()) {
      FUZZ_CHECK(IsValidUtf8(file->text), file->text);
      FUZZ_CHECK(first_bytes > 0 || file->whole, name);
      FUZZ_CHECK(file->text.size() <= (first_bytes > 0 ? 20u : 1u << 20), name);
      status = ReadJsonRows(*file, 0, [](const std::string&, const nlohmann::json& value) {
        FUZZ_CHECK(!value.dump().empty(), "a value");
        return absl::OkStatus();
      });
      if (status.ok()) status = RefuseUnannouncedJson(*file);
    }
    if (status.ok()) continue;
    CheckRefusal(status, {kDatasetInvalid});
    FUZZ_CHECK(status.message().find(name) != std::string::npos, status.ToString());
  }
}

void RunUtf8(std::string_view bytes) {
  const std::string text = ToValidUtf8(bytes);
  FUZZ_CHECK(IsValidUtf8(text), text);
  FUZZ_CHECK(ToValidUtf8(text) == text, text);
  FUZZ_CHECK(IsValidUtf8(bytes) == (text == bytes), text);
  FUZZ_CHECK(CountCharacters(text) <= text.size(), text);
  for (const size_t most : {3u, 16u}) {
    const std::string shortened = Shortened(bytes, most);
    FUZZ_CHECK(shortened.size() <= most && IsValidUtf8(shortened), shortened);
  }
  for (const NormalForm form :
       {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc, NormalForm::kNfkd}) {
    const std::string normal = Normalize(form, text);
    FUZZ_CHECK(IsValidUtf8(normal), normal);
    FUZZ_CHECK(Normalize(form, normal) == normal, normal);
  }
  FUZZ_CHECK(IsValidUtf8(Printable(bytes)), text);
  (void)Closest(text.substr(0, 64), {"calibration", "samples", "seq_len"});
}

void RunJson(std::string_view bytes) {
  JsonFault fault;
  const auto value = ParseJson(bytes, &fault);
  if (value.ok()) {
    const std::string text = value->dump();
    const auto again = ParseJson(text);
    FUZZ_CHECK(again.ok() && again->dump() == text, text);
    return;
  }
  CheckErrorText({value.status().message().data(), value.status().message().size()});
  FUZZ_CHECK(fault.position <= bytes.size() && IsValidUtf8(fault.what), fault.what);
  (void)PlaceIn(bytes, fault.position);
}

}  // namespace

FuzzTarget TextTarget() {
  const std::string lines = "{\"text\": \"Once upon a time\"}\n{\"text\": \"there was é\"}\n";
  std::string wide = "\xff\xfe";
  for (const char c : lines) wide += {c, '\0'};
  const auto named = [](size_t ending, bool pack, const std::string& text) {
    return std::string(1, static_cast<char>(ending + (pack ? 0x80 : 0))) + text;
  };
  // A frame of Zstandard says how far back it refers, and so much is allocated: 128 MiB at most.
  constexpr int64_t kFloorBytes = int64_t{160} << 20;
  return {"text",
          RunText,
          {named(0, false, lines), named(0, false, "\xef\xbb\xbf" + lines), named(0, false, wide),
           named(1, false, "[\"one\", {\"text\": \"two\"}, {\"text\": [NaN, {}]}]"),
           named(1, false, lines), named(2, false, "Once upon a time\nthere was é\n"),
           named(2, false, "PAR1\x15\x04"), named(3, false, Gzip(lines)), named(3, true, lines),
           named(3, false, Gzip("a") + Gzip(lines)), named(4, false, Zstd(lines)),
           named(4, true, "[\"a\"]"), named(5, false, Zstd(std::string(300000, 'x'))),
           named(5, true, wide), named(6, true, "a"), named(7, false, lines)},
          {"\xef\xbb\xbf", "\xff\xfe", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "PAR1", "ARROW1",
           "<html", "[", "]", "{", "\"", "\\ud83d", "NaN", "-Infinity", "\n", "\xed\xa0\x80",
           Gzip("x"), Zstd("x"), std::string(4, '\0')},
          4096,
          kFloorBytes};
}

FuzzTarget Utf8Target() {
  return {
      "utf8",
      RunUtf8,
      {"Hello, wörld", "\xed\xa0\x80\xff\xc0\x80", "e\xcc\x81\xef\xac\x81\xe1\x84\x80\xe1\x85\xa1",
       "\xf0\x9f\x98\x80 \xe2\x80\x83\x1c", "\x1b[31mred\x07"},
      {"\xef\xbb\xbf", "\xf4\x90\x80\x80", "\xed\xbf\xbf", "\xe2\x96\x81", "\xcc\x81", "\xff",
       "\xc3", "\xe1\x84\x80", "\xe1\x85\xa1", "\xef\xb7\xba"},
      128};
}

FuzzTarget JsonTarget() {
  return {"json",
          RunJson,
          {R"({"a": [1, -2.5e3, true, null, "\u00e9\ud83d\ude00\n"], "b": {"c": {}}})",
           "[[[[[[[[[[1]]]]]]]]]]", "\"\xff\"", "1e400", "[NaN]"},
          {"{", "}", "[", "]", "\"", ",", ":", "null", "\\u", "\\ud83d", "1e400", "-", "[[[[[[[[",
           "{\"a\":{\"a\":", "\xff", "18446744073709551616", "NaN"},
          1024};
}

}  // namespace svdllm::testing
