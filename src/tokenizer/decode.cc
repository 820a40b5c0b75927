#include "tokenizer/decode.h"

#include <array>
#include <unordered_map>

#include "base/utf8.h"

namespace svdllm {
namespace {

constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

const std::unordered_map<char32_t, char>& BytesOfCharacters() {
  static const auto bytes = [] {
    std::unordered_map<char32_t, char> map;
    const auto& characters = ByteCharacters();
    for (size_t byte = 0; byte < characters.size(); ++byte) {
      map.emplace(DecodeChar(characters[byte], 0), static_cast<char>(byte));
    }
    return map;
  }();
  return bytes;
}

std::string Bytes(const std::vector<std::string>& tokens) {
  const auto& bytes = BytesOfCharacters();
  std::string out;
  for (const std::string& token : tokens) {
    const size_t begin = out.size();
    for (size_t pos = 0; pos < token.size(); pos += CharLength(token[pos])) {
      const auto it = bytes.find(DecodeChar(token, pos));
      if (it == bytes.end()) {  // an added token, written as it is
        out.resize(begin);
        out.append(token);
        break;
      }
      out.push_back(it->second);
    }
  }
  return ToValidUtf8(out);
}

std::vector<std::string> Fallback(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (IsValidUtf8(bytes)) {
      out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), std::string(kReplacementCharacter));
    }
    bytes.clear();
  };
  for (const std::string& token : tokens) {
    if (const int byte = FallbackByte(token); byte >= 0) {
      bytes.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(token);
  }
  flush();
  return out;
}

std::string Join(const std::vector<std::string>& tokens) {
  std::string out;
  for (const std::string& token : tokens) out += token;
  return out;
}

void Strip(const StripTokens& step, std::string* token) {
  std::string_view rest = *token;
  for (int i = 0; i < step.start && rest.starts_with(step.content); ++i) {
    rest.remove_prefix(step.content.size());
  }
  for (int i = 0; i < step.stop && rest.ends_with(step.content); ++i) {
    rest.remove_suffix(step.content.size());
  }
  *token = std::string(rest);
}

}  // namespace

int FallbackByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

std::string ApplyDecoder(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens) {
  for (const DecoderStep& step : steps) {
    std::visit(Overloaded{[&](const BytesOfTokens&) { tokens = {Bytes(tokens)}; },
                          [&](const BytesOfFallback&) { tokens = Fallback(tokens); },
                          [&](const JoinTokens&) { tokens = {Join(tokens)}; },
                          [&](const StripTokens& strip) {
                            for (std::string& token : tokens) Strip(strip, &token);
                          },
                          [&](const SpacesOfTokens& spaces) {
                            for (size_t i = 0; i < tokens.size(); ++i) {
                              const bool drop = i == 0 && spaces.drop_first;
                              tokens[i] =
                                  ReplaceAll(tokens[i], spaces.replacement, drop ? "" : " ");
                            }
                          },
                          [&](const ReplaceInTokens& replace) {
                            for (std::string& token : tokens) {
                              token = ReplaceAll(token, replace.from, replace.to);
                            }
                          }},
               step);
  }
  return Join(tokens);
}

}  // namespace svdllm
