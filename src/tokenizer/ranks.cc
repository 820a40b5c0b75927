#include "tokenizer/ranks.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "tokenizer/byte_level.h"

namespace svdllm {
namespace {

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr int kSpecialTokens = 256;
constexpr size_t kMaxTokenBytes = 1 << 12;

absl::Status Corrupt(std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, what);
}

// The bytes that text spells; none where it is no base64.
std::optional<std::string> DecodeBase64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t value = kBase64.find(c);
    if (value == kBase64.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xff));
  }
  return bytes;
}

struct Line {
  std::string token;  // in the characters that stand for its bytes
  int32_t rank = 0;
};

std::optional<Line> ParseLine(std::string_view text) {
  const size_t space = text.find(' ');
  if (space == text.npos) return std::nullopt;
  const auto bytes = DecodeBase64(text.substr(0, space));
  if (!bytes || bytes->empty() || bytes->size() > kMaxTokenBytes) return std::nullopt;
  Line line;
  for (const char byte : *bytes) line.token += ByteCharacters()[static_cast<unsigned char>(byte)];
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + space + 1, end, line.rank);
  if (error != std::errc() || stop != end || line.rank < 0 ||
      line.rank > TokenizerPipeline::kMaxId - kSpecialTokens) {
    return std::nullopt;
  }
  return line;
}

std::string_view FirstLine(std::string_view text) {
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

absl::StatusOr<Vocabulary> ParseRanks(std::string_view content) {
  Vocabulary ranks;
  std::vector<bool> seen;
  int number = 0;
  for (std::string_view rest = content; !rest.empty();) {
    const std::string_view text = FirstLine(rest);
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
    ++number;
    if (text.empty()) continue;
    std::optional<Line> line = ParseLine(text);
    const auto id = static_cast<size_t>(line ? line->rank : 0);
    if (line && id >= seen.size()) seen.resize(id + 1);
    if (!line || seen[id] || !ranks.emplace(line->token, line->rank).second) {
      return Corrupt("line " + std::to_string(number) + ": no new token and rank");
    }
    seen[id] = true;
  }
  for (const std::string& byte : ByteCharacters()) {
    if (!ranks.contains(byte)) return Corrupt("not all bytes have a rank");
  }
  return ranks;
}

// The names that Meta's code gives to the ids after the ranks.
std::vector<std::string> SpecialTokens() {
  const auto reserved = [](int n) {
    return "<|reserved_special_token_" + std::to_string(n) + "|>";
  };
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    reserved(0),
                                    reserved(1),
                                    "<|finetune_right_pad_id|>",
                                    "<|step_id|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eom_id|>",
                                    "<|eot_id|>",
                                    "<|python_tag|>",
                                    "<|image|>"};
  for (int n = 2; names.size() < kSpecialTokens; ++n) names.push_back(reserved(n));
  return names;
}

absl::StatusOr<TokenizerPipeline> Load(std::string_view content, const TokenizerConfig& config) {
  ASSIGN_OR_RETURN(Vocabulary ranks, ParseRanks(content));
  TokenizerPipeline out;
  for (const auto& [token, rank] : ranks) {
    if (!TokenizerPipeline::IsPossible(rank, ranks.size())) {
      return Corrupt("impossible rank " + std::to_string(rank));
    }
    out.SetToken(rank, {.text = token});
  }
  const auto base = static_cast<int32_t>(out.tokens.size());
  std::vector<AddedToken> added;
  const std::vector<std::string> names = SpecialTokens();
  for (int32_t i = 0; i < kSpecialTokens; ++i) {
    added.push_back({.content = names[static_cast<size_t>(i)], .id = base + i, .special = true});
  }
  for (const AddedToken& token : config.added_tokens) {
    if (token.id < base ||
        !TokenizerPipeline::IsPossible(token.id, out.tokens.size() + config.added_tokens.size())) {
      return Corrupt("impossible id of added token " + token.content);
    }
    std::erase_if(added, [&](const AddedToken& other) { return other.id == token.id; });
    added.push_back(token);
  }
  for (const AddedToken& token : added) {
    out.added.Add(token, token.content);
    out.SetToken(token.id, {.text = token.content, .special = token.special});
  }
  out.bos_id = out.IdOf(config.bos_token.value_or(names[0]));
  out.eos_id = out.IdOf(config.eos_token.value_or(names[1]));
  if (!out.bos_id || !out.eos_id) return Corrupt("no bos_token or eos_token of that name");
  if (config.add_bos_token.value_or(true)) out.prefix.push_back(*out.bos_id);
  if (config.add_eos_token.value_or(false)) out.suffix.push_back(*out.eos_id);

  const ByteLevelKind* kind = FindByteLevelKind("llama-bpe");
  ASSIGN_OR_RETURN(Regex words, Regex::Compile(kind->words));
  out.model = WordTokenizer{{SplitWords{Pattern(std::move(words))}, MapBytes{}},
                            BpeModel::FromRanks(std::move(ranks)),
                            std::vector<DecoderStep>{BytesOfTokens{}}};
  return out;
}

}  // namespace

bool IsRankFile(std::string_view content) {
  return ParseLine(FirstLine(content.substr(0, 1024))).has_value();
}

absl::StatusOr<TokenizerPipeline> LoadRanks(const std::string& path, std::string_view content,
                                            const TokenizerConfig& config) {
  auto pipeline = Load(content, config);
  if (!pipeline.ok()) return Annotate(pipeline.status(), path);
  return pipeline;
}

}  // namespace svdllm
