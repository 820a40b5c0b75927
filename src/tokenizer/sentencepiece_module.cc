#include "tokenizer/sentencepiece_module.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace svdllm {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

const Processor& Of(const void* processor) { return *static_cast<const Processor*>(processor); }

void* Load(const char* serialized, size_t size, void (*on_error)(void*, const char*),
           void* context) {
  try {
    auto processor = std::make_unique<Processor>();
    const auto status = processor->LoadFromSerializedProto({serialized, size});
    if (status.ok()) return processor.release();
    on_error(context, status.ToString().c_str());
  } catch (const std::exception& error) {
    on_error(context, error.what());
  }
  return nullptr;
}

void Destroy(void* processor) { delete static_cast<Processor*>(processor); }

bool Encode(const void* processor, const char* text, size_t size,
            void (*on_ids)(void*, const int*, size_t), void* context) {
  std::vector<int> ids;
  try {
    if (!Of(processor).Encode({text, size}, &ids).ok()) return false;
  } catch (const std::exception&) {
    return false;
  }
  on_ids(context, ids.data(), ids.size());
  return true;
}

int PieceToId(const void* processor, const char* piece, size_t size) {
  return Of(processor).PieceToId({piece, size});
}

void IdToPiece(const void* processor, int id, void (*on_piece)(void*, const char*, size_t),
               void* context) {
  const std::string& piece = Of(processor).IdToPiece(id);
  on_piece(context, piece.data(), piece.size());
}

bool IsUnknown(const void* processor, int id) { return Of(processor).IsUnknown(id); }

int Size(const void* processor) { return Of(processor).GetPieceSize(); }

}  // namespace
}  // namespace svdllm

extern "C" __attribute__((visibility("default")))
const svdllm::SentencePieceApi svdllm_sentencepiece_api = {svdllm::kSentencePieceApiVersion,
                                                           svdllm::Load,
                                                           svdllm::Destroy,
                                                           svdllm::Encode,
                                                           svdllm::PieceToId,
                                                           svdllm::IdToPiece,
                                                           svdllm::IsUnknown,
                                                           svdllm::Size};
