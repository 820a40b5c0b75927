#include "model/tokenizer_sentencepiece.h"

#include <cstddef>
#include <cstdint>

#include "base/module.h"
#include "model/sentencepiece_module.h"

namespace svdllm {

// A processor behind the module's C interface.
class SentencePieceProcessor {
 public:
  static std::unique_ptr<SentencePieceProcessor> Load(std::string_view serialized,
                                                      std::string* error) {
    static const absl::StatusOr<void*> module =
        OpenModule(kSentencePieceModule, kSentencePieceSymbol);
    if (!module.ok()) {
      *error = std::string(module.status().message());
      return nullptr;
    }
    const auto* api = static_cast<const SentencePieceApi*>(*module);
    if (api->version != kSentencePieceApiVersion) {
      *error = std::string(kSentencePieceModule) + ": of another version of this program";
      return nullptr;
    }
    const auto on_error = [](void* text, const char* message) {
      *static_cast<std::string*>(text) = message;
    };
    void* processor = api->load(serialized.data(), serialized.size(), on_error, error);
    if (processor == nullptr) return nullptr;
    return std::unique_ptr<SentencePieceProcessor>(new SentencePieceProcessor(api, processor));
  }
  SentencePieceProcessor(const SentencePieceProcessor&) = delete;
  SentencePieceProcessor& operator=(const SentencePieceProcessor&) = delete;
  ~SentencePieceProcessor() { api_->destroy(processor_); }

  // Replaces what is in ids.
  void Encode(std::string_view text, std::vector<int>* ids) const {
    const auto on_ids = [](void* out, const int* data, size_t size) {
      static_cast<std::vector<int>*>(out)->assign(data, data + size);
    };
    api_->encode(processor_, text.data(), text.size(), on_ids, ids);
  }
  int PieceToId(std::string_view piece) const {
    return api_->piece_to_id(processor_, piece.data(), piece.size());
  }
  std::string IdToPiece(int id) const {
    std::string piece;
    const auto on_piece = [](void* out, const char* data, size_t size) {
      static_cast<std::string*>(out)->assign(data, size);
    };
    api_->id_to_piece(processor_, id, on_piece, &piece);
    return piece;
  }
  bool IsUnknown(int id) const { return api_->is_unknown(processor_, id); }
  int GetPieceSize() const { return api_->size(processor_); }

 private:
  SentencePieceProcessor(const SentencePieceApi* api, void* processor)
      : api_(api), processor_(processor) {}

  const SentencePieceApi* api_;
  void* processor_;
};

namespace {

// A normalizer_spec (field 3 of ModelProto) with add_dummy_prefix (field 3) false. Appended to a
// serialized model it is merged with the one that is there.
constexpr std::string_view kNoDummyPrefix("\x1a\x02\x18\x00", 4);
constexpr std::string_view kSpacePiece = "\xe2\x96\x81";  // U+2581

// What of the serialized ModelProto the library does not tell.
struct ModelSpec {
  bool bpe = false, suffix_spaces = false;     // trainer_spec
  bool charsmap = false, dummy_prefix = true;  // normalizer_spec
  bool remove_spaces = true, escape_spaces = true;
};

// Reads protobuf's wire format; it stops at what it does not understand, so that the defaults of
// ModelSpec, which are cautious, stay.
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

ModelSpec ReadSpec(std::string_view serialized) {
  ModelSpec spec;
  for (WireReader model(serialized); model.Next();) {
    if (model.field != 2 && model.field != 3) continue;
    for (WireReader part(model.bytes); part.Next();) {
      if (model.field == 2) {
        if (part.field == 3) spec.bpe = part.number == 2;
        if (part.field == 24) spec.suffix_spaces = part.number != 0;
      } else {
        if (part.field == 2) spec.charsmap = !part.bytes.empty();
        if (part.field == 3) spec.dummy_prefix = part.number != 0;
        if (part.field == 4) spec.remove_spaces = part.number != 0;
        if (part.field == 5) spec.escape_spaces = part.number != 0;
      }
    }
  }
  return spec;
}

size_t SpaceLength(std::string_view text, size_t pos) {
  if (pos < text.size() && text[pos] == ' ') return 1;
  return text.compare(pos, kSpacePiece.size(), kSpacePiece) == 0 ? kSpacePiece.size() : 0;
}

// Where the word that starts at pos, spaces first, ends.
size_t WordEnd(std::string_view text, size_t pos) {
  while (const size_t length = SpaceLength(text, pos)) pos += length;
  while (pos < text.size() && SpaceLength(text, pos) == 0) ++pos;
  return pos;
}

bool HasInnerSpace(std::string_view piece) { return WordEnd(piece, 0) < piece.size(); }

}  // namespace

SentencePieceModel::SentencePieceModel() = default;
SentencePieceModel::SentencePieceModel(SentencePieceModel&&) noexcept = default;
SentencePieceModel& SentencePieceModel::operator=(SentencePieceModel&&) noexcept = default;
SentencePieceModel::~SentencePieceModel() = default;

std::optional<SentencePieceModel> SentencePieceModel::Parse(std::string serialized, bool legacy,
                                                            const std::string& unk_token,
                                                            std::string* error) {
  const ModelSpec spec = ReadSpec(serialized);
  const bool plain = spec.bpe && !spec.suffix_spaces && !spec.charsmap && !spec.remove_spaces &&
                     spec.escape_spaces;
  if (!legacy || plain) serialized.append(kNoDummyPrefix);
  SentencePieceModel model;
  model.processor_ = SentencePieceProcessor::Load(serialized, error);
  if (model.processor_ == nullptr) return std::nullopt;
  model.legacy_ = legacy;
  model.unk_token_ = unk_token;
  if (!legacy) {
    std::vector<int> ids;
    model.processor_->Encode(unk_token, &ids);
    model.unk_token_length_ = ids.size();
  }
  model.by_word_ = plain && model.Find(kSpacePiece) >= 0;
  for (int id = 0; id < model.size() && model.by_word_; ++id) {
    model.by_word_ = !HasInnerSpace(model.processor_->IdToPiece(id));
  }
  // Not by word after all: load it again, as the library wants it.
  if (plain && !model.by_word_ && legacy) {
    serialized.resize(serialized.size() - kNoDummyPrefix.size());
    model.processor_ = SentencePieceProcessor::Load(serialized, error);
    if (model.processor_ == nullptr) return std::nullopt;
  }
  model.add_dummy_prefix_ = legacy && spec.dummy_prefix;
  return model;
}

void SentencePieceModel::EncodeWhole(std::string_view text, std::vector<int32_t>* ids) const {
  std::vector<int> pieces;
  const bool shield =
      !legacy_ && !text.empty() && (text[0] == ' ' || text.starts_with(kSpacePiece));
  size_t skip = 0;
  if (shield) {
    // SentencePiece would strip leading spaces here; transformers shields them with the text of
    // the unknown token, and drops that token's pieces.
    const std::string shielded = unk_token_ + std::string(text);
    processor_->Encode(shielded, &pieces);
    if (pieces.size() >= unk_token_length_) skip = unk_token_length_;
  } else {
    processor_->Encode(text, &pieces);
  }
  ids->insert(ids->end(), pieces.begin() + static_cast<std::ptrdiff_t>(skip), pieces.end());
}

void SentencePieceModel::Encode(std::string_view text, Seen* seen,
                                std::vector<int32_t>* ids) const {
  if (!by_word_) {
    EncodeWhole(text, ids);
    return;
  }
  std::vector<int> pieces;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = WordEnd(text, pos);
    const std::string_view word = text.substr(pos, end - pos);
    const bool prefix = pos == 0 && add_dummy_prefix_;
    pos = end;
    if (prefix) {
      processor_->Encode(" " + std::string(word), &pieces);
      ids->insert(ids->end(), pieces.begin(), pieces.end());
      continue;
    }
    const auto [it, is_new] = seen->try_emplace(word, ids->size(), 0);
    auto& [begin, count] = it->second;
    if (is_new) {
      processor_->Encode(word, &pieces);
      count = pieces.size();
      ids->insert(ids->end(), pieces.begin(), pieces.end());
    } else {
      for (size_t i = 0; i < count; ++i) ids->push_back(int32_t{(*ids)[begin + i]});
    }
  }
}

int32_t SentencePieceModel::Find(std::string_view piece) const {
  const int id = processor_->PieceToId(piece);
  return processor_->IsUnknown(id) && processor_->IdToPiece(id) != piece ? -1 : id;
}

int32_t SentencePieceModel::size() const { return processor_->GetPieceSize(); }

}  // namespace svdllm
