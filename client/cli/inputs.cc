#include "client/cli/inputs.h"

#include <filesystem>

#include "absl/strings/numbers.h"

namespace svdllm::cli {

bool IsLocalPath(const std::string& text) { return text.find("://") == std::string::npos; }

std::string Located(const std::string& directory, const std::string& text) {
  if (!IsLocalPath(text)) return text;
  std::filesystem::path path = (std::filesystem::path(directory) / text).lexically_normal();
  if (!path.has_filename() && path.has_relative_path())
    path = path.parent_path();  // a slash at the end
  return path.string();
}

std::pair<std::string, std::string> SplitNamed(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || text.find_first_of("/:") < equals)
    return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::pair<double, std::string> SplitWeighted(const std::string& text) {
  const size_t colon = text.find(':');
  double weight = 1;
  if (colon == std::string::npos || !absl::SimpleAtod(text.substr(0, colon), &weight)) {
    return {1, text};
  }
  return {weight, text.substr(colon + 1)};
}

std::string StemOf(const std::string& uri) { return std::filesystem::path(uri).stem().string(); }

}  // namespace svdllm::cli
