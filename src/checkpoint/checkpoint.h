// A Hugging Face model directory, opened for reading: config.json and safetensors, single or
// sharded; or a GGUF file, which stands for the directory that it was made from. What it computes
// is what transformers' AutoModelForCausalLM computes with the same files; whatever would differ is
// refused by name.
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
#include "checkpoint/side_files.h"
#include "checkpoint/tensor_needs.h"
#include "formats/safetensors.h"

namespace svdllm {

// Immutable and thread-safe. Copies share what was opened, so that passing one on costs next to
// nothing. Weights stay in the page cache: nothing is read before it is used.
//
// Tensors go by the names that transformers has for them, whatever the files call them: a name that
// lacks the prefix "model." or has one too many is mapped, as transformers maps it. A tied head
// that is stored counts as the embedding where it holds the same numbers. Where it holds others the
// model is not tied, whatever config.json says, and config() and config_text() say so. Where only
// the head is stored, it is the embedding.
class Checkpoint {
 public:
  // Opens and checks the model that a path means (FindModel): NOT_FOUND with MODEL_NOT_FOUND where
  // there is none, saying what is there instead; the errors of ParseModelConfig and
  // SafetensorsFile::Open, and MODEL_CORRUPT naming the tensor or shard where one is missing, not
  // in the shard that the index names, stored twice under two names, or of a shape or dtype that
  // the configuration does not allow, or a row order is no permutation; UNSUPPORTED_ARCHITECTURE
  // where the head is that of a classifier or there is none. Every tensor that the family needs is
  // checked here (factored ones too), so that a job never finds out half-way; others, such as old
  // rotary buffers, are left alone. Only headers are read, and the embedding and the head where
  // both are stored and tied. For one of our artifacts, a missing compression_manifest.json is
  // MODEL_CORRUPT. require_manifest false opens an artifact that is still being written.
  //
  // A GGUF file is opened as GgufModel says, with its errors.
  static absl::StatusOr<Checkpoint> Open(const std::string& path, bool require_manifest = true);

  // The directory that the model is in (a hub cache's snapshot), or the .gguf file that was given.
  const std::string& dir() const { return dir_; }
  const ModelConfig& config() const { return config_; }
  const Architecture& arch() const { return *arch_; }
  // config.json, byte for byte but for tie_word_embeddings; made up for a GGUF file.
  const std::string& config_text() const { return config_text_; }
  // The paths of the files that the weights are in.
  std::vector<std::string> WeightFiles() const;
  // The files of dir() that belong to the model beside config.json and the weights, with the errors
  // of SideFilesOf.
  absl::StatusOr<std::vector<SideFile>> SideFiles() const;
  // Those that are not in dir(), by name: a GGUF file's tokenizer.
  absl::StatusOr<std::map<std::string, std::string>> MadeFiles() const;

  // Returns a stored tensor, or a part of one. A part is the weight of a linear whose module is
  // fused with others' here; its name is the one that the linear has by itself (ModulePath and
  // ".weight"). A GGUF file's quantised tensors are turned into numbers in every call: where Spec
  // or Rows will do, they cost less.
  absl::StatusOr<TensorView> Tensor(const std::string& name) const;
  // What Tensor would give: name, dtype and shape. Of a tensor that Tensor refuses because nothing
  // computes with its type, the foreign type.
  absl::StatusOr<TensorSpec> Spec(const std::string& name) const;
  // The bytes of a tensor of any type, for a copy of it. MODEL_CORRUPT naming the tensor where one
  // of its numbers is NaN or infinite: what is only copied would be seen by nobody else.
  struct Bytes {
    std::span<const std::byte> bytes;
    std::shared_ptr<const void> owner;  // as a TensorView's
  };
  absl::StatusOr<Bytes> FiniteBytes(const std::string& name) const;
  // Some rows of a stored matrix, in the order given: [rows.size(), cols].
  absl::StatusOr<TensorView> Rows(const std::string& name, std::span<const int64_t> rows) const;
  // Asks the system to read the tensors whose names begin with prefix, ahead of their use.
  void WillNeed(const std::string& prefix) const;
  // Whether the module of this path is stored as factors. The configuration decides it, whatever
  // else the files may hold.
  bool IsFactored(const std::string& path) const { return tensors_->factored.count(path) > 0; }
  bool Has(const std::string& name) const {
    return tensors_->places.count(name) + tensors_->parts.count(name) > 0;
  }
  // Whether the model computes with a stored tensor. Not so with a copy of a tied embedding, layers
  // behind the last one, or buffers of older versions: they are copied and count for nothing.
  bool IsUsed(const std::string& name) const { return tensors_->used.count(name) > 0; }
  std::vector<std::string> TensorNames() const;  // the stored ones, sorted

  using Part = TensorPart;
  // Where the tensor of this name lies; nullptr where it is stored by itself, or there is none.
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

  // Of the tensors that the model computes with (IsUsed), the definition that Layout has, too; so a
  // tied head is the embedding and counts once, even where a copy of it is stored. The row order of
  // a pivoted linear is bytes, but no parameters.
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  absl::Status OpenDirectory(bool require_manifest);
  absl::Status ParseConfig();
  absl::Status OpenShards();
  absl::Status NameTensors();
  absl::Status UntieWhereHeadDiffers();
  absl::Status RefuseOtherHeads() const;
  absl::Status CheckTensors();
  absl::Status CheckTensor(const NeededTensor& needed);

  std::string dir_;
  std::string config_text_;
  ModelConfig config_;
  const Architecture* arch_ = nullptr;
  std::shared_ptr<const GgufModel> gguf_;  // then there are no shards
  // Where a tensor lies, and what it is called there.
  struct Place {
    size_t shard = 0;
    std::string stored_name;
  };
  // What the files hold. Shared between copies, and never changed once Open is done.
  struct Tensors {
    std::vector<SafetensorsFile> shards;
    std::map<std::string, Place> places;
    std::map<std::string, Part> parts;
    std::set<std::string> factored, used;
  };
  std::shared_ptr<Tensors> tensors_ = std::make_shared<Tensors>();
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
};

}  // namespace svdllm
