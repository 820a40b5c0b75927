#include "client/cli/yaml.h"

#include <yaml.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace svdllm::cli {
namespace {

constexpr int kDeepest = 32;

absl::Status ErrorAt(size_t line, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", what));
}

// The number of "\uXXXX" at text[at]; -1 where there is none.
int64_t EscapedUnit(const std::string& text, size_t at) {
  uint32_t unit = 0;
  const bool is_escape = text.compare(at, 2, "\\u") == 0 && at + 6 <= text.size();
  if (!is_escape || !absl::SimpleHexAtoi(text.substr(at + 2, 4), &unit)) return -1;
  return unit;
}

// JSON writes characters past U+FFFF as two escapes, which YAML does not know: they become one of
// YAML's.
std::string JoinSurrogates(const std::string& json) {
  std::string joined;
  for (size_t at = 0; at < json.size();) {
    const int64_t high = EscapedUnit(json, at);
    const int64_t low = high < 0 ? -1 : EscapedUnit(json, at + 6);
    if (high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
      absl::StrAppendFormat(&joined, "\\U%08x", 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
      at += 12;
    } else {
      const size_t bytes = json[at] == '\\' ? 2 : 1;  // "\\u" is no escape of a character
      joined += json.substr(at, bytes);
      at += bytes;
    }
  }
  return joined;
}

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text_.data()),
                                 text_.size());
  }
  ~Reader() {
    yaml_event_delete(&event_);
    yaml_parser_delete(&parser_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  absl::StatusOr<YamlNode> Document() {
    for (const auto type : {YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT}) {
      RETURN_IF_ERROR(Next());
      if (event_.type != type) return absl::InvalidArgumentError("is empty");
    }
    RETURN_IF_ERROR(Next());
    ASSIGN_OR_RETURN(YamlNode root, Node(0));
    RETURN_IF_ERROR(Next());  // the document's end
    RETURN_IF_ERROR(Next());
    if (event_.type != YAML_STREAM_END_EVENT) return ErrorAt(Line(), "a second document begins");
    return root;
  }

 private:
  size_t Line() const { return event_.start_mark.line + 1; }

  absl::Status Next() {
    yaml_event_delete(&event_);
    if (yaml_parser_parse(&parser_, &event_) != 0) return absl::OkStatus();
    event_ = {};
    size_t line = parser_.problem_mark.line + 1;
    if (parser_.error == YAML_READER_ERROR) {  // no text: it has no mark then
      const size_t end = std::min(parser_.problem_offset, text_.size());
      line = 1 + static_cast<size_t>(std::count(text_.begin(), text_.begin() + end, '\n'));
    }
    const std::string problem = parser_.problem == nullptr ? "is no YAML" : parser_.problem;
    return ErrorAt(line, problem);
  }

  // Of the event that was read last, up to its own end.
  absl::StatusOr<YamlNode> Node(int depth) {
    if (depth > kDeepest) return ErrorAt(Line(), "is nested too deeply");
    YamlNode node;
    node.line = Line();
    switch (event_.type) {
      case YAML_SCALAR_EVENT: {
        const auto& scalar = event_.data.scalar;
        if (scalar.anchor != nullptr || scalar.tag != nullptr) return Fancy();
        node.text.assign(reinterpret_cast<const char*>(scalar.value), scalar.length);
        node.quoted = scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return node;
      }
      case YAML_SEQUENCE_START_EVENT:
        if (event_.data.sequence_start.anchor != nullptr ||
            event_.data.sequence_start.tag != nullptr) {
          return Fancy();
        }
        node.kind = YamlNode::Kind::kList;
        RETURN_IF_ERROR(Next());
        while (event_.type != YAML_SEQUENCE_END_EVENT) {
          ASSIGN_OR_RETURN(YamlNode item, Node(depth + 1));
          node.items.push_back(std::move(item));
          RETURN_IF_ERROR(Next());
        }
        return node;
      case YAML_MAPPING_START_EVENT:
        if (event_.data.mapping_start.anchor != nullptr ||
            event_.data.mapping_start.tag != nullptr) {
          return Fancy();
        }
        node.kind = YamlNode::Kind::kMap;
        RETURN_IF_ERROR(Next());
        while (event_.type != YAML_MAPPING_END_EVENT) {
          ASSIGN_OR_RETURN(YamlNode key, Node(depth + 1));
          if (key.kind != YamlNode::Kind::kScalar) return ErrorAt(key.line, "a key is no name");
          RETURN_IF_ERROR(Next());
          ASSIGN_OR_RETURN(YamlNode value, Node(depth + 1));
          node.members.emplace_back(std::move(key), std::move(value));
          RETURN_IF_ERROR(Next());
        }
        return node;
      default:
        return Fancy();
    }
  }

  absl::Status Fancy() const {
    return ErrorAt(Line(), "anchors, aliases and tags of YAML are not read here");
  }

  const std::string& text_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
};

}  // namespace

bool YamlNode::IsNull() const {
  return kind == Kind::kScalar && !quoted && (text.empty() || text == "~" || text == "null");
}

absl::StatusOr<YamlNode> ParseYaml(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string::npos && text[first] == '{';
  const std::string readable = is_json ? JoinSurrogates(text) : text;
  return Reader(readable).Document();
}

}  // namespace svdllm::cli
