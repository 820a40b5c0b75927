// A Hugging Face model directory, opened for reading: config.json and safetensors, single or
// sharded; or a GGUF file, which stands for the directory that it was made from.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/architecture.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_model.h"
#include "formats/safetensors.h"

namespace svdllm {

// Immutable and thread-safe. Copies share what was opened, so that passing one on costs next to
// nothing. Weights stay in the page cache: nothing is read before it is used.
class Checkpoint {
 public:
  // Opens and checks a directory. Every tensor that the family needs is checked here, factored ones
  // too, so that a job never finds out half-way. Others, such as old rotary buffers, are left
  // alone.
  // Errors: NOT_FOUND with MODEL_NOT_FOUND where there is no directory or no config.json in it;
  // those of ParseModelConfig and SafetensorsFile::Open; and MODEL_CORRUPT, naming the tensor or
  // shard, where one is missing, not in the shard that the index names, or of a shape or dtype that
  // the configuration does not allow, or where a row order is no permutation. A directory with only
  // pytorch_model.bin is NOT_FOUND with advice to convert it. For one of our artifacts, a missing
  // compression_manifest.json is MODEL_CORRUPT; require_manifest false opens an artifact that is
  // still being written.
  //
  // A path that ends in .gguf, or a directory with one such file and no config.json, is opened as
  // GgufModel says, with its errors.
  static absl::StatusOr<Checkpoint> Open(const std::string& dir, bool require_manifest = true);

  const std::string& dir() const { return dir_; }
  const ModelConfig& config() const { return config_; }
  const Architecture& arch() const { return *arch_; }
  // config.json, byte for byte. For a GGUF file it is made up.
  const std::string& config_text() const { return config_text_; }
  // The files that belong beside config.json and are not in dir(), by name: the tokenizer of a GGUF
  // file.
  absl::StatusOr<std::map<std::string, std::string>> SideFiles() const;

  // Returns a stored tensor, or a part of one. A part is the weight of a linear whose module is
  // fused with others' here; its name is the one that the linear has by itself (ModulePath and
  // ".weight"). A GGUF file's quantised tensors are turned into numbers in every call: where Spec
  // or Rows will do, they cost less.
  absl::StatusOr<TensorView> Tensor(const std::string& name) const;
  // Returns what Tensor would give, without its data: name, dtype and shape.
  absl::StatusOr<TensorSpec> Spec(const std::string& name) const;
  // Returns some rows of a stored matrix, in the order given: [rows.size(), cols].
  absl::StatusOr<TensorView> Rows(const std::string& name, std::span<const int64_t> rows) const;
  // Asks the system to read the tensors whose names begin with prefix, ahead of their use.
  void WillNeed(const std::string& prefix) const;
  // Whether the module of this path is stored as factors. The configuration decides it, whatever
  // else the files may hold.
  bool IsFactored(const std::string& path) const { return tensors_->factored.count(path) > 0; }
  bool Has(const std::string& name) const {
    return tensors_->shard_of.count(name) + tensors_->parts.count(name) > 0;
  }
  std::vector<std::string> TensorNames() const;  // the stored ones, sorted

  // Rows [first_row, first_row + rows) of a stored tensor.
  struct Part {
    std::string tensor;
    int64_t first_row = 0, rows = 0;
  };
  // Where the tensor of this name lies. nullptr where it is stored by itself, or there is none.
  const Part* PartOf(const std::string& name) const {
    const auto it = tensors_->parts.find(name);
    return it == tensors_->parts.end() ? nullptr : &it->second;
  }

  // Returns a copy that has only the first `layers` layers, for a caller that only counts what a
  // layer takes. Its sizes stay those of the whole model.
  Checkpoint FirstLayers(int64_t layers) const {
    Checkpoint first = *this;
    first.config_.num_layers = std::min(config_.num_layers, layers);
    return first;
  }

  // Stored numbers and bytes of the tensors that the model computes with. A tied head is the
  // embedding and counts once, even where a copy of it is stored. The row order of a pivoted linear
  // counts as bytes and not as parameters.
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  absl::Status OpenDirectory(bool require_manifest);
  absl::Status ParseConfig();
  absl::Status OpenShards();
  absl::Status CheckTensors();

  std::string dir_;
  std::string config_text_;
  ModelConfig config_;
  const Architecture* arch_ = nullptr;
  std::shared_ptr<const GgufModel> gguf_;  // then there are no shards
  // What the files hold. Copies share it, and it never changes once Open is done.
  struct Tensors {
    std::vector<SafetensorsFile> shards;
    std::map<std::string, size_t> shard_of;
    std::map<std::string, Part> parts;
    std::set<std::string> factored;
  };
  std::shared_ptr<Tensors> tensors_ = std::make_shared<Tensors>();
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
};

}  // namespace svdllm
