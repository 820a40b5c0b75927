#include "model/checkpoint.h"

#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "model/json_text.h"

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

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
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

// Every tensor that the model computes with.
std::vector<Needed> NeededTensors(const ModelConfig& config, const Architecture& arch) {
  std::map<std::string, int64_t> ranks;
  for (const LowRankModule& module : config.low_rank) ranks[module.name] = module.rank;
  std::vector<Needed> needed;
  needed.push_back({std::string(arch.embedding), {config.vocab_size, config.hidden_size}});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = std::string(arch.layer_prefix) + std::to_string(layer) + ".";
    needed.push_back({prefix + std::string(arch.attn_norm), {config.hidden_size}});
    needed.push_back({prefix + std::string(arch.mlp_norm), {config.hidden_size}});
    for (const LinearRow& row : arch.linears) {
      const std::string module = ModulePath(arch, layer, row.id);
      const LinearShape shape = ShapeOf(config, row.id);
      const auto rank = ranks.find(module);
      std::string bias = module + ".bias";
      if (rank == ranks.end()) {
        needed.push_back({module + ".weight", {shape.rows, shape.cols}});
      } else {
        const int64_t b_rows = config.pivoted ? shape.rows - rank->second : shape.rows;
        needed.push_back({module + ".low_rank_a.weight", {rank->second, shape.cols}});
        needed.push_back({module + ".low_rank_b.weight", {b_rows, rank->second}});
        if (config.pivoted) {
          needed.push_back({module + ".low_rank_order", {shape.rows}, /*is_order=*/true});
        } else {
          bias = module + ".low_rank_b.bias";
        }
      }
      if (HasBias(config, row.id)) needed.push_back({bias, {shape.rows}});
    }
  }
  needed.push_back({std::string(arch.final_norm), {config.hidden_size}});
  if (!config.tie_word_embeddings) {
    needed.push_back({std::string(arch.head), {config.vocab_size, config.hidden_size}});
  }
  return needed;
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

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& dir, bool require_manifest) {
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  struct stat info;
  if (stat(dir.c_str(), &info) != 0) return NotFound(dir, "no such directory");
  if (!S_ISDIR(info.st_mode)) return NotFound(dir, "not a directory");
  if (!Exists(dir + "/config.json")) return NotFound(dir, "config.json is missing");
  ASSIGN_OR_RETURN(checkpoint.config_text_, ReadFile(dir + "/config.json", kMaxConfigBytes));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(checkpoint.config_text_);
  if (!config.ok()) return Annotate(config.status(), dir);
  checkpoint.config_ = *std::move(config);
  checkpoint.arch_ = FindArchitecture(checkpoint.config_.family);
  if (require_manifest && checkpoint.config_.is_low_rank() && !Exists(dir + "/" + kManifest)) {
    return Corrupt(dir, std::string(kManifest) + " is missing: the artifact is not complete");
  }
  RETURN_IF_ERROR(checkpoint.OpenShards());
  RETURN_IF_ERROR(checkpoint.CheckTensors());
  return checkpoint;
}

absl::Status Checkpoint::OpenShards() {
  if (Exists(dir_ + "/" + kSingle)) {  // as transformers: it goes before an index
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(dir_ + "/" + kSingle));
    for (const std::string& name : file.Names()) shard_of_[name] = 0;
    shards_.push_back(std::move(file));
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
    const auto [it, is_new] = opened.emplace(file, shards_.size());
    if (is_new) {
      const std::string path = dir_ + "/" + file;
      if (!Exists(path)) {
        return Corrupt(dir_, "shard " + Printable(file) + " is missing (the index names it for " +
                                 Printable(name) + ")");
      }
      ASSIGN_OR_RETURN(SafetensorsFile shard, SafetensorsFile::Open(path));
      shards_.push_back(std::move(shard));
    }
    if (!shards_[it->second].Has(name)) {
      return Corrupt(dir_, Printable(name) + ": not in shard " + Printable(file) +
                               ", where the index places it");
    }
    shard_of_[name] = it->second;
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckTensors() {
  for (const Needed& needed : NeededTensors(config_, *arch_)) {
    if (!Has(needed.name)) return Corrupt(dir_, needed.name + ": missing");
    ASSIGN_OR_RETURN(const TensorView view, Tensor(needed.name));
    if (view.shape != needed.shape) {
      return Corrupt(dir_, needed.name + ": shape is " + ShapeText(view.shape) +
                               ", config.json asks for " + ShapeText(needed.shape));
    }
    if ((view.dtype == DType::kI32) != needed.is_order) {
      return Corrupt(dir_, needed.name + ": dtype " + std::string(DTypeName(view.dtype)) +
                               (needed.is_order ? " is not I32" : " is not a floating-point type"));
    }
    if (needed.is_order) {
      const std::string problem = CheckOrder(view);
      if (!problem.empty()) return Corrupt(dir_, needed.name + ": " + problem);
    } else {
      parameters_ += view.elements();
    }
    weight_bytes_ += static_cast<int64_t>(view.bytes.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> Checkpoint::Tensor(const std::string& name) const {
  const auto it = shard_of_.find(name);
  if (it == shard_of_.end()) {
    return absl::NotFoundError(dir_ + ": " + Printable(name) + ": no such tensor");
  }
  return shards_[it->second].Get(name);
}

std::vector<std::string> Checkpoint::TensorNames() const {
  std::vector<std::string> names;
  names.reserve(shard_of_.size());
  for (const auto& [name, shard] : shard_of_) names.push_back(name);
  return names;
}

}  // namespace svdllm
