// What an artifact will consist of, before a byte of it is written. Plans read their sizes here,
// and the writer its shards.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/linears.h"
#include "job/spec.h"

namespace svdllm {

// How compressed matrices are stored.
struct StorageChoice {
  OutputFormat format = OutputFormat::kFactored;
  Encoding encoding = Encoding::kPlain;
};

struct StoredTensor {
  TensorSpec spec;
  std::string source;  // the checkpoint's tensor that it is a copy of; empty: what was compressed
  size_t shard = 0;    // index of the file that it is in
};

struct Layout {
  std::vector<StoredTensor> tensors;  // in the order in which they lie in their shards
  // Parts of a fused tensor (Checkpoint::PartOf) that stay dense and are copied by themselves,
  // because another part of it is compressed.
  std::vector<std::string> copied_parts;
  std::vector<SideFile> side_files;  // copied beside them
  size_t shards = 1;
  // Of the tensors that the model computes with, as Checkpoint::parameters and weight_bytes count
  // them: what is carried over and not used (Checkpoint::IsUsed) changes neither. A row order is
  // bytes, but no parameters.
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
  int64_t target_parameters = 0;  // stored numbers of the linear layers
  int64_t stored_bytes = 0;       // of all tensors: what the shards take on a disk

  // "model-00002-of-00003.safetensors" for shard 1 of 3.
  std::string ShardName(size_t shard) const;
};

// ranks: one per linear layer, 0 keeps the source's weight. Reads headers only, and the names
// beside them. The errors of Checkpoint::SideFiles; another where the checkpoint does not know one
// of its own tensors.
absl::StatusOr<Layout> LayoutOf(const Checkpoint& checkpoint, std::span<const LinearLayer> linears,
                                const StorageChoice& choice, std::span<const int64_t> ranks);

// The names of the tensors that stand for linear layer `name` of rank > 0.
std::string FactorA(const std::string& name);
std::string FactorB(const std::string& name);
std::string FactorOrder(const std::string& name);  // pivoted only

}  // namespace svdllm
