// Writes one artifact into a staging directory; docs/formats.md describes every file.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "artifact/layout.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/linears.h"
#include "formats/safetensors.h"
#include "job/spec.h"

namespace svdllm {

// Call Create, then WriteFactors or WriteDense once per linear layer with a rank, then
// FinishWeights. Tensors arrive in any order and go straight to their shard. Not thread-safe.
// checkpoint, linears and spec must outlive it.
class ArtifactWriter {
 public:
  // ranks: one per linear layer, 0 keeps the source's weight. Copies the tensors that stay as they
  // are. SCRATCH_FULL where the disk cannot hold the shards, and MODEL_CORRUPT where a tensor that
  // is copied holds NaN or infinite values: before anything is computed.
  static absl::StatusOr<ArtifactWriter> Create(const Checkpoint& checkpoint,
                                               const std::vector<LinearLayer>& linears,
                                               const CompressSpec& spec, double keep_ratio,
                                               std::vector<int64_t> ranks,
                                               const std::string& staging_dir);

  // Writes the factors of the linear layer with this place in the list. a is [rank, in] and b [out,
  // rank], or [out − rank, rank] where an order [out] says that they are pivoted. Both have the
  // dtype of the source's weight.
  absl::Status WriteFactors(size_t linear, std::span<const std::byte> a,
                            std::span<const std::byte> b, std::span<const int32_t> order);
  // Writes the reconstructed weight [out, in], for OutputFormat::kDense.
  absl::Status WriteDense(size_t linear, std::span<const std::byte> weight);

  // The index, config.json, the source's side files and code: from here on the directory loads as a
  // checkpoint.
  absl::Status FinishWeights();

  const std::string& dir() const { return dir_; }
  const std::vector<int64_t>& ranks() const { return ranks_; }
  const Layout& layout() const { return layout_; }

 private:
  ArtifactWriter() = default;
  absl::Status Write(const std::string& name, std::span<const std::byte> bytes);
  absl::Status CopyTensors();
  absl::Status CopyFiles();
  std::string IndexJson() const;
  std::string ConfigJson() const;
  bool factored() const { return spec_->output_format == OutputFormat::kFactored; }

  const Checkpoint* checkpoint_ = nullptr;
  const std::vector<LinearLayer>* linears_ = nullptr;
  const CompressSpec* spec_ = nullptr;
  double keep_ratio_ = 0;
  std::vector<int64_t> ranks_;
  std::string dir_;
  Layout layout_;
  std::vector<SafetensorsWriter> shards_;
  std::map<std::string, size_t> shard_of_;
};

}  // namespace svdllm
