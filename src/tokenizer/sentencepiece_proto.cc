#include "tokenizer/sentencepiece_proto.h"

#include <cstdint>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/decode.h"

namespace svdllm {
namespace {

constexpr std::string_view kSpacePiece = "\xe2\x96\x81";  // U+2581
constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

// Reads protobuf's wire format; it stops at what it does not understand.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}

  // The next field; its value is in number or in bytes.
  bool Next() {
    const uint64_t tag = Varint();
    field = tag >> 3;
    switch (tag & 7) {
      case 0:
        number = Varint();
        break;
      case 1:
        bytes = Take(8);
        break;
      case 2:
        bytes = Take(Varint());
        break;
      case 5:
        bytes = Take(4);
        break;
      default:
        ok_ = false;
    }
    return ok_;
  }

  uint64_t field = 0, number = 0;
  std::string_view bytes;

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = Take(1);
      if (byte.empty()) return 0;
      value |= (uint64_t{static_cast<unsigned char>(byte[0])} & 0x7f) << shift;
      if ((byte[0] & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  std::string_view Take(uint64_t n) {
    ok_ = ok_ && n <= bytes_.size();
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

SentencePieceProto::Piece ParsePiece(std::string_view bytes) {
  SentencePieceProto::Piece piece;
  for (WireReader part(bytes); part.Next();) {
    if (part.field == 1) piece.text = std::string(part.bytes);
    if (part.field == 3) piece.type = static_cast<SentencePieceProto::PieceType>(part.number);
  }
  return piece;
}

// Bytes that <0xNN> pieces spell: each that is no part of a character becomes U+FFFD.
void AppendBytes(std::string_view bytes, std::string* out) {
  while (!bytes.empty()) {
    const size_t length = CharLength(bytes[0]);
    if (length <= bytes.size() && IsValidUtf8(bytes.substr(0, length))) {
      out->append(bytes.substr(0, length));
      bytes.remove_prefix(length);
    } else {
      out->append(kReplacementCharacter);
      bytes.remove_prefix(1);
    }
  }
}

}  // namespace

SentencePieceProto SentencePieceProto::Parse(std::string_view serialized) {
  SentencePieceProto proto;
  for (WireReader model(serialized); model.Next();) {
    if (model.field == 1) proto.pieces.push_back(ParsePiece(model.bytes));
    if (model.field != 2 && model.field != 3) continue;
    for (WireReader part(model.bytes); part.Next();) {
      if (model.field == 2) {
        if (part.field == 3) proto.bpe = part.number == 2;
        if (part.field == 24) proto.suffix_spaces = part.number != 0;
        if (part.field == 44) proto.unknown_surface = std::string(part.bytes);
      } else {
        if (part.field == 2) proto.charsmap = !part.bytes.empty();
        if (part.field == 3) proto.dummy_prefix = part.number != 0;
        if (part.field == 4) proto.remove_spaces = part.number != 0;
        if (part.field == 5) proto.escape_spaces = part.number != 0;
      }
    }
  }
  for (size_t id = 0; id < proto.pieces.size(); ++id) {
    proto.id_of_piece[proto.pieces[id].text] = static_cast<int>(id);
  }
  return proto;
}

std::string SentencePieceProto::Decode(const std::vector<std::string>& texts,
                                       bool with_dummy_prefix) const {
  std::string out;
  std::string bytes;          // of the <0xNN> pieces just before
  bool at_start = true;       // nothing has been written yet
  bool prefix_taken = false;  // the last piece lost the space that encoding puts in front
  for (const std::string& text : texts) {
    const auto it = id_of_piece.find(text);
    const PieceType type = it == id_of_piece.end() ? PieceType::kUnknown
                                                   : pieces[static_cast<size_t>(it->second)].type;
    if (type == PieceType::kByte) {
      bytes.push_back(static_cast<char>(FallbackByte(text)));
      continue;
    }
    AppendBytes(std::exchange(bytes, {}), &out);
    if (prefix_taken || !out.empty()) at_start = false;
    prefix_taken = false;
    if (type == PieceType::kControl) continue;
    if (type == PieceType::kUnknown) {
      out += it == id_of_piece.end() ? text : unknown_surface;
      continue;
    }
    std::string_view rest = text;
    if (at_start && (with_dummy_prefix || remove_spaces) && rest.starts_with(kSpacePiece)) {
      rest.remove_prefix(kSpacePiece.size());
      // Where spaces are removed, all that lead go.
      prefix_taken = !remove_spaces;
    }
    out += ReplaceAll(rest, kSpacePiece, " ");
  }
  AppendBytes(bytes, &out);
  return out;
}

}  // namespace svdllm
