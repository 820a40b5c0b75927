#include "checkpoint/checkpoint.h"

#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "checkpoint/model_files.h"
#include "checkpoint/parse_config.h"

namespace svdllm {
namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kManifest[] = "compression_manifest.json";
constexpr int64_t kMaxConfigBytes = int64_t{1} << 22;
constexpr int64_t kMaxIndexBytes = int64_t{1} << 27;

absl::Status Corrupt(const std::string& dir, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, dir + ": " + what);
}

absl::Status Unsupported(const std::string& dir, const std::string& what) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedArchitecture, dir + ": " + what);
}

// Tensor name → shard's file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& dir) {
  const std::string path = dir + "/" + kIndex;
  ASSIGN_OR_RETURN(const std::string text, ReadModelFile(dir, kIndex, kMaxIndexBytes));
  absl::StatusOr<nlohmann::json> root = ParseJson(text);
  if (!root.ok()) return Corrupt(path, std::string(root.status().message()));
  if (!root->is_object() || !root->contains("weight_map") || !(*root)["weight_map"].is_object()) {
    return Corrupt(path, "weight_map: missing or not an object");
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, shard] : (*root)["weight_map"].items()) {
    if (!shard.is_string()) {
      return Corrupt(path, "weight_map: " + Printable(name) + ": not a file name");
    }
    const std::string file = shard.get<std::string>();
    // A path would read outside the directory, whose place was checked.
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return Corrupt(path, "weight_map: " + Printable(name) + ": " + Printable(file) +
                               " is not a plain file name");
    }
    shard_of[name] = file;
  }
  return shard_of;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t d : shape) text += (text.size() > 1 ? "," : "") + std::to_string(d);
  return text + "]";
}

// What transformers calls a stored tensor, when `known` are the names of the model's own. A base
// model is stored without the prefix "model." and still loads, and so does a tensor with one too
// many.
std::string CanonicalName(const std::set<std::string>& known, const std::string& stored) {
  static constexpr std::string_view kPrefix = "model.";
  if (known.count(stored) > 0) return stored;
  if (stored.starts_with(kPrefix) && known.count(stored.substr(kPrefix.size())) > 0) {
    return stored.substr(kPrefix.size());
  }
  std::string longer = std::string(kPrefix) + stored;
  return known.count(longer) > 0 ? longer : stored;
}

// Whether two tensors hold the same numbers, whatever their types.
bool AreEqual(const TensorView& a, const TensorView& b) {
  if (a.shape != b.shape) return false;
  if (a.dtype == b.dtype || a.dtype == DType::kI32 || b.dtype == DType::kI32) {
    return a.bytes.size() == b.bytes.size() &&
           std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
  }
  constexpr size_t kChunk = 1 << 16;
  std::vector<double> x(kChunk), y(kChunk);
  const auto count = static_cast<size_t>(a.elements());
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t chunk = std::min(kChunk, count - begin);
    ConvertElements(&a.bytes[begin * SizeOf(a.dtype)], a.dtype, x.data(), DType::kF64, chunk);
    ConvertElements(&b.bytes[begin * SizeOf(b.dtype)], b.dtype, y.data(), DType::kF64, chunk);
    if (!std::equal(x.begin(), x.begin() + static_cast<ptrdiff_t>(chunk), y.begin())) return false;
  }
  return true;
}

// Empty where the indices are those of 0..n-1 in some order.
std::string CheckOrder(const TensorView& view) {
  const int64_t n = view.elements();
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::memcpy(order.data(), view.bytes.data(), view.bytes.size());
  std::vector<bool> seen(order.size());
  for (const int32_t index : order) {
    if (index < 0 || index >= n) {
      return "index " + std::to_string(index) + " is not between 0 and " + std::to_string(n - 1);
    }
    if (seen[static_cast<size_t>(index)])
      return "index " + std::to_string(index) + " appears twice";
    seen[static_cast<size_t>(index)] = true;
  }
  return "";
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path, bool require_manifest) {
  ASSIGN_OR_RETURN(const ModelPlace place, FindModel(path));
  Checkpoint checkpoint;
  checkpoint.dir_ = place.path;
  if (place.gguf) {
    ASSIGN_OR_RETURN(GgufModel model, GgufModel::Open(*place.gguf));
    checkpoint.config_text_ = model.config_text();
    for (const auto& [name, spec] : model.tensors()) checkpoint.tensors_->places[name] = {0, name};
    checkpoint.gguf_ = std::make_shared<const GgufModel>(std::move(model));
    RETURN_IF_ERROR(checkpoint.ParseConfig());
  } else {
    RETURN_IF_ERROR(checkpoint.OpenDirectory(require_manifest));
  }
  RETURN_IF_ERROR(checkpoint.NameTensors());
  RETURN_IF_ERROR(checkpoint.UntieWhereHeadDiffers());
  RETURN_IF_ERROR(checkpoint.RefuseOtherHeads());
  RETURN_IF_ERROR(checkpoint.CheckTensors());
  return checkpoint;
}

absl::Status Checkpoint::OpenDirectory(bool require_manifest) {
  ASSIGN_OR_RETURN(config_text_, ReadModelFile(dir_, "config.json", kMaxConfigBytes));
  RETURN_IF_ERROR(ParseConfig());
  if (require_manifest && config_.is_low_rank() && !Exists(dir_ + "/" + kManifest)) {
    return Corrupt(dir_, std::string(kManifest) + " is missing: the artifact is not complete");
  }
  RETURN_IF_ERROR(CheckCompanions(dir_));
  return OpenShards();
}

absl::Status Checkpoint::ParseConfig() {
  absl::StatusOr<ModelConfig> config = ParseModelConfig(config_text_);
  if (!config.ok()) return Annotate(config.status(), dir_);
  config_ = *std::move(config);
  arch_ = FindArchitecture(config_.family);
  for (const LowRankModule& module : config_.low_rank) tensors_->factored.insert(module.name);
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenShards() {
  if (Exists(dir_ + "/" + kSingle)) {  // as transformers: it goes before an index
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(dir_ + "/" + kSingle));
    for (const std::string& name : file.Names()) tensors_->places[name] = {0, name};
    tensors_->shards.push_back(std::move(file));
    return absl::OkStatus();
  }
  if (!Exists(dir_ + "/" + kIndex)) return NoWeights(dir_);
  ASSIGN_OR_RETURN(const auto index, ReadIndex(dir_));
  std::map<std::string, size_t> opened;
  for (const auto& [name, file] : index) {
    const auto [it, is_new] = opened.emplace(file, tensors_->shards.size());
    if (is_new) {
      const std::string path = dir_ + "/" + file;
      if (!Exists(path)) {
        return Corrupt(dir_, "shard " + Printable(file) + " is missing (the index names it for " +
                                 Printable(name) + ")");
      }
      ASSIGN_OR_RETURN(SafetensorsFile shard, SafetensorsFile::Open(path));
      tensors_->shards.push_back(std::move(shard));
    }
    if (!tensors_->shards[it->second].Has(name)) {
      return Corrupt(dir_, Printable(name) + ": not in shard " + Printable(file) +
                               ", where the index places it");
    }
    tensors_->places[name] = {it->second, name};
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::NameTensors() {
  const std::string head = std::string(arch_->head) + ".weight";
  const std::string embedding = std::string(arch_->embedding) + ".weight";
  std::set<std::string> known = {head};
  for (const NeededTensor& needed : NeedsOf(config_, *arch_).tensors) known.insert(needed.name);
  std::map<std::string, Place> places;
  for (auto& [stored, place] : tensors_->places) {
    const auto [it, is_new] = places.emplace(CanonicalName(known, stored), std::move(place));
    if (!is_new) {
      return Corrupt(
          dir_, it->first + ": stored twice, as " + it->second.stored_name + " and as " + stored);
    }
  }
  if (config_.tie_word_embeddings && places.count(embedding) == 0) {
    if (auto only = places.extract(head)) {
      only.key() = embedding;
      places.insert(std::move(only));
    }
  }
  tensors_->places = std::move(places);
  return absl::OkStatus();
}

absl::Status Checkpoint::UntieWhereHeadDiffers() {
  const std::string head = std::string(arch_->head) + ".weight";
  const std::string embedding = std::string(arch_->embedding) + ".weight";
  if (!config_.tie_word_embeddings || !Has(head) || !Has(embedding)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const TensorView stored, Tensor(head));
  ASSIGN_OR_RETURN(const TensorView tied, Tensor(embedding));
  if (AreEqual(stored, tied)) return absl::OkStatus();
  config_.tie_word_embeddings = false;
  // Parsed and checked before. What is published must compute the same wherever it is loaded.
  auto config = nlohmann::ordered_json::parse(config_text_);
  config["tie_word_embeddings"] = false;
  config_text_ = config.dump(2) + "\n";
  return absl::OkStatus();
}

absl::Status Checkpoint::RefuseOtherHeads() const {
  for (const char* name : {"score.weight", "classifier.weight", "qa_outputs.weight"}) {
    if (Has(name)) {
      return Unsupported(dir_, std::string(name) +
                                   ": the head of a classifier; only models that "
                                   "predict the next token are supported");
    }
  }
  const std::string head = std::string(arch_->head) + ".weight";
  if (config_.is_base_model && !config_.tie_word_embeddings && !Has(head)) {
    return Unsupported(dir_, "architectures: " + std::string(arch_->classes) +
                                 "Model has no head: " + head +
                                 " is not stored, and the embedding is not tied to it");
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckTensors() {
  TensorNeeds needs = NeedsOf(config_, *arch_);
  for (const NeededTensor& needed : needs.tensors) RETURN_IF_ERROR(CheckTensor(needed));
  tensors_->parts = std::move(needs.parts);
  for (const auto& [name, part] : tensors_->parts) {
    if (tensors_->places.count(name) > 0)
      return Corrupt(dir_, name + ": stored beside " + part.tensor);
  }
  return absl::OkStatus();
}

// Counts it, too.
absl::Status Checkpoint::CheckTensor(const NeededTensor& needed) {
  if (!Has(needed.name)) return Corrupt(dir_, needed.name + ": missing");
  ASSIGN_OR_RETURN(const TensorSpec spec, Spec(needed.name));
  if (spec.shape != needed.shape) {
    return Corrupt(dir_, needed.name + ": shape is " + ShapeText(spec.shape) +
                             ", config.json asks for " + ShapeText(needed.shape));
  }
  const bool foreign = !spec.foreign_type.empty();
  if (foreign || (spec.dtype == DType::kI32) != needed.is_order) {
    return Corrupt(dir_, needed.name + ": dtype " + Printable(spec.type_name()) +
                             (needed.is_order ? " is not I32"
                              : foreign ? " is not a type that is supported (F64, F32, F16, BF16)"
                                        : " is not a floating-point type"));
  }
  if (needed.is_order) {
    ASSIGN_OR_RETURN(const TensorView view, Tensor(needed.name));
    const std::string problem = CheckOrder(view);
    if (!problem.empty()) return Corrupt(dir_, needed.name + ": " + problem);
  } else {
    parameters_ += spec.bytes() / static_cast<int64_t>(SizeOf(spec.dtype));
  }
  weight_bytes_ += spec.bytes();
  tensors_->used.insert(needed.name);
  return absl::OkStatus();
}

absl::StatusOr<TensorView> Checkpoint::Tensor(const std::string& name) const {
  const auto it = tensors_->places.find(name);
  if (const Part* part = PartOf(name); part != nullptr && it == tensors_->places.end()) {
    ASSIGN_OR_RETURN(TensorView view, Tensor(part->tensor));
    const size_t row_bytes = view.bytes.size() / static_cast<size_t>(view.shape[0]);
    view.shape[0] = part->rows;
    view.bytes = view.bytes.subspan(static_cast<size_t>(part->first_row) * row_bytes,
                                    static_cast<size_t>(part->rows) * row_bytes);
    return view;
  }
  if (it == tensors_->places.end()) {
    return absl::NotFoundError(dir_ + ": " + Printable(name) + ": no such tensor");
  }
  if (gguf_ != nullptr) return gguf_->Tensor(name);
  return tensors_->shards[it->second.shard].Get(it->second.stored_name);
}

absl::StatusOr<TensorSpec> Checkpoint::Spec(const std::string& name) const {
  const auto it = tensors_->places.find(name);
  if (gguf_ != nullptr && it != tensors_->places.end()) return gguf_->tensors().at(name);
  if (it != tensors_->places.end()) {
    ASSIGN_OR_RETURN(RawTensor raw, tensors_->shards[it->second.shard].Raw(it->second.stored_name));
    if (!DTypeOf(raw.type)) {
      return TensorSpec{name, DType::kF32, std::move(raw.shape), std::string(raw.type),
                        static_cast<int64_t>(raw.bytes.size())};
    }
  }
  ASSIGN_OR_RETURN(TensorView view, Tensor(name));  // no more than a view
  return TensorSpec{name, view.dtype, std::move(view.shape)};
}

absl::StatusOr<Checkpoint::Bytes> Checkpoint::FiniteBytes(const std::string& name) const {
  ASSIGN_OR_RETURN(const TensorSpec spec, Spec(name));
  Bytes copy;
  if (spec.foreign_type.empty()) {
    ASSIGN_OR_RETURN(const TensorView view, Tensor(name));
    copy = {view.bytes, view.owner};
  } else {
    const Place& place = tensors_->places.at(name);
    ASSIGN_OR_RETURN(const RawTensor raw, tensors_->shards[place.shard].Raw(place.stored_name));
    copy = {raw.bytes, nullptr};
  }
  if (!AllFinite({spec.type_name(), spec.shape, copy.bytes})) {
    return Corrupt(dir_, Printable(name) + ": holds NaN or infinite values");
  }
  return copy;
}

absl::StatusOr<TensorView> Checkpoint::Rows(const std::string& name,
                                            std::span<const int64_t> rows) const {
  if (gguf_ != nullptr && tensors_->places.count(name) > 0) return gguf_->Rows(name, rows);
  ASSIGN_OR_RETURN(TensorView view, Tensor(name));
  const size_t row_bytes =
      view.shape[0] == 0 ? 0 : view.bytes.size() / static_cast<size_t>(view.shape[0]);
  auto data = std::make_shared<std::vector<std::byte>>(rows.size() * row_bytes);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(data->data() + i * row_bytes,
                view.bytes.data() + static_cast<size_t>(rows[i]) * row_bytes, row_bytes);
  }
  view.shape[0] = static_cast<int64_t>(rows.size());
  view.bytes = *data;
  view.owner = std::move(data);
  return view;
}

std::vector<std::string> Checkpoint::WeightFiles() const {
  if (gguf_ != nullptr) return {dir_};
  std::vector<std::string> paths;
  for (const SafetensorsFile& shard : tensors_->shards) paths.push_back(shard.path());
  return paths;
}

absl::StatusOr<std::vector<SideFile>> Checkpoint::SideFiles() const { return SideFilesOf(dir_); }

absl::StatusOr<std::map<std::string, std::string>> Checkpoint::MadeFiles() const {
  if (gguf_ == nullptr) return std::map<std::string, std::string>();
  return gguf_->SideFiles();
}

void Checkpoint::WillNeed(const std::string& prefix) const {
  if (gguf_ != nullptr) return;
  for (auto it = tensors_->places.lower_bound(prefix);
       it != tensors_->places.end() && it->first.starts_with(prefix); ++it) {
    const auto& [shard, stored_name] = it->second;
    const absl::StatusOr<RawTensor> tensor = tensors_->shards[shard].Raw(stored_name);
    if (tensor.ok()) MappedFile::WillNeed(tensor->bytes);
  }
}

std::vector<std::string> Checkpoint::TensorNames() const {
  std::vector<std::string> names;
  names.reserve(tensors_->places.size());
  for (const auto& [name, place] : tensors_->places) names.push_back(name);
  return names;
}

}  // namespace svdllm
