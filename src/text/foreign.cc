#include "text/foreign.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/utf8.h"

namespace svdllm {
namespace {

// What can be done about a file.
enum class Advice {
  kUnpack,       // by the program that `how` names
  kPandas,       // by the function of pandas that `how` names
  kArrowStream,  // pandas does not read it
  kConvert,      // from the encoding that `how` names
  kFetch,        // by the command that `how` names
  kNone,
};

struct Kind {
  size_t at;
  std::string_view magic;
  std::string_view name;
  Advice advice;
  std::string_view how = "";
  // Text itself. Of the others the magic may be a text's first word ("PAR1 is a receptor"), so that
  // only with bytes that no text has they are what they seem.
  bool is_text = false;
};

using namespace std::string_view_literals;

constexpr Kind kKinds[] = {
    {0, "PAR1"sv, "a Parquet file", Advice::kPandas, "read_parquet"},
    {0, "PARE"sv, "an encrypted Parquet file", Advice::kPandas, "read_parquet"},
    {0, "ARROW1"sv, "an Arrow (Feather) file", Advice::kPandas, "read_feather"},
    {0, "FEA1"sv, "a Feather file", Advice::kPandas, "read_feather"},
    {0, "\xff\xff\xff\xff"sv, "an Arrow stream", Advice::kArrowStream},
    {0, "ORC"sv, "an ORC file", Advice::kPandas, "read_orc"},
    {0, "Obj\x01"sv, "an Avro file", Advice::kNone},
    {0, "SQLite format 3\0"sv, "an SQLite database", Advice::kNone},
    {0, "PK\x03\x04"sv, "a zip archive", Advice::kUnpack, "unzip -p"},
    {0, "PK\x05\x06"sv, "an empty zip archive", Advice::kNone},
    {0, "\xfd\x37\x7a\x58\x5a\0"sv, "compressed with xz", Advice::kUnpack, "xz -dc"},
    {0, "\x5d\0\0"sv, "compressed with LZMA", Advice::kUnpack, "xz -dc"},
    {0, "\x04\x22\x4d\x18"sv, "compressed with LZ4", Advice::kUnpack, "lz4 -dc"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive", Advice::kUnpack, "7z x -so"},
    {0, "Rar!\x1a\x07"sv, "a RAR archive", Advice::kNone},
    {257, "ustar"sv, "a tar archive", Advice::kUnpack, "tar -xOf"},
    {0, "\xff\xfe\0\0"sv, "text in UTF-32", Advice::kConvert, "UTF-32"},
    {0, "\0\0\xfe\xff"sv, "text in UTF-32", Advice::kConvert, "UTF-32"},
    {0, "\xff\xfe"sv, "text in UTF-16", Advice::kConvert, "UTF-16"},
    {0, "\xfe\xff"sv, "text in UTF-16", Advice::kConvert, "UTF-16"},
    {0, "version https://git-lfs.github.com/spec/"sv, "a Git LFS pointer, not the file itself",
     Advice::kFetch, "git lfs pull", true},
    {0, "/annex/objects/"sv, "a git-annex pointer, not the file itself", Advice::kFetch,
     "git annex get", true},
    {0, "%PDF-1."sv, "a PDF document", Advice::kNone, "", true},
    {0, "GGUF"sv, "a model in GGUF", Advice::kNone},
    // The upper half of a length, and the beginning of the names of tensors.
    {4, "\0\0\0\0{\""sv, "a model in safetensors", Advice::kNone},
    {0, "\x93NUMPY"sv, "a NumPy array", Advice::kNone},
    {0, "\x89HDF\r\n"sv, "an HDF5 file", Advice::kNone},
    {0, "\x80\x02"sv, "a Python pickle", Advice::kNone},
    {0, "\x80\x03"sv, "a Python pickle", Advice::kNone},
    {0, "\x80\x04"sv, "a Python pickle", Advice::kNone},
    {0, "\x80\x05"sv, "a Python pickle", Advice::kNone},
};

constexpr std::string_view kHtml[] = {"<!doctype html", "<html"};

struct Ending {
  std::string_view ending, name;
  Advice advice;
  std::string_view how = "";
};

constexpr Ending kEndings[] = {
    {".parquet", "a Parquet file", Advice::kPandas, "read_parquet"},
    {".arrow", "an Arrow file", Advice::kPandas, "read_feather"},
    {".feather", "a Feather file", Advice::kPandas, "read_feather"},
    {".orc", "an ORC file", Advice::kPandas, "read_orc"},
    {".xlsx", "an Excel file", Advice::kPandas, "read_excel"},
    {".bz2", "compressed with bzip2", Advice::kUnpack, "bzip2 -dc"},
    {".xz", "compressed with xz", Advice::kUnpack, "xz -dc"},
    {".lzma", "compressed with LZMA", Advice::kUnpack, "xz -dc"},
    {".lz4", "compressed with LZ4", Advice::kUnpack, "lz4 -dc"},
    {".zip", "a zip archive", Advice::kUnpack, "unzip -p"},
    {".7z", "a 7-Zip archive", Advice::kUnpack, "7z x -so"},
    {".tar", "a tar archive", Advice::kUnpack, "tar -xOf"},
};

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// The name as part of a command: one that the shell or Python might misread becomes FILE.
std::string Quotable(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_' || c == '+' || c == '=';
  });
  return plain && !name.empty() && name[0] != '-' ? name : "FILE";
}

// What the file will be called without the ending that it no longer deserves.
std::string Stem(const std::string& path) {
  return Quotable(std::filesystem::path(path).filename().stem().string());
}

std::string Advised(std::string_view name, Advice advice, std::string_view how,
                    const std::string& path) {
  const std::string file = Quotable(FileName(path)), to(how);
  std::string text(name);
  switch (advice) {
    case Advice::kUnpack:
      return text + "; decompress it first: " + to + " " + file + " > " + Stem(path);
    case Advice::kPandas:
      return text + "; this turns it into JSON lines: " + PandasCommand(how, path);
    case Advice::kArrowStream:
      return text +
             "; this turns it into JSON lines: import pyarrow; pyarrow.ipc.open_stream(open(\"" +
             file + "\", \"rb\")).read_pandas().to_json(\"" + Stem(path) +
             ".jsonl\", orient=\"records\", lines=True)";
    case Advice::kConvert:
      return text + "; this turns it into UTF-8: iconv -f " + to + " -t UTF-8 " + file +
             " > utf8-" + file;
    case Advice::kFetch:
      return text + "; this fetches it: " + to + ", in the directory where it lies";
    case Advice::kNone:
      break;
  }
  return text + ", not a text";
}

// UTF-16 or UTF-32 without a mark: of text with Latin letters every other byte, or three of four,
// are zero.
std::string_view WideEncoding(std::string_view beginning) {
  const std::string_view text = beginning.substr(0, beginning.size() / 4 * 4);
  if (text.size() < 16) return "";
  size_t zeros[4] = {};
  for (size_t i = 0; i < text.size(); ++i) zeros[i % 4] += text[i] == '\0';
  const size_t all = text.size() / 4, most = all - all / 4;
  const auto zero = [&](int a) { return zeros[a] >= most; };
  const auto none = [&](int a) { return zeros[a] == 0; };
  if (none(0) && zero(1) && zero(2) && zero(3)) return "UTF-32LE";
  if (zero(0) && zero(1) && zero(2) && none(3)) return "UTF-32BE";
  if (none(0) && zero(1) && none(2) && zero(3)) return "UTF-16LE";
  if (zero(0) && none(1) && zero(2) && none(3)) return "UTF-16BE";
  return "";
}

bool HasBinary(std::string_view beginning) {
  const size_t bad = FirstInvalidUtf8(beginning);
  const bool cut = beginning.size() >= kTellingBytes && bad + 3 >= beginning.size();
  if (bad != std::string_view::npos && !cut) return true;
  return std::any_of(beginning.begin(), beginning.end(),
                     [](char c) { return (c >= 0 && c < '\t') || (c > '\r' && c < '\x1b'); });
}

bool IsHtml(std::string_view beginning) {
  const size_t first = beginning.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return false;
  std::string text(beginning.substr(first, 16));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::any_of(std::begin(kHtml), std::end(kHtml),
                     [&](std::string_view tag) { return text.starts_with(tag); });
}

}  // namespace

std::string NameForeign(std::string_view beginning, const std::string& path) {
  beginning = beginning.substr(0, kTellingBytes);
  const bool binary = HasBinary(beginning);
  for (const Kind& kind : kKinds) {
    if (beginning.size() < kind.at || !beginning.substr(kind.at).starts_with(kind.magic)) continue;
    if (!kind.is_text && !binary) continue;
    return Advised(kind.name, kind.advice, kind.how, path);
  }
  // bzip2's fourth byte is the size of its blocks, '1' to '9'.
  if (beginning.starts_with("BZh") &&
      beginning.substr(std::min<size_t>(4, beginning.size()), 6) == "1AY&SY") {
    return Advised("compressed with bzip2", Advice::kUnpack, "bzip2 -dc", path);
  }
  const std::string_view wide = WideEncoding(beginning);
  if (!wide.empty()) return Advised("text in " + std::string(wide), Advice::kConvert, wide, path);
  if (IsHtml(beginning)) {
    return "an HTML page, such as a site answers with in place of a file; fetch it again, and look "
           "at what comes";
  }
  return "";
}

std::string NameForeignEnding(std::string_view ending, const std::string& path) {
  for (const Ending& row : kEndings) {
    if (row.ending == ending)
      return Advised(row.name, row.advice, row.how, path) + " (by its name)";
  }
  return "";
}

std::string PandasCommand(std::string_view function, const std::string& path) {
  return "import pandas; pandas." + std::string(function) + "(\"" + Quotable(FileName(path)) +
         "\").to_json(\"" + Stem(path) + ".jsonl\", orient=\"records\", lines=True)";
}

}  // namespace svdllm
