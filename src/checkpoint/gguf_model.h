// A GGUF file of the LLaMA family, seen as the Hugging Face directory that it was made from.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "base/status.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

namespace svdllm {

// Immutable and thread-safe.
class GgufModel {
 public:
  // Opens a file. Whether all tensors are there is left to the caller to check. Errors: those of
  // GgufFile::Open; UNIMPLEMENTED with UNSUPPORTED_ARCHITECTURE, naming the key or the tensor, for
  // another architecture, for what a LLaMA configuration cannot say exactly, and for tensors of
  // types that FindGgmlType does not know.
  static absl::StatusOr<GgufModel> Open(const std::string& path);

  // A config.json of model_type llama that says what the file's metadata says.
  const std::string& config_text() const { return config_text_; }
  // Returns config.json's companions, by file name: generation_config.json, tokenizer.json and
  // tokenizer_config.json. UNIMPLEMENTED with UNSUPPORTED_TOKENIZER for a tokenizer that cannot be
  // matched.
  absl::StatusOr<std::map<std::string, std::string>> SideFiles() const;

  // The tensors by Hugging Face's names. Quantised ones are F16 here.
  const std::map<std::string, TensorSpec>& tensors() const { return specs_; }
  // Returns a tensor of tensors(), its rows in Hugging Face's order. What is quantised is turned
  // into numbers anew in every call, and the view owns them.
  TensorView Tensor(const std::string& name) const;
  // Returns some rows of a matrix, in the order given. Each is in [0, shape[0]).
  TensorView Rows(const std::string& name, std::span<const int64_t> rows) const;

 private:
  struct Source {
    const GgufTensor* tensor = nullptr;
    // The number of heads whose rows lie in pairs, one row of each half. 0: the rows are in order.
    int64_t interleaved_heads = 0;
  };
  explicit GgufModel(GgufFile file) : file_(std::move(file)) {}
  absl::Status MapTensors();
  absl::Status MapTensor(const std::string& name, const GgufTensor& tensor);
  absl::Status MakeConfig();

  GgufFile file_;
  std::map<std::string, TensorSpec> specs_;
  std::map<std::string, Source> sources_;
  std::string config_text_;
};

}  // namespace svdllm
