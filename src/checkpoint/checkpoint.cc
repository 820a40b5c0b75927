#include "checkpoint/checkpoint.h"

#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "base/json.h"
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

absl::Status NotFound(const std::string& dir, const std::string& what) {
  return MakeError(absl::StatusCode::kNotFound, kModelNotFound, dir + ": " + what);
}

// Tensor name → shard's file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& dir) {
  const std::string path = dir + "/" + kIndex;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
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

struct Needed {
  std::string name;
  std::vector<int64_t> shape;
  bool is_order = false;  // indices, a permutation; everything else is numbers
};

// Every tensor that the model computes with, and which of them are parts of others.
class Needs {
 public:
  Needs(const ModelConfig& config, const Architecture& arch) : config_(config), arch_(arch) {
    for (const LowRankModule& module : config.low_rank) ranks_[module.name] = module.rank;
    Add(arch.embedding, {config.vocab_size, config.embedding_size});
    if (arch.position == PositionKind::kLearned) {
      Add(arch.positions, {config.max_position_embeddings + kLearnedOffset, config.hidden_size});
    }
    if (config.embedding_size != config.hidden_size) {
      Add(arch.project_in, {config.hidden_size, config.embedding_size});
      Add(arch.project_out, {config.embedding_size, config.hidden_size});
    }
    for (int64_t layer = 0; layer < config.num_layers; ++layer) AddLayer(layer);
    if (config.final_norm) AddNorm(std::string(arch.final_norm), config.hidden_size);
    if (!config.tie_word_embeddings) Add(arch.head, {config.vocab_size, config.embedding_size});
  }

  const std::vector<Needed>& tensors() const { return tensors_; }
  std::map<std::string, Checkpoint::Part>& parts() { return parts_; }

 private:
  void Add(std::string_view module, std::vector<int64_t> shape) {
    tensors_.push_back({std::string(module) + ".weight", std::move(shape)});
  }
  void AddNorm(const std::string& module, int64_t size) {
    Add(module, {size});
    if (arch_.norm == NormKind::kLayer) tensors_.push_back({module + ".bias", {size}});
  }

  void AddLayer(int64_t layer) {
    for (const std::string_view norm :
         {arch_.attn_norm, arch_.mlp_norm, arch_.attn_post_norm, arch_.mlp_post_norm}) {
      if (!norm.empty()) AddNorm(LayerPath(arch_, layer, norm), config_.hidden_size);
    }
    for (const std::string_view norm : {arch_.q_norm, arch_.k_norm}) {
      if (!norm.empty()) AddNorm(LayerPath(arch_, layer, norm), config_.head_dim);
    }
    for (const LinearRow& row : arch_.linears) {
      if (row.fused.empty() || IsInParts(layer, row.fused)) {
        AddLinear(layer, row);
      } else {
        AddPart(layer, row);
      }
    }
  }

  bool IsInParts(int64_t layer, std::string_view fused) const {
    for (const LinearRow& row : arch_.linears) {
      if (row.fused == fused && ranks_.count(LayerPath(arch_, layer, row.module)) > 0) return true;
    }
    return false;
  }

  void AddPart(int64_t layer, const LinearRow& row) {
    const std::string tensor = LayerPath(arch_, layer, row.fused) + ".weight";
    const LinearShape shape = ShapeOf(config_, row.id);
    const bool is_first = tensors_.back().name != tensor;
    if (is_first) tensors_.push_back({tensor, {0, shape.cols}});
    int64_t& rows = tensors_.back().shape[0];
    parts_[LayerPath(arch_, layer, row.module) + ".weight"] = {tensor, rows, shape.rows};
    rows += shape.rows;
  }

  void AddLinear(int64_t layer, const LinearRow& row) {
    const std::string module = LayerPath(arch_, layer, row.module);
    const LinearShape shape = ShapeOf(config_, row.id);
    const auto rank = ranks_.find(module);
    std::string bias = module + ".bias";
    if (rank == ranks_.end()) {
      Add(module, {shape.rows, shape.cols});
    } else {
      const int64_t b_rows = config_.pivoted ? shape.rows - rank->second : shape.rows;
      Add(module + ".low_rank_a", {rank->second, shape.cols});
      Add(module + ".low_rank_b", {b_rows, rank->second});
      if (config_.pivoted) {
        tensors_.push_back({module + ".low_rank_order", {shape.rows}, /*is_order=*/true});
      } else {
        bias = module + ".low_rank_b.bias";
      }
    }
    if (HasBias(config_, row.id)) tensors_.push_back({bias, {shape.rows}});
  }

  const ModelConfig& config_;
  const Architecture& arch_;
  std::map<std::string, int64_t> ranks_;
  std::vector<Needed> tensors_;
  std::map<std::string, Checkpoint::Part> parts_;
};

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

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& dir, bool require_manifest) {
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  struct stat info;
  if (stat(dir.c_str(), &info) != 0) return NotFound(dir, "no such directory");
  ASSIGN_OR_RETURN(const std::optional<std::string> gguf, GgufPathOf(dir));
  if (gguf) {
    ASSIGN_OR_RETURN(GgufModel model, GgufModel::Open(*gguf));
    checkpoint.config_text_ = model.config_text();
    for (const auto& [name, spec] : model.tensors()) checkpoint.tensors_->shard_of[name] = 0;
    checkpoint.gguf_ = std::make_shared<const GgufModel>(std::move(model));
    RETURN_IF_ERROR(checkpoint.ParseConfig());
  } else {
    if (!S_ISDIR(info.st_mode)) return NotFound(dir, "not a directory, and no .gguf file");
    RETURN_IF_ERROR(checkpoint.OpenDirectory(require_manifest));
  }
  RETURN_IF_ERROR(checkpoint.CheckTensors());
  return checkpoint;
}

absl::Status Checkpoint::OpenDirectory(bool require_manifest) {
  if (!Exists(dir_ + "/config.json")) return NotFound(dir_, "config.json is missing");
  ASSIGN_OR_RETURN(config_text_, ReadFile(dir_ + "/config.json", kMaxConfigBytes));
  RETURN_IF_ERROR(ParseConfig());
  if (require_manifest && config_.is_low_rank() && !Exists(dir_ + "/" + kManifest)) {
    return Corrupt(dir_, std::string(kManifest) + " is missing: the artifact is not complete");
  }
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
    for (const std::string& name : file.Names()) tensors_->shard_of[name] = 0;
    tensors_->shards.push_back(std::move(file));
    return absl::OkStatus();
  }
  if (!Exists(dir_ + "/" + kIndex)) {
    if (Exists(dir_ + "/pytorch_model.bin") || Exists(dir_ + "/pytorch_model.bin.index.json")) {
      return NotFound(dir_,
                      "only pytorch_model.bin is here; pickles are not read: save the model with "
                      "save_pretrained(..., safe_serialization=True) first");
    }
    return NotFound(dir_, std::string(kSingle) + " and " + kIndex + " are both missing");
  }
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
    tensors_->shard_of[name] = it->second;
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckTensors() {
  Needs needs(config_, *arch_);
  for (const Needed& needed : needs.tensors()) {
    if (!Has(needed.name)) return Corrupt(dir_, needed.name + ": missing");
    ASSIGN_OR_RETURN(const TensorSpec spec, Spec(needed.name));
    if (spec.shape != needed.shape) {
      return Corrupt(dir_, needed.name + ": shape is " + ShapeText(spec.shape) +
                               ", config.json asks for " + ShapeText(needed.shape));
    }
    if ((spec.dtype == DType::kI32) != needed.is_order) {
      return Corrupt(dir_, needed.name + ": dtype " + std::string(DTypeName(spec.dtype)) +
                               (needed.is_order ? " is not I32" : " is not a floating-point type"));
    }
    if (needed.is_order) {
      ASSIGN_OR_RETURN(const TensorView view, Tensor(needed.name));
      const std::string problem = CheckOrder(view);
      if (!problem.empty()) return Corrupt(dir_, needed.name + ": " + problem);
    } else {
      parameters_ += spec.bytes() / static_cast<int64_t>(SizeOf(spec.dtype));
    }
    weight_bytes_ += spec.bytes();
  }
  tensors_->parts = std::move(needs.parts());
  for (const auto& [name, part] : tensors_->parts) {
    if (tensors_->shard_of.count(name) > 0)
      return Corrupt(dir_, name + ": stored beside " + part.tensor);
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> Checkpoint::Tensor(const std::string& name) const {
  const auto it = tensors_->shard_of.find(name);
  if (const Part* part = PartOf(name); part != nullptr && it == tensors_->shard_of.end()) {
    ASSIGN_OR_RETURN(TensorView view, Tensor(part->tensor));
    const size_t row_bytes = view.bytes.size() / static_cast<size_t>(view.shape[0]);
    view.shape[0] = part->rows;
    view.bytes = view.bytes.subspan(static_cast<size_t>(part->first_row) * row_bytes,
                                    static_cast<size_t>(part->rows) * row_bytes);
    return view;
  }
  if (it == tensors_->shard_of.end()) {
    return absl::NotFoundError(dir_ + ": " + Printable(name) + ": no such tensor");
  }
  if (gguf_ != nullptr) return gguf_->Tensor(name);
  return tensors_->shards[it->second].Get(name);
}

absl::StatusOr<TensorSpec> Checkpoint::Spec(const std::string& name) const {
  if (gguf_ != nullptr && tensors_->shard_of.count(name) > 0) return gguf_->tensors().at(name);
  ASSIGN_OR_RETURN(TensorView view, Tensor(name));  // no more than a view
  return TensorSpec{name, view.dtype, std::move(view.shape)};
}

absl::StatusOr<TensorView> Checkpoint::Rows(const std::string& name,
                                            std::span<const int64_t> rows) const {
  if (gguf_ != nullptr && tensors_->shard_of.count(name) > 0) return gguf_->Rows(name, rows);
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

absl::StatusOr<std::map<std::string, std::string>> Checkpoint::SideFiles() const {
  if (gguf_ == nullptr) return std::map<std::string, std::string>();
  return gguf_->SideFiles();
}

void Checkpoint::WillNeed(const std::string& prefix) const {
  if (gguf_ != nullptr) return;
  for (auto it = tensors_->shard_of.lower_bound(prefix);
       it != tensors_->shard_of.end() && it->first.starts_with(prefix); ++it) {
    const absl::StatusOr<TensorView> tensor = tensors_->shards[it->second].Get(it->first);
    if (tensor.ok()) MappedFile::WillNeed(tensor->bytes);
  }
}

std::vector<std::string> Checkpoint::TensorNames() const {
  std::vector<std::string> names;
  names.reserve(tensors_->shard_of.size());
  for (const auto& [name, shard] : tensors_->shard_of) names.push_back(name);
  return names;
}

}  // namespace svdllm
