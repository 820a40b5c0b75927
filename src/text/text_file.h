// The one reader of files that people call texts: for calibration, perplexity and questions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "text/expand.h"

namespace svdllm {

// Far beyond any text that somebody calibrates or measures on; what is larger is another file.
inline constexpr int64_t kMaxTextBytes = int64_t{1} << 34;

// What the name of a file says.
struct TextName {
  std::string stem;    // "A.test" of "texts/A.test.JSONL.gz"
  std::string ending;  // ".jsonl", in lower case; empty where there is none
  Compression compression = Compression::kNone;
};
TextName TextNameOf(const std::string& path);

struct TextLimits {
  int64_t max_bytes = kMaxTextBytes;  // of the text, decompressed; more is refused
  int64_t first_bytes = 0;            // where above 0, no more than so many are read and kept
};

struct TextFile {
  std::string path;
  std::string ending;  // TextName's
  std::string text;    // UTF-8, without the byte order mark
  bool whole = true;   // false: only the beginning of it, to the end of a character
  double bytes = 0;  // of the whole text; where it is not whole an estimate, by what the part took
};

// Reads a file that is UTF-8 text, or such text in gzip (.gz) or Zstandard (.zst) where the name
// says so. DATASET_INVALID, with the path in front: NOT_FOUND where it is not there; else
// INVALID_ARGUMENT
//   for a directory, a pipe, a device or a socket, none of which is waited for;
//   for what text/foreign.h knows, with what to do about it; also inside of the compression;
//   for compressed data whose name does not say so, and for a name that says so of other data;
//   for bytes that are not UTF-8 and for NUL bytes, with line, column and byte;
//   for more than max_bytes, and for compressed data of more than kMaxExpansion times their size;
// or the system's error.
absl::StatusOr<TextFile> ReadTextFile(const std::string& path, const TextLimits& limits = {});

// No text is so repetitive; below kSurelyHarmless bytes nobody minds.
inline constexpr int64_t kMaxExpansion = 200;
inline constexpr int64_t kSurelyHarmless = int64_t{64} << 20;

// Where a byte of a text stands: "line 3, column 17", counted in characters from 1.
std::string PlaceIn(std::string_view text, size_t position);

}  // namespace svdllm
