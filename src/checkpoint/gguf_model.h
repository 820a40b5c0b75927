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

// Immutable, thread-safe.
class GgufModel {
 public:
  // The errors of GgufFile::Open. UNIMPLEMENTED with UNSUPPORTED_ARCHITECTURE naming the key or the
  // tensor for another architecture, for what a LLaMA configuration cannot say exactly, and for
  // tensors of types that FindGgmlType does not know. Whether all tensors are there is the caller's
  // to check.
  static absl::StatusOr<GgufModel> Open(const std::string& path);

  // A config.json of model_type llama that says what the metadata does.
  const std::string& config_text() const { return config_text_; }
  // config.json's companions, by file name: generation_config.json, tokenizer.json and
  // tokenizer_config.json. UNIMPLEMENTED with UNSUPPORTED_TOKENIZER for a tokenizer that cannot be
  // matched.
  absl::StatusOr<std::map<std::string, std::string>> SideFiles() const;

  // By Hugging Face's names. Quantised tensors are F16 here.
  const std::map<std::string, TensorSpec>& tensors() const { return specs_; }
  // A tensor of tensors(), its rows in Hugging Face's order. What is quantised is turned into
  // numbers anew in every call; the view keeps them.
  TensorView Tensor(const std::string& name) const;
  // Some rows of a matrix, in the order given; each is in [0, shape[0]).
  TensorView Rows(const std::string& name, std::span<const int64_t> rows) const;

 private:
  struct Source {
    const GgufTensor* tensor = nullptr;
    int64_t interleaved_heads =
        0;  // rows of a head are in pairs, one of each half; 0: they are not
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
