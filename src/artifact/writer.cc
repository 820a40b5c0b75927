#include "artifact/writer.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "artifact/assets.h"
#include "artifact/manifest.h"
#include "base/files.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

absl::StatusOr<ArtifactWriter> ArtifactWriter::Create(const Checkpoint& checkpoint,
                                                      const std::vector<LinearLayer>& linears,
                                                      const CompressSpec& spec, double keep_ratio,
                                                      std::vector<int64_t> ranks,
                                                      const std::string& staging_dir) {
  ArtifactWriter writer;
  writer.checkpoint_ = &checkpoint;
  writer.linears_ = &linears;
  writer.spec_ = &spec;
  writer.keep_ratio_ = keep_ratio;
  writer.ranks_ = std::move(ranks);
  writer.dir_ = staging_dir;
  ASSIGN_OR_RETURN(writer.layout_, LayoutOf(checkpoint, linears,
                                            {spec.output_format, spec.encoding}, writer.ranks_));
  std::vector<std::vector<TensorSpec>> shards(writer.layout_.shards);
  for (const StoredTensor& tensor : writer.layout_.tensors) {
    writer.shard_of_[tensor.spec.name] = tensor.shard;
    shards[tensor.shard].push_back(tensor.spec);
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    ASSIGN_OR_RETURN(
        SafetensorsWriter shard,
        SafetensorsWriter::Create(staging_dir + "/" + writer.layout_.ShardName(i), shards[i]));
    writer.shards_.push_back(std::move(shard));
  }
  // Now and not at the end: a tensor that cannot be published is found before the long work.
  RETURN_IF_ERROR(writer.CopyTensors());
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

absl::Status ArtifactWriter::WriteFactors(size_t linear, std::span<const std::byte> a,
                                          std::span<const std::byte> b,
                                          std::span<const int32_t> order) {
  const std::string& name = (*linears_)[linear].name;
  RETURN_IF_ERROR(Write(FactorA(name), a));
  RETURN_IF_ERROR(Write(FactorB(name), b));
  return order.empty() ? absl::OkStatus() : Write(FactorOrder(name), std::as_bytes(order));
}

absl::Status ArtifactWriter::WriteDense(size_t linear, std::span<const std::byte> weight) {
  return Write((*linears_)[linear].name + ".weight", weight);
}

std::string ArtifactWriter::ConfigJson() const {
  // Parsed and checked when the checkpoint was opened.
  Json config = Json::parse(checkpoint_->config_text());
  if (!factored()) {
    // Code that the source brings is not copied, and the stock architecture needs none.
    return config.erase("auto_map") > 0 ? config.dump(2) + "\n" : checkpoint_->config_text();
  }
  const std::string& family = checkpoint_->config().family;
  const std::string prefix = "LowRank" + std::string(checkpoint_->arch().classes);
  config["model_type"] = "lowrank_" + family;
  config["architectures"] = {prefix + "ForCausalLM"};
  config["auto_map"] = {
      {"AutoConfig", "configuration_svdllm." + prefix + "Config"},
      {"AutoModel", "modeling_svdllm." + prefix + "Model"},
      {"AutoModelForCausalLM", "modeling_svdllm." + prefix + "ForCausalLM"},
      {"AutoModelForSequenceClassification",
       "modeling_svdllm." + prefix + "ForSequenceClassification"},
  };
  Json modules = Json::object();
  for (size_t i = 0; i < linears_->size(); ++i) {
    if (ranks_[i] > 0) modules[(*linears_)[i].name] = {{"rank", ranks_[i]}};
  }
  config["low_rank_config"] = {{"format_version", 1},
                               {"method", MethodName(spec_->method)},
                               {"keep_ratio", keep_ratio_},
                               {"encoding", EncodingName(spec_->encoding)},
                               {"modules", std::move(modules)}};
  return config.dump(2) + "\n";
}

absl::Status ArtifactWriter::CopyTensors() {
  const auto copy = [this](const std::string& output, const std::string& source) -> absl::Status {
    ASSIGN_OR_RETURN(const Checkpoint::Bytes tensor, checkpoint_->FiniteBytes(source));
    return Write(output, tensor.bytes);
  };
  for (const StoredTensor& tensor : layout_.tensors) {
    if (!tensor.source.empty()) RETURN_IF_ERROR(copy(tensor.spec.name, tensor.source));
  }
  for (const std::string& part : layout_.copied_parts) RETURN_IF_ERROR(copy(part, part));
  return absl::OkStatus();
}

absl::Status ArtifactWriter::CopyFiles() {
  for (const SideFile& file : layout_.side_files) {
    const std::string to = dir_ + "/" + file.name;
    std::error_code error;
    const std::filesystem::path parent = std::filesystem::path(to).parent_path();
    std::filesystem::create_directories(parent, error);
    if (error) return ErrnoToStatus(error.value(), "create", parent.native());
    RETURN_IF_ERROR(CopyFile(file.path, to));
  }
  ASSIGN_OR_RETURN(const auto made, checkpoint_->MadeFiles());
  for (const auto& [name, text] : made) {
    RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/" + name, text));
  }
  return absl::OkStatus();
}

std::string ArtifactWriter::IndexJson() const {
  Json index = {{"metadata", {{"total_size", layout_.stored_bytes}}},
                {"weight_map", Json::object()}};
  for (const auto& [name, shard] : shard_of_) {
    index["weight_map"][name] = layout_.ShardName(shard);
  }
  return index.dump(2) + "\n";
}

absl::Status ArtifactWriter::FinishWeights() {
  for (SafetensorsWriter& shard : shards_) RETURN_IF_ERROR(shard.Finish());
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/model.safetensors.index.json", IndexJson()));
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/config.json", ConfigJson()));
  RETURN_IF_ERROR(CopyFiles());
  if (!factored()) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFileAtomic(dir_ + "/configuration_svdllm.py", kConfigurationPy));
  return WriteFileAtomic(dir_ + "/modeling_svdllm.py", kModelingPy);
}

}  // namespace svdllm
