// SentencePiece's serialized ModelProto: the parts of it that the library does not tell, and
// decoding, which needs only these.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace svdllm {

struct SentencePieceProto {
  enum class PieceType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;                         // by id
  std::unordered_map<std::string, int> id_of_piece;  // where several pieces have a text, the last
  bool bpe = false, suffix_spaces = false;           // trainer_spec
  std::string unknown_surface = " \xe2\x81\x87 ";    // what an unknown piece is decoded to
  bool charsmap = false, dummy_prefix = true;        // normalizer_spec
  bool remove_spaces = true, escape_spaces = true;

  // Reads up to what it does not understand. The cautious defaults stay for the rest.
  static SentencePieceProto Parse(std::string_view serialized);

  // Returns the text of pieces, as SentencePiece joins them. with_dummy_prefix says whether the
  // processor that decodes puts a space in front of texts.
  std::string Decode(const std::vector<std::string>& texts, bool with_dummy_prefix) const;
};

}  // namespace svdllm
