// Files that are no text, known by how they begin, and what to do about each.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// How many bytes of a file's beginning tell what it is.
inline constexpr size_t kTellingBytes = 1024;

// What a file is that begins like this, and what to do with it: "a Parquet file; this turns it into
// JSON lines: …". Empty where nothing speaks against UTF-8 text. Knows tables (Parquet, Arrow,
// Avro, ORC, SQLite), archives and compressed files of all kinds, other encodings of text,
// stand-ins of Git LFS and git-annex, HTML pages, models and arrays. path: names the file in
// commands; it is not opened.
std::string NameForeign(std::string_view beginning, const std::string& path);

// The same by the ending of the name alone, for what is announced there and cannot be read: ".bz2",
// ".parquet" and the like. ending: in lower case, with its dot.
std::string NameForeignEnding(std::string_view ending, const std::string& path);

// A command that turns a table into JSON lines by a function of pandas: "read_csv".
std::string PandasCommand(std::string_view function, const std::string& path);

}  // namespace svdllm
