#include "model/block.h"

#include <utility>
#include <vector>

namespace svdllm {
namespace {

absl::Status NotFinite(const std::string& name) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   name + ": holds NaN or infinite values");
}

// Checked when the checkpoint was opened.
absl::StatusOr<Matrix> LoadOrder(const Checkpoint& checkpoint, const std::string& name,
                                 Backend& backend) {
  ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Tensor(name));
  ASSIGN_OR_RETURN(Matrix order, backend.New(1, tensor.elements(), DType::kI32));
  RETURN_IF_ERROR(backend.Upload(tensor.bytes.data(), tensor.dtype, order));
  return order;
}

std::string Weight(std::string_view module) { return std::string(module) + ".weight"; }

// [rows, cols] of the type that is asked for (a vector is one row), plus a number.
absl::StatusOr<Matrix> Load(const Checkpoint& checkpoint, const std::string& name, DType dtype,
                            Backend& backend, float plus = 0) {
  ASSIGN_OR_RETURN(const TensorSpec spec, checkpoint.Spec(name));
  const int64_t rows = spec.shape.size() == 2 ? spec.shape[0] : 1;
  const int64_t cols = spec.shape.empty() ? 1 : spec.shape.back();
  if (!backend.Computes()) return backend.New(rows, cols, dtype);
  ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Tensor(name));
  const auto count = static_cast<size_t>(rows * cols);
  if (!AllFiniteElements(tensor.bytes.data(), tensor.dtype, count)) return NotFinite(name);
  ASSIGN_OR_RETURN(Matrix matrix, backend.New(rows, cols, dtype));
  if (plus == 0) {
    RETURN_IF_ERROR(backend.Upload(tensor.bytes.data(), tensor.dtype, matrix));
    return matrix;
  }
  std::vector<float> values(count);
  ConvertElements(tensor.bytes.data(), tensor.dtype, values.data(), DType::kF32, count);
  for (float& value : values) value += plus;
  RETURN_IF_ERROR(backend.Upload(values.data(), DType::kF32, matrix));
  return matrix;
}

absl::StatusOr<Matrix> LoadVector(const Checkpoint& checkpoint, const std::string& name,
                                  Backend& backend) {
  return Load(checkpoint, name, DType::kF32, backend);
}

absl::StatusOr<Matrix> LoadWeight(const Checkpoint& checkpoint, const std::string& name,
                                  Backend& backend) {
  ASSIGN_OR_RETURN(const TensorSpec spec, checkpoint.Spec(name));
  return Load(checkpoint, name, backend.WeightType(spec.dtype), backend);
}

absl::StatusOr<Norm> LoadNorm(const Checkpoint& checkpoint, const std::string& module,
                              Backend& backend) {
  const float plus = checkpoint.arch().norm == NormKind::kRmsPlusOne ? 1 : 0;
  Norm norm;
  ASSIGN_OR_RETURN(norm.weight, Load(checkpoint, Weight(module), DType::kF32, backend, plus));
  if (checkpoint.arch().norm == NormKind::kLayer) {
    ASSIGN_OR_RETURN(norm.bias, LoadVector(checkpoint, module + ".bias", backend));
  }
  return norm;
}

// x[t] = scale · row rows[t] of a table.
absl::Status Lookup(const Checkpoint& checkpoint, std::string_view module,
                    std::span<const int64_t> rows, double scale, Backend& backend, MatrixRef x) {
  const std::string name = Weight(module);
  ASSIGN_OR_RETURN(const TensorView stored, checkpoint.Rows(name, rows));
  std::vector<float> values(rows.size() * static_cast<size_t>(x.cols));
  ConvertElements(stored.bytes.data(), stored.dtype, values.data(), DType::kF32, values.size());
  if (scale != 1) {
    for (float& value : values) value *= static_cast<float>(scale);
  }
  RETURN_IF_ERROR(backend.Upload(values.data(), DType::kF32, x));
  ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(x));
  return finite ? absl::OkStatus() : NotFinite(name);
}

absl::StatusOr<Block> ReadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend) {
  const Architecture& arch = checkpoint.arch();
  Block block;
  block.layer = layer;
  const std::pair<std::string_view, Norm*> norms[] = {{arch.attn_norm, &block.attn_norm},
                                                      {arch.mlp_norm, &block.mlp_norm},
                                                      {arch.attn_post_norm, &block.attn_post_norm},
                                                      {arch.mlp_post_norm, &block.mlp_post_norm},
                                                      {arch.q_norm, &block.q_norm},
                                                      {arch.k_norm, &block.k_norm}};
  for (const auto& [module, norm] : norms) {
    if (module.empty()) continue;
    ASSIGN_OR_RETURN(*norm, LoadNorm(checkpoint, LayerPath(arch, layer, module), backend));
  }
  for (const LinearRow& row : arch.linears) {
    const std::string path = ModulePath(arch, layer, row.id);
    Linear& linear = block.linear(row.id);
    std::string bias = path + ".bias";
    if (checkpoint.IsFactored(path)) {
      ASSIGN_OR_RETURN(linear.a, LoadWeight(checkpoint, path + ".low_rank_a.weight", backend));
      ASSIGN_OR_RETURN(linear.b, LoadWeight(checkpoint, path + ".low_rank_b.weight", backend));
      if (checkpoint.config().pivoted) {
        ASSIGN_OR_RETURN(linear.order, LoadOrder(checkpoint, path + ".low_rank_order", backend));
      } else {
        bias = path + ".low_rank_b.bias";
      }
    } else {
      ASSIGN_OR_RETURN(linear.w, LoadWeight(checkpoint, path + ".weight", backend));
    }
    if (HasBias(checkpoint.config(), row.id)) {
      ASSIGN_OR_RETURN(linear.bias, LoadVector(checkpoint, bias, backend));
    }
  }
  return block;
}

}  // namespace

absl::StatusOr<Block> LoadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend) {
  RETURN_IF_ERROR(backend.BeginUploads());
  absl::StatusOr<Block> block = ReadBlock(checkpoint, layer, backend);
  const absl::Status ended = backend.EndUploads();
  if (block.ok()) RETURN_IF_ERROR(ended);
  return block;
}

absl::StatusOr<Block> BlockReader::Take(int64_t layer) {
  if (next_ && next_->layer == layer) {
    Block block = *std::move(next_);
    next_.reset();
    return block;
  }
  return LoadBlock(checkpoint_, layer, backend_);
}

absl::Status BlockReader::ReadAhead(int64_t layer) {
  if (layer >= checkpoint_.config().num_layers) return absl::OkStatus();
  if (ahead_) {
    ASSIGN_OR_RETURN(next_, LoadBlock(checkpoint_, layer, backend_));
    ++layer;
  }
  if (layer < checkpoint_.config().num_layers) {
    checkpoint_.WillNeed(LayerPath(checkpoint_.arch(), layer, ""));
  }
  return absl::OkStatus();
}

absl::StatusOr<Head> LoadHead(const Checkpoint& checkpoint, Backend& backend) {
  const Architecture& arch = checkpoint.arch();
  const ModelConfig& config = checkpoint.config();
  Head head;
  if (config.final_norm) {
    ASSIGN_OR_RETURN(head.norm, LoadNorm(checkpoint, std::string(arch.final_norm), backend));
  }
  if (config.embedding_size != config.hidden_size) {
    ASSIGN_OR_RETURN(head.project, LoadWeight(checkpoint, Weight(arch.project_out), backend));
  }
  // A tied head is the embedding, whether or not a copy is stored.
  ASSIGN_OR_RETURN(
      head.w, LoadWeight(checkpoint,
                         Weight(config.tie_word_embeddings ? arch.embedding : arch.head), backend));
  return head;
}

absl::Status Embed(const Checkpoint& checkpoint, std::span<const int32_t> ids,
                   std::span<const int64_t> positions, Backend& backend, MatrixRef x) {
  const Architecture& arch = checkpoint.arch();
  const ModelConfig& config = checkpoint.config();
  const int64_t tokens = static_cast<int64_t>(ids.size());
  if (positions.size() != ids.size()) return absl::InternalError("Embed: not a position a token");
  if (!backend.Computes()) return absl::OkStatus();
  std::vector<int64_t> rows(ids.begin(), ids.end());
  for (const int64_t id : rows) {
    if (id < 0 || id >= config.vocab_size) {
      return absl::InvalidArgumentError("token id " + std::to_string(id) +
                                        " is outside the model's vocabulary of " +
                                        std::to_string(config.vocab_size));
    }
  }
  Matrix narrow;
  if (config.embedding_size != config.hidden_size) {
    ASSIGN_OR_RETURN(narrow, backend.New(tokens, config.embedding_size, DType::kF32));
  }
  RETURN_IF_ERROR(Lookup(checkpoint, arch.embedding, rows, config.embedding_scale, backend,
                         narrow.empty() ? x : narrow.ref()));
  if (!narrow.empty()) {
    ASSIGN_OR_RETURN(const Matrix w, LoadWeight(checkpoint, Weight(arch.project_in), backend));
    RETURN_IF_ERROR(backend.Gemm(false, true, 1, narrow, w, 0, x));
  }
  if (arch.position != PositionKind::kLearned) return absl::OkStatus();
  for (size_t t = 0; t < rows.size(); ++t) {
    if (positions[t] < 0 || positions[t] >= config.max_position_embeddings) {
      return absl::InvalidArgumentError("position " + std::to_string(positions[t]) +
                                        " is beyond max_position_embeddings, " +
                                        std::to_string(config.max_position_embeddings));
    }
    rows[t] = positions[t] + kLearnedOffset;
  }
  ASSIGN_OR_RETURN(const Matrix learned, backend.New(tokens, x.cols, DType::kF32));
  RETURN_IF_ERROR(Lookup(checkpoint, arch.positions, rows, 1, backend, learned));
  return backend.Add(1, learned, x);
}

}  // namespace svdllm
