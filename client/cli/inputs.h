// Files as flags name them.
#pragma once

#include <string>
#include <utility>

namespace svdllm::cli {

bool IsLocalPath(const std::string& text);
// What the server is told of an input: a URI as it is, a path made absolute from directory.
std::string Located(const std::string& directory, const std::string& text);
// "wiki=/data/a.txt" → {"wiki", "/data/a.txt"}; without a name: {"", text}. A file name with '=' in
// it is written with a '/' before: ./a=b.
std::pair<std::string, std::string> SplitNamed(const std::string& text);
// "0.3:/data/a.txt" → {0.3, "/data/a.txt"}; without a weight: {1, text}. A file whose name begins
// so is written with a '/' before: ./1:b.
std::pair<double, std::string> SplitWeighted(const std::string& text);
// The file's name without its ending: what a text is called where nobody named it.
std::string StemOf(const std::string& uri);

}  // namespace svdllm::cli
