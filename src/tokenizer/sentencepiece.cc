#include "tokenizer/sentencepiece.h"

#include <cstddef>
#include <cstdint>

#include "base/module.h"
#include "tokenizer/sentencepiece_module.h"

namespace svdllm {

// A processor behind the module's C interface.
class SentencePieceProcessor {
 public:
  static absl::StatusOr<std::unique_ptr<SentencePieceProcessor>> Load(std::string_view serialized) {
    static const absl::StatusOr<void*> module =
        OpenModule(kSentencePieceModule, kSentencePieceSymbol);
    if (!module.ok()) return Missing(std::string(module.status().message()));
    const auto* api = static_cast<const SentencePieceApi*>(*module);
    if (api->version != kSentencePieceApiVersion) {
      return Missing(std::string(kSentencePieceModule) + " is of another version of this program");
    }
    const auto on_error = [](void* text, const char* message) {
      *static_cast<std::string*>(text) = message;
    };
    std::string error;
    void* processor = api->load(serialized.data(), serialized.size(), on_error, &error);
    if (processor == nullptr) {
      return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                       "not a SentencePiece model: " + error);
    }
    return std::unique_ptr<SentencePieceProcessor>(new SentencePieceProcessor(api, processor));
  }
  SentencePieceProcessor(const SentencePieceProcessor&) = delete;
  SentencePieceProcessor& operator=(const SentencePieceProcessor&) = delete;
  ~SentencePieceProcessor() { api_->destroy(processor_); }

  // Replaces what is in ids.
  absl::Status Encode(std::string_view text, std::vector<int>* ids) const {
    const auto on_ids = [](void* out, const int* data, size_t size) {
      static_cast<std::vector<int>*>(out)->assign(data, data + size);
    };
    if (api_->encode(processor_, text.data(), text.size(), on_ids, ids)) return absl::OkStatus();
    return MakeError(
        absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
        "SentencePiece gives up at a text of " + std::to_string(text.size()) + " bytes");
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
  // The file may be well: it is the server that lacks a part.
  static absl::Status Missing(const std::string& why) {
    return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                     "this installation cannot read SentencePiece models: " + why);
  }

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

absl::StatusOr<SentencePieceModel> SentencePieceModel::Parse(std::string serialized, bool legacy,
                                                             const std::string& unk_token) {
  SentencePieceModel model;
  model.proto_ = SentencePieceProto::Parse(serialized);
  const SentencePieceProto& spec = model.proto_;
  const bool plain = spec.bpe && !spec.suffix_spaces && !spec.charsmap && !spec.remove_spaces &&
                     spec.escape_spaces;
  if (!legacy || plain) serialized.append(kNoDummyPrefix);
  ASSIGN_OR_RETURN(model.processor_, SentencePieceProcessor::Load(serialized));
  model.legacy_ = legacy;
  model.unk_token_ = unk_token;
  if (!legacy) {
    std::vector<int> ids;
    RETURN_IF_ERROR(model.processor_->Encode(unk_token, &ids));
    model.unk_token_length_ = ids.size();
  }
  model.by_word_ = plain && model.Find(kSpacePiece) >= 0;
  for (int id = 0; id < model.size() && model.by_word_; ++id) {
    model.by_word_ = !HasInnerSpace(model.processor_->IdToPiece(id));
  }
  // Not by word after all: load it again, as the library wants it.
  if (plain && !model.by_word_ && legacy) {
    serialized.resize(serialized.size() - kNoDummyPrefix.size());
    ASSIGN_OR_RETURN(model.processor_, SentencePieceProcessor::Load(serialized));
  }
  model.add_dummy_prefix_ = legacy && spec.dummy_prefix;
  return model;
}

absl::Status SentencePieceModel::EncodeWhole(std::string_view text,
                                             std::vector<int32_t>* ids) const {
  std::vector<int> pieces;
  const bool shield =
      !legacy_ && !text.empty() && (text[0] == ' ' || text.starts_with(kSpacePiece));
  size_t skip = 0;
  if (shield) {
    // SentencePiece would strip leading spaces here; transformers shields them with the text of
    // the unknown token, and drops that token's pieces.
    const std::string shielded = unk_token_ + std::string(text);
    RETURN_IF_ERROR(processor_->Encode(shielded, &pieces));
    if (pieces.size() >= unk_token_length_) skip = unk_token_length_;
  } else {
    RETURN_IF_ERROR(processor_->Encode(text, &pieces));
  }
  ids->insert(ids->end(), pieces.begin() + static_cast<std::ptrdiff_t>(skip), pieces.end());
  return absl::OkStatus();
}

absl::Status SentencePieceModel::Encode(std::string_view text, Seen* seen,
                                        std::vector<int32_t>* ids) const {
  if (!by_word_) return EncodeWhole(text, ids);
  std::vector<int> pieces;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = WordEnd(text, pos);
    const std::string_view word = text.substr(pos, end - pos);
    const bool prefix = pos == 0 && add_dummy_prefix_;
    pos = end;
    if (prefix) {
      RETURN_IF_ERROR(processor_->Encode(" " + std::string(word), &pieces));
      ids->insert(ids->end(), pieces.begin(), pieces.end());
      continue;
    }
    const auto [it, is_new] = seen->try_emplace(word, ids->size(), 0);
    auto& [begin, count] = it->second;
    if (is_new) {
      RETURN_IF_ERROR(processor_->Encode(word, &pieces));
      count = pieces.size();
      ids->insert(ids->end(), pieces.begin(), pieces.end());
    } else {
      for (size_t i = 0; i < count; ++i) ids->push_back(int32_t{(*ids)[begin + i]});
    }
  }
  return absl::OkStatus();
}

int32_t SentencePieceModel::Find(std::string_view piece) const {
  const int id = processor_->PieceToId(piece);
  return processor_->IsUnknown(id) && processor_->IdToPiece(id) != piece ? -1 : id;
}

std::string SentencePieceModel::Piece(int32_t id) const { return processor_->IdToPiece(id); }

std::string SentencePieceModel::Decode(const std::vector<std::string>& pieces) const {
  return proto_.Decode(pieces, legacy_ && proto_.dummy_prefix);
}

int32_t SentencePieceModel::size() const { return processor_->GetPieceSize(); }

}  // namespace svdllm
