// YAML files as trees with line numbers, read by libyaml. JSON is YAML too.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace svdllm::cli {

struct YamlNode {
  enum class Kind { kScalar, kList, kMap };
  Kind kind = Kind::kScalar;
  size_t line = 0;              // from 1
  std::string text;             // kScalar
  bool quoted = false;          // kScalar: a text, whatever it looks like
  std::vector<YamlNode> items;  // kList
  std::vector<std::pair<YamlNode, YamlNode>>
      members;  // kMap, in the file's order; keys are scalars

  // null, ~ or nothing at all.
  bool IsNull() const;
};

// Reads the one document of a file's text. Errors name the line. Refused are anchors, aliases,
// tags, keys that are no scalars, and nesting deeper than a request's.
absl::StatusOr<YamlNode> ParseYaml(const std::string& text);

}  // namespace svdllm::cli
