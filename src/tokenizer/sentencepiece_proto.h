// SentencePiece's serialized ModelProto: what of it the library does not tell, and decoding, which
// needs no more than that.
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
  std::unordered_map<std::string, int> id_of_piece;  // of each text the last
  bool bpe = false, suffix_spaces = false;           // trainer_spec
  std::string unknown_surface = " \xe2\x81\x87 ";    // what an unknown piece is decoded to
  bool charsmap = false, dummy_prefix = true;        // normalizer_spec
  bool remove_spaces = true, escape_spaces = true;

  // Stops at what it does not understand: the cautious defaults stay for the rest.
  static SentencePieceProto Parse(std::string_view serialized);

  // The text of pieces, as SentencePiece joins them; dummy_prefix: whether the processor that
  // decodes is taken to put a space in front of texts.
  std::string Decode(const std::vector<std::string>& texts, bool with_dummy_prefix) const;
};

}  // namespace svdllm
