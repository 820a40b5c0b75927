// The C interface between the tokenizer and the module that holds SentencePiece. It is a module
// because the distribution's SentencePiece exports a Protocol Buffers runtime of its own, older
// than the service's: in one symbol space each breaks the other.
#pragma once

#include <stddef.h>

namespace svdllm {

inline constexpr char kSentencePieceModule[] = "svdllm_sentencepiece.so";
inline constexpr char kSentencePieceSymbol[] = "svdllm_sentencepiece_api";

// Nothing throws. Results are handed to a callback during the call. Several threads may use a
// loaded processor at once.
struct SentencePieceApi {
  int version;  // kSentencePieceApiVersion
  // Returns a processor for a serialized model; or nullptr, after on_error with a text, where it is
  // no model.
  void* (*load)(const char* serialized, size_t size, void (*on_error)(void*, const char*),
                void* context);
  void (*destroy)(void* processor);
  // False, without a call of on_ids, where SentencePiece gives up.
  bool (*encode)(const void* processor, const char* text, size_t size,
                 void (*on_ids)(void*, const int*, size_t), void* context);
  int (*piece_to_id)(const void* processor, const char* piece, size_t size);
  void (*id_to_piece)(const void* processor, int id, void (*on_piece)(void*, const char*, size_t),
                      void* context);
  bool (*is_unknown)(const void* processor, int id);
  int (*size)(const void* processor);
};

inline constexpr int kSentencePieceApiVersion = 2;

}  // namespace svdllm
