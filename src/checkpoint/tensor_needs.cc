#include "checkpoint/tensor_needs.h"

#include <utility>

namespace svdllm {
namespace {

class Needs {
 public:
  Needs(const ModelConfig& config, const Architecture& arch) : config_(config), arch_(arch) {
    for (const LowRankModule& module : config.low_rank) ranks_[module.name] = module.rank;
    Add(arch.embedding, {config.vocab_size, config.embedding_size});
    if (arch.position == PositionKind::kLearned) {
      Add(arch.positions, {config.max_position_embeddings + kLearnedOffset, config.hidden_size});
    }
    if (config.embedding_size != config.hidden_size) {
      Add(arch.project_in, {config.hidden_size, config.embedding_size});
      Add(arch.project_out, {config.embedding_size, config.hidden_size});
    }
    for (int64_t layer = 0; layer < config.num_layers; ++layer) AddLayer(layer);
    if (config.final_norm) AddNorm(std::string(arch.final_norm), config.hidden_size);
    if (!config.tie_word_embeddings) Add(arch.head, {config.vocab_size, config.embedding_size});
  }

  TensorNeeds Take() { return {std::move(tensors_), std::move(parts_)}; }

 private:
  void Add(std::string_view module, std::vector<int64_t> shape) {
    tensors_.push_back({std::string(module) + ".weight", std::move(shape)});
  }
  void AddNorm(const std::string& module, int64_t size) {
    Add(module, {size});
    if (arch_.norm == NormKind::kLayer) tensors_.push_back({module + ".bias", {size}});
  }

  void AddLayer(int64_t layer) {
    for (const std::string_view norm :
         {arch_.attn_norm, arch_.mlp_norm, arch_.attn_post_norm, arch_.mlp_post_norm}) {
      if (!norm.empty()) AddNorm(LayerPath(arch_, layer, norm), config_.hidden_size);
    }
    for (const std::string_view norm : {arch_.q_norm, arch_.k_norm}) {
      if (!norm.empty()) AddNorm(LayerPath(arch_, layer, norm), config_.head_dim);
    }
    for (const LinearRow& row : arch_.linears) {
      if (row.fused.empty() || IsInParts(layer, row.fused)) {
        AddLinear(layer, row);
      } else {
        AddPart(layer, row);
      }
    }
  }

  bool IsInParts(int64_t layer, std::string_view fused) const {
    for (const LinearRow& row : arch_.linears) {
      if (row.fused == fused && ranks_.count(LayerPath(arch_, layer, row.module)) > 0) return true;
    }
    return false;
  }

  void AddPart(int64_t layer, const LinearRow& row) {
    const std::string tensor = LayerPath(arch_, layer, row.fused) + ".weight";
    const LinearShape shape = ShapeOf(config_, row.id);
    const bool is_first = tensors_.back().name != tensor;
    if (is_first) tensors_.push_back({tensor, {0, shape.cols}});
    int64_t& rows = tensors_.back().shape[0];
    parts_[LayerPath(arch_, layer, row.module) + ".weight"] = {tensor, rows, shape.rows};
    rows += shape.rows;
  }

  void AddLinear(int64_t layer, const LinearRow& row) {
    const std::string module = LayerPath(arch_, layer, row.module);
    const LinearShape shape = ShapeOf(config_, row.id);
    const auto rank = ranks_.find(module);
    std::string bias = module + ".bias";
    if (rank == ranks_.end()) {
      Add(module, {shape.rows, shape.cols});
    } else {
      const int64_t b_rows = config_.pivoted ? shape.rows - rank->second : shape.rows;
      Add(module + ".low_rank_a", {rank->second, shape.cols});
      Add(module + ".low_rank_b", {b_rows, rank->second});
      if (config_.pivoted) {
        tensors_.push_back({module + ".low_rank_order", {shape.rows}, /*is_order=*/true});
      } else {
        bias = module + ".low_rank_b.bias";
      }
    }
    if (HasBias(config_, row.id)) tensors_.push_back({bias, {shape.rows}});
  }

  const ModelConfig& config_;
  const Architecture& arch_;
  std::map<std::string, int64_t> ranks_;
  std::vector<NeededTensor> tensors_;
  std::map<std::string, TensorPart> parts_;
};

}  // namespace

TensorNeeds NeedsOf(const ModelConfig& config, const Architecture& arch) {
  return Needs(config, arch).Take();
}

}  // namespace svdllm
