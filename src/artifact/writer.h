// Writes one artifact into a staging directory; docs/formats.md describes every file.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/linears.h"
#include "formats/safetensors.h"
#include "job/spec.h"

namespace svdllm {

// Use: Create, then one WriteFactors or WriteDense for every target with a rank, FinishWeights, and
// FinishArtifact with the measured figures. Tensors arrive in any order and go straight to their
// shard. Not thread-safe; checkpoint and targets must outlive it.
class ArtifactWriter {
 public:
  // ranks: one a target, 0 keeps the source's weight. SCRATCH_FULL where the disk cannot hold the
  // shards, before anything is computed.
  static absl::StatusOr<ArtifactWriter> Create(const Checkpoint& checkpoint,
                                               const std::vector<Target>& targets,
                                               const CompressSpec& spec, double keep_ratio,
                                               std::vector<int64_t> ranks,
                                               const std::string& staging_dir);

  // One for a job on a backend that only counts: it has ranks, and keeps nothing.
  static ArtifactWriter WithoutFiles(std::vector<int64_t> ranks);

  // a [rank, in], b [out, rank], or [out − rank, rank] where order [out] says that they are
  // pivoted; in the dtype of the source's weight.
  absl::Status WriteFactors(size_t target, std::span<const std::byte> a,
                            std::span<const std::byte> b, std::span<const int32_t> order);
  // The reconstructed weight [out, in], for OutputFormat::kDense.
  absl::Status WriteDense(size_t target, std::span<const std::byte> weight);

  // What is copied from the source, the index, config.json, tokenizer and code: from here on the
  // directory loads as a checkpoint.
  absl::Status FinishWeights();

  const std::string& dir() const { return dir_; }
  double keep_ratio() const { return keep_ratio_; }
  const std::vector<int64_t>& ranks() const { return ranks_; }
  int64_t parameters() const { return parameters_; }                // of the whole model, stored
  int64_t weight_bytes() const { return weight_bytes_; }            // of its tensors
  int64_t target_parameters() const { return target_parameters_; }  // stored for the targets

 private:
  ArtifactWriter() = default;
  absl::Status Write(const std::string& name, std::span<const std::byte> bytes);
  std::string ConfigJson() const;
  bool factored() const { return spec_->output_format == OutputFormat::kFactored; }

  const Checkpoint* checkpoint_ = nullptr;
  const std::vector<Target>* targets_ = nullptr;
  const CompressSpec* spec_ = nullptr;
  double keep_ratio_ = 0;
  std::vector<int64_t> ranks_;
  std::string dir_;
  std::vector<SafetensorsWriter> shards_;
  std::vector<std::string> shard_names_;
  std::map<std::string, size_t> shard_of_;
  std::map<std::string, std::string> copied_;  // output tensor → source tensor
  int64_t parameters_ = 0, weight_bytes_ = 0, target_parameters_ = 0;
};

}  // namespace svdllm
