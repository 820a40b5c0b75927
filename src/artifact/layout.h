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
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  size_t shard = 0;  // the file that it is in
  // The checkpoint's tensor that it is a copy of. Empty: it holds what was compressed.
  std::string source;

  int64_t bytes() const;
};

struct Layout {
  std::vector<StoredTensor> tensors;  // in the order in which they lie in their shards
  // Parts of a fused tensor (Checkpoint::PartOf) that stay dense and are copied by themselves,
  // because another part of it is compressed.
  std::vector<std::string> copied_parts;
  size_t shards = 1;
  int64_t parameters = 0;         // stored numbers of the whole model; a row order counts as none
  int64_t target_parameters = 0;  // stored numbers of the linear layers
  int64_t weight_bytes = 0;       // of all tensors

  // "model-00002-of-00003.safetensors" for shard 1 of 3.
  std::string ShardName(size_t shard) const;
};

// Plans an artifact. `ranks` has one rank per linear layer; 0 keeps the source's weight. Only
// headers are read. An error where the checkpoint does not know one of its own tensors.
absl::StatusOr<Layout> LayoutOf(const Checkpoint& checkpoint, std::span<const LinearLayer> linears,
                                const StorageChoice& choice, std::span<const int64_t> ranks);

// The names of the tensors that stand for linear layer `name` of rank > 0.
std::string FactorA(const std::string& name);
std::string FactorB(const std::string& name);
std::string FactorOrder(const std::string& name);  // pivoted only

}  // namespace svdllm
