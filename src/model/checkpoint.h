// A Hugging Face model directory, opened for reading: config.json and safetensors, single or
// sharded.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/config.h"
#include "model/safetensors.h"

namespace svdllm {

// Immutable, thread-safe. Weights stay in the page cache: nothing is read before it is used.
class Checkpoint {
 public:
  // Opens and checks a directory: NOT_FOUND with MODEL_NOT_FOUND where there is none or it has no
  // config.json; the errors of ParseModelConfig and SafetensorsFile::Open, and MODEL_CORRUPT naming
  // the tensor or shard where one is missing, not in the shard that the index names, or of a shape
  // or dtype that the configuration does not allow, or a row order is no permutation. Every tensor
  // that the family needs is checked here (factored ones too), so that a job never finds out
  // half-way; others, such as old rotary buffers, are left alone. A directory with only
  // pytorch_model.bin is NOT_FOUND with advice to convert it. For one of our artifacts, a missing
  // compression_manifest.json is MODEL_CORRUPT. require_manifest false opens an artifact that is
  // still being written.
  static absl::StatusOr<Checkpoint> Open(const std::string& dir, bool require_manifest = true);

  const std::string& dir() const { return dir_; }
  const ModelConfig& config() const { return config_; }
  const Architecture& arch() const { return *arch_; }
  const std::string& config_text() const { return config_text_; }  // config.json, byte for byte

  absl::StatusOr<TensorView> Tensor(const std::string& name) const;
  bool Has(const std::string& name) const { return shard_of_.count(name) > 0; }
  std::vector<std::string> TensorNames() const;  // sorted

  // Of the tensors that the model computes with; a tied head is the embedding and counts once, even
  // where a copy of it is stored. The row order of a pivoted linear is bytes, but no parameters.
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  absl::Status OpenShards();
  absl::Status CheckTensors();

  std::string dir_;
  std::string config_text_;
  ModelConfig config_;
  const Architecture* arch_ = nullptr;
  std::vector<SafetensorsFile> shards_;
  std::map<std::string, size_t> shard_of_;
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
};

}  // namespace svdllm
