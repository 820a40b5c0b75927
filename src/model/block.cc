#include "model/block.h"

#include <cmath>
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

}  // namespace

absl::StatusOr<Matrix> LoadTensor(const Checkpoint& checkpoint, const std::string& name,
                                  Backend& backend) {
  ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Tensor(name));
  const int64_t rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
  const int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  ASSIGN_OR_RETURN(Matrix matrix, backend.New(rows, cols, DType::kF32));
  RETURN_IF_ERROR(backend.Upload(tensor.bytes.data(), tensor.dtype, matrix));
  ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(matrix));
  if (!finite) return NotFinite(name);
  return matrix;
}

absl::StatusOr<Block> LoadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend) {
  const Architecture& arch = checkpoint.arch();
  const std::string prefix = std::string(arch.layer_prefix) + std::to_string(layer) + ".";
  Block block;
  ASSIGN_OR_RETURN(block.attn_norm,
                   LoadTensor(checkpoint, prefix + std::string(arch.attn_norm), backend));
  ASSIGN_OR_RETURN(block.mlp_norm,
                   LoadTensor(checkpoint, prefix + std::string(arch.mlp_norm), backend));
  for (const LinearRow& row : arch.linears) {
    const std::string path = ModulePath(arch, layer, row.id);
    Linear& linear = block.linear(row.id);
    std::string bias = path + ".bias";
    if (checkpoint.Has(path + ".low_rank_a.weight")) {
      ASSIGN_OR_RETURN(linear.a, LoadTensor(checkpoint, path + ".low_rank_a.weight", backend));
      ASSIGN_OR_RETURN(linear.b, LoadTensor(checkpoint, path + ".low_rank_b.weight", backend));
      if (checkpoint.config().pivoted) {
        ASSIGN_OR_RETURN(linear.order, LoadOrder(checkpoint, path + ".low_rank_order", backend));
      } else {
        bias = path + ".low_rank_b.bias";
      }
    } else {
      ASSIGN_OR_RETURN(linear.w, LoadTensor(checkpoint, path + ".weight", backend));
    }
    if (HasBias(checkpoint.config(), row.id)) {
      ASSIGN_OR_RETURN(linear.bias, LoadTensor(checkpoint, bias, backend));
    }
  }
  return block;
}

absl::StatusOr<Head> LoadHead(const Checkpoint& checkpoint, Backend& backend) {
  const Architecture& arch = checkpoint.arch();
  Head head;
  ASSIGN_OR_RETURN(head.norm, LoadTensor(checkpoint, std::string(arch.final_norm), backend));
  // A tied head is the embedding, whether or not a copy is stored.
  const std::string name(checkpoint.config().tie_word_embeddings ? arch.embedding : arch.head);
  ASSIGN_OR_RETURN(head.w, LoadTensor(checkpoint, name, backend));
  return head;
}

absl::Status Embed(const Checkpoint& checkpoint, std::span<const int32_t> ids, Backend& backend,
                   MatrixRef x) {
  const std::string name(checkpoint.arch().embedding);
  ASSIGN_OR_RETURN(const TensorView table, checkpoint.Tensor(name));
  const int64_t vocab = table.shape[0], hidden = table.shape[1];
  const size_t row_bytes = static_cast<size_t>(hidden) * SizeOf(table.dtype);
  std::vector<float> rows(ids.size() * static_cast<size_t>(hidden));
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < 0 || ids[t] >= vocab) {
      return absl::InvalidArgumentError("token id " + std::to_string(ids[t]) +
                                        " is outside the model's vocabulary of " +
                                        std::to_string(vocab));
    }
    ConvertElements(table.bytes.data() + static_cast<size_t>(ids[t]) * row_bytes, table.dtype,
                    rows.data() + t * static_cast<size_t>(hidden), DType::kF32,
                    static_cast<size_t>(hidden));
  }
  RETURN_IF_ERROR(backend.Upload(rows.data(), DType::kF32, x));
  ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(x));
  return finite ? absl::OkStatus() : NotFinite(name);
}

}  // namespace svdllm
