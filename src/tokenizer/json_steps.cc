#include "tokenizer/json_steps.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace svdllm {
namespace {

using nlohmann::json;

// The words that byte-level tokenizers cut a text into unless they are told otherwise.
constexpr std::string_view kByteLevelWords =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// The reference takes these two from other Unicode tables (17 and 8) than its expressions.
constexpr std::string_view kNumeric = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";
constexpr const char* kPunctuation =
    R"((?![\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B7D}\x{1B7E}\x{2E43}-\x{2E4F})"
    R"(\x{2E52}-\x{2E5D}\x{10EAD}\x{10F55}-\x{10F59}\x{10F86}-\x{10F89}\x{1144B}-\x{1144F})"
    R"(\x{1145A}\x{1145B}\x{1145D}\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946})"
    R"(\x{119E2}\x{11A3F}-\x{11A46}\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11C41}-\x{11C45})"
    R"(\x{11C70}\x{11C71}\x{11EF7}\x{11EF8}\x{11FFF}\x{12FF1}\x{12FF2}\x{16E97}-\x{16E9A})"
    R"(\x{16FE2}\x{1E95E}\x{1E95F}])[\p{P}\x{166D}\x{111C9}!-/:-@\[-`{-~])";

absl::StatusOr<Pattern> ParsePattern(const json& pattern) {
  if (const auto it = pattern.find("Regex"); it != pattern.end()) {
    ASSIGN_OR_RETURN(Regex regex, Regex::Compile(it->get_ref<const std::string&>()));
    return Pattern(std::move(regex));
  }
  std::string literal = pattern.at("String").get<std::string>();
  if (literal.empty()) return UnsupportedComponent("pattern", "\"\"");
  return Pattern(std::move(literal));
}

absl::StatusOr<SplitBehavior> ParseBehavior(const std::string& name) {
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [known, behavior] : kBehaviors) {
    if (name == known) return behavior;
  }
  return UnsupportedComponent("behavior", name);
}

absl::Status ParseSplit(const json& component, std::vector<PreTokenizerStep>* steps) {
  ASSIGN_OR_RETURN(Pattern pattern, ParsePattern(component.at("pattern")));
  ASSIGN_OR_RETURN(const SplitBehavior behavior,
                   ParseBehavior(component.at("behavior").get<std::string>()));
  steps->push_back(SplitWords{std::move(pattern), behavior, component.value("invert", false)});
  return absl::OkStatus();
}

absl::Status ParseByteLevel(const json& component, std::vector<PreTokenizerStep>* steps) {
  if (component.value("add_prefix_space", true)) steps->push_back(PrependToWords{" "});
  if (component.value("use_regex", true)) {
    ASSIGN_OR_RETURN(Regex words, Regex::Compile(kByteLevelWords));
    steps->push_back(SplitWords{Pattern(std::move(words))});
  }
  steps->push_back(MapBytes{});
  return absl::OkStatus();
}

absl::Status ParseMetaspace(const json& component, std::vector<PreTokenizerStep>* steps) {
  const auto replacement = component.at("replacement").get<std::string>();
  if (replacement.empty()) return UnsupportedComponent("replacement", "\"\"");
  // Files older than prepend_scheme have add_prefix_space.
  const std::string scheme = component.value(
      "prepend_scheme", component.value("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return UnsupportedComponent("prepend_scheme", scheme);
  }
  steps->push_back(ReplaceInWords{" ", replacement});
  if (scheme != "never") steps->push_back(PrependToWords{replacement, scheme == "first"});
  if (component.value("split", true)) {
    steps->push_back(SplitWords{Pattern(replacement), SplitBehavior::kMergedWithNext});
  }
  return absl::OkStatus();
}

absl::Status ParseDigits(const json& component, std::vector<PreTokenizerStep>* steps) {
  ASSIGN_OR_RETURN(Regex numeric, Regex::Compile(kNumeric));
  const bool individual = component.value("individual_digits", false);
  steps->push_back(SplitWords{Pattern(std::move(numeric)),
                              individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
  return absl::OkStatus();
}

absl::Status ParsePunctuation(const json& component, std::vector<PreTokenizerStep>* steps) {
  ASSIGN_OR_RETURN(Regex punctuation, Regex::CompilePcre(kPunctuation));
  ASSIGN_OR_RETURN(const SplitBehavior behavior,
                   ParseBehavior(component.value("behavior", "Isolated")));
  steps->push_back(SplitWords{Pattern(std::move(punctuation)), behavior});
  return absl::OkStatus();
}

}  // namespace

absl::Status UnsupportedComponent(std::string_view part, std::string_view type) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                   std::string(part) + " " + std::string(type) + " is not supported");
}

absl::Status ParseNormalizer(const json& component, std::vector<NormalizerStep>* steps) {
  if (component.is_null()) return absl::OkStatus();
  const auto type = component.at("type").get<std::string>();
  if (type == "Sequence") {
    for (const json& inner : component.at("normalizers")) {
      RETURN_IF_ERROR(ParseNormalizer(inner, steps));
    }
  } else if (type == "NFC") {
    steps->push_back(NormalForm::kNfc);
  } else if (type == "NFD") {
    steps->push_back(NormalForm::kNfd);
  } else if (type == "NFKC") {
    steps->push_back(NormalForm::kNfkc);
  } else if (type == "NFKD") {
    steps->push_back(NormalForm::kNfkd);
  } else if (type == "Prepend") {
    steps->push_back(PrependToText{component.at("prepend").get<std::string>()});
  } else if (type == "Replace") {
    ASSIGN_OR_RETURN(Pattern pattern, ParsePattern(component.at("pattern")));
    steps->push_back(ReplaceInText{std::move(pattern), component.at("content").get<std::string>()});
  } else if (type == "Strip") {
    steps->push_back(
        StripText{component.value("strip_left", true), component.value("strip_right", true)});
  } else {
    return UnsupportedComponent("normalizer", type);
  }
  return absl::OkStatus();
}

absl::Status ParsePreTokenizer(const json& component, std::vector<PreTokenizerStep>* steps) {
  if (component.is_null()) return absl::OkStatus();
  const auto type = component.at("type").get<std::string>();
  if (type == "Sequence") {
    for (const json& inner : component.at("pretokenizers")) {
      RETURN_IF_ERROR(ParsePreTokenizer(inner, steps));
    }
    return absl::OkStatus();
  }
  if (type == "Split") return ParseSplit(component, steps);
  if (type == "ByteLevel") return ParseByteLevel(component, steps);
  if (type == "Metaspace") return ParseMetaspace(component, steps);
  if (type == "Digits") return ParseDigits(component, steps);
  if (type == "Punctuation") return ParsePunctuation(component, steps);
  if (type == "WhitespaceSplit") {
    ASSIGN_OR_RETURN(Regex space, Regex::Compile("\\s"));
    steps->push_back(SplitWords{Pattern(std::move(space)), SplitBehavior::kRemoved});
    return absl::OkStatus();
  }
  return UnsupportedComponent("pre_tokenizer", type);
}

absl::Status ParseDecoder(const json& component, std::vector<DecoderStep>* steps) {
  if (component.is_null()) return absl::OkStatus();
  const auto type = component.at("type").get<std::string>();
  if (type == "Sequence") {
    for (const json& inner : component.at("decoders")) {
      RETURN_IF_ERROR(ParseDecoder(inner, steps));
    }
  } else if (type == "ByteLevel") {
    steps->push_back(BytesOfTokens{});
  } else if (type == "ByteFallback") {
    steps->push_back(BytesOfFallback{});
  } else if (type == "Fuse") {
    steps->push_back(JoinTokens{});
  } else if (type == "Strip") {
    StripTokens strip{component.at("content").get<std::string>(), component.value("start", 0),
                      component.value("stop", 0)};
    if (strip.content.empty()) return UnsupportedComponent("decoder Strip content", "\"\"");
    steps->push_back(std::move(strip));
  } else if (type == "Replace") {
    // No file is known that has an expression here, which could fail in the middle of an answer.
    ASSIGN_OR_RETURN(Pattern pattern, ParsePattern(component.at("pattern")));
    auto* const literal = std::get_if<std::string>(&pattern);
    if (literal == nullptr) return UnsupportedComponent("decoder Replace pattern", "Regex");
    steps->push_back(
        ReplaceInTokens{std::move(*literal), component.at("content").get<std::string>()});
  } else if (type == "Metaspace") {
    const auto replacement = component.at("replacement").get<std::string>();
    if (replacement.empty()) return UnsupportedComponent("replacement", "\"\"");
    const std::string scheme = component.value(
        "prepend_scheme", component.value("add_prefix_space", true) ? "always" : "never");
    steps->push_back(SpacesOfTokens{replacement, scheme != "never"});
  } else {
    return UnsupportedComponent("decoder", type);
  }
  return absl::OkStatus();
}

}  // namespace svdllm
