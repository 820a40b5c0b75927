#include "artifact/writer.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "artifact/assets.h"
#include "artifact/manifest.h"
#include "base/files.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kShardBytes = int64_t{4} << 30;

// Copied byte for byte where the source has them.
constexpr std::string_view kCopiedFiles[] = {
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
    "generation_config.json",
    "LICENSE.txt",
    "NOTICE",
    "USE_POLICY.md",
    "tokenizer.model.v1",
    "tokenizer.model.v2",
    "tokenizer.model.v3",
    "tokenizer.model.v7",
};

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// "llama" → "LowRankLlama", the prefix of the classes in modeling_svdllm.py: what transformers
// calls the family's own classes, behind "LowRank".
std::string ClassPrefix(const std::string& family) {
  if (family == "opt") return "LowRankOPT";
  if (family == "gemma3_text") return "LowRankGemma3Text";
  return "LowRank" + std::string(1, static_cast<char>(std::toupper(family[0]))) + family.substr(1);
}

}  // namespace

absl::StatusOr<ArtifactWriter> ArtifactWriter::Create(const Checkpoint& checkpoint,
                                                      const std::vector<Target>& targets,
                                                      const CompressSpec& spec, double keep_ratio,
                                                      std::vector<int64_t> ranks,
                                                      const std::string& staging_dir) {
  ArtifactWriter writer;
  writer.checkpoint_ = &checkpoint;
  writer.targets_ = &targets;
  writer.spec_ = &spec;
  writer.keep_ratio_ = keep_ratio;
  writer.ranks_ = std::move(ranks);
  writer.dir_ = staging_dir;

  // Stored tensor → the targets in it, where any of them is compressed: one, but for a fused
  // module.
  std::map<std::string, std::vector<size_t>> compressed;
  std::map<std::string, std::string> renamed;
  const bool pivoted = spec.encoding == Encoding::kPivoted;
  const auto stored = [&](const Target& target) {
    const std::string weight = target.name + ".weight";
    const Checkpoint::Part* part = checkpoint.PartOf(weight);
    return part != nullptr ? part->tensor : weight;
  };
  for (size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    const int64_t rank = writer.ranks_[i];
    writer.target_parameters_ +=
        StoredNumbers(spec.encoding, target.rows, target.cols, writer.factored() ? rank : 0);
    if (rank == 0) continue;
    compressed[stored(target)];
    if (writer.factored() && !pivoted)
      renamed[target.name + ".bias"] = target.name + ".low_rank_b.bias";
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    const auto found = compressed.find(stored(targets[i]));
    if (found != compressed.end()) found->second.push_back(i);
  }
  std::vector<std::vector<TensorSpec>> shards(1);
  int64_t bytes = 0;
  const auto add = [&](TensorSpec tensor) {
    if (bytes > 0 && bytes + tensor.bytes() > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.bytes();
    writer.weight_bytes_ += tensor.bytes();
    if (tensor.dtype != DType::kI32) {  // an order is no parameter
      writer.parameters_ += tensor.bytes() / static_cast<int64_t>(SizeOf(tensor.dtype));
    }
    writer.shard_of_[tensor.name] = shards.size() - 1;
    shards.back().push_back(std::move(tensor));
  };
  for (const std::string& name : checkpoint.TensorNames()) {
    ASSIGN_OR_RETURN(const TensorSpec source, checkpoint.Spec(name));
    const auto found = compressed.find(name);
    if (found == compressed.end()) {
      const auto new_name = renamed.find(name);
      const std::string& output = new_name == renamed.end() ? name : new_name->second;
      writer.copied_[output] = name;
      add({output, source.dtype, source.shape});
      continue;
    }
    if (!writer.factored()) add({name, source.dtype, source.shape});
    for (const size_t i : found->second) {
      const Target& target = targets[i];
      const int64_t rank = writer.ranks_[i];
      const std::string weight = target.name + ".weight";
      if (rank == 0) writer.copied_[weight] = weight;
      if (!writer.factored()) continue;
      if (rank == 0) {
        add({weight, source.dtype, {target.rows, target.cols}});
        continue;
      }
      add({target.name + ".low_rank_a.weight", source.dtype, {rank, target.cols}});
      const int64_t b_rows = pivoted ? target.rows - rank : target.rows;
      add({target.name + ".low_rank_b.weight", source.dtype, {b_rows, rank}});
      if (pivoted) add({target.name + ".low_rank_order", DType::kI32, {target.rows}});
    }
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    writer.shard_names_.push_back(
        fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    ASSIGN_OR_RETURN(
        SafetensorsWriter shard,
        SafetensorsWriter::Create(staging_dir + "/" + writer.shard_names_.back(), shards[i]));
    writer.shards_.push_back(std::move(shard));
  }
  return writer;
}

absl::Status ArtifactWriter::Write(const std::string& name, std::span<const std::byte> bytes) {
  // A part of a tensor that stays fused goes to its rows there.
  const Checkpoint::Part* part = checkpoint_->PartOf(name);
  const bool inside = part != nullptr && shard_of_.count(name) == 0;
  const auto shard = shard_of_.find(inside ? part->tensor : name);
  if (shard == shard_of_.end()) return absl::InternalError("artifact: unplanned tensor " + name);
  SafetensorsWriter& writer = shards_[shard->second];
  if (!inside) return writer.Write(name, bytes);
  const int64_t row_bytes = static_cast<int64_t>(bytes.size()) / part->rows;
  return writer.WritePart(part->tensor, part->first_row * row_bytes, bytes);
}

ArtifactWriter ArtifactWriter::WithoutFiles(std::vector<int64_t> ranks) {
  ArtifactWriter writer;
  writer.ranks_ = std::move(ranks);
  return writer;
}

absl::Status ArtifactWriter::WriteFactors(size_t target, std::span<const std::byte> a,
                                          std::span<const std::byte> b,
                                          std::span<const int32_t> order) {
  if (checkpoint_ == nullptr) return absl::OkStatus();
  const std::string& name = (*targets_)[target].name;
  RETURN_IF_ERROR(Write(name + ".low_rank_a.weight", a));
  RETURN_IF_ERROR(Write(name + ".low_rank_b.weight", b));
  return order.empty() ? absl::OkStatus() : Write(name + ".low_rank_order", std::as_bytes(order));
}

absl::Status ArtifactWriter::WriteDense(size_t target, std::span<const std::byte> weight) {
  if (checkpoint_ == nullptr) return absl::OkStatus();
  return Write((*targets_)[target].name + ".weight", weight);
}

std::string ArtifactWriter::ConfigJson() const {
  // Parsed and checked when the checkpoint was opened.
  Json config = Json::parse(checkpoint_->config_text());
  if (!factored()) {
    // Code that the source brings is not copied, and the stock architecture needs none.
    return config.erase("auto_map") > 0 ? config.dump(2) + "\n" : checkpoint_->config_text();
  }
  const std::string& family = checkpoint_->config().family;
  const std::string prefix = ClassPrefix(family);
  config["model_type"] = "lowrank_" + family;
  config["architectures"] = {prefix + "ForCausalLM"};
  config["auto_map"] = {
      {"AutoConfig", "configuration_svdllm." + prefix + "Config"},
      {"AutoModel", "modeling_svdllm." + prefix + "Model"},
      {"AutoModelForCausalLM", "modeling_svdllm." + prefix + "ForCausalLM"},
  };
  Json modules = Json::object();
  for (size_t i = 0; i < targets_->size(); ++i) {
    if (ranks_[i] > 0) modules[(*targets_)[i].name] = {{"rank", ranks_[i]}};
  }
  config["low_rank_config"] = {{"format_version", 1},
                               {"method", MethodName(spec_->method)},
                               {"keep_ratio", keep_ratio_},
                               {"encoding", EncodingName(spec_->encoding)},
                               {"modules", std::move(modules)}};
  return config.dump(2) + "\n";
}

absl::Status ArtifactWriter::FinishWeights() {
  for (const auto& [output, source] : copied_) {
    ASSIGN_OR_RETURN(const TensorView tensor, checkpoint_->Tensor(source));
    RETURN_IF_ERROR(Write(output, tensor.bytes));
  }
  for (SafetensorsWriter& shard : shards_) RETURN_IF_ERROR(shard.Finish());
  Json index = {{"metadata", {{"total_size", weight_bytes_}}}, {"weight_map", Json::object()}};
  for (const auto& [name, shard] : shard_of_) index["weight_map"][name] = shard_names_[shard];
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/model.safetensors.index.json", index.dump(2) + "\n"));
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/config.json", ConfigJson()));
  for (const std::string_view name : kCopiedFiles) {
    const std::string from = checkpoint_->dir() + "/" + std::string(name);
    if (Exists(from)) RETURN_IF_ERROR(CopyFile(from, dir_ + "/" + std::string(name)));
  }
  ASSIGN_OR_RETURN(const auto side_files, checkpoint_->SideFiles());
  for (const auto& [name, text] : side_files) {
    RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/" + name, text));
  }
  if (!factored()) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/configuration_svdllm.py", kConfigurationPy));
  return WriteFileAtomic(dir_ + "/modeling_svdllm.py", kModelingPy);
}

}  // namespace svdllm
