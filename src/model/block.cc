#include "model/block.h"

#include <cstring>
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
                                 int64_t rank, Backend& backend) {
  ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Tensor(name));
  std::vector<int32_t> order(static_cast<size_t>(tensor.elements()));
  std::memcpy(order.data(), tensor.bytes.data(), order.size() * sizeof(int32_t));
  return PivotedOrder(order, rank, backend);
}

std::string Weight(std::string_view module) { return std::string(module) + ".weight"; }

// A tensor's values into a matrix of its shape, plus a number.
absl::Status LoadInto(const Checkpoint& checkpoint, const std::string& name, MatrixRef to,
                      Backend& backend, float plus = 0) {
  if (!backend.Computes()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const TensorView tensor, checkpoint.Tensor(name));
  const auto count = static_cast<size_t>(to.size());
  if (!AllFiniteElements(tensor.bytes.data(), tensor.dtype, count)) return NotFinite(name);
  if (plus == 0) return backend.Upload(tensor.bytes.data(), tensor.dtype, to);
  std::vector<float> values(count);
  ConvertElements(tensor.bytes.data(), tensor.dtype, values.data(), DType::kF32, count);
  for (float& value : values) value += plus;
  return backend.Upload(values.data(), DType::kF32, to);
}

// F32 [1, n].
absl::StatusOr<Matrix> LoadVector(const Checkpoint& checkpoint, const std::string& name,
                                  Backend& backend, float plus = 0) {
  ASSIGN_OR_RETURN(const TensorSpec spec, checkpoint.Spec(name));
  const int64_t cols = spec.shape.empty() ? 1 : spec.shape.back();
  ASSIGN_OR_RETURN(Matrix vector, backend.New(1, cols, DType::kF32));
  RETURN_IF_ERROR(LoadInto(checkpoint, name, vector, backend, plus));
  return vector;
}

absl::StatusOr<Matrix> LoadWeight(const Checkpoint& checkpoint, const std::string& name,
                                  Backend& backend) {
  ASSIGN_OR_RETURN(const TensorSpec spec, checkpoint.Spec(name));
  ASSIGN_OR_RETURN(Matrix weight, NewWeight(spec.shape[0], spec.shape[1], spec.dtype, backend));
  RETURN_IF_ERROR(LoadInto(checkpoint, name, weight, backend));
  return weight;
}

absl::StatusOr<Norm> LoadNorm(const Checkpoint& checkpoint, const std::string& module,
                              Backend& backend) {
  const float plus = checkpoint.arch().norm == NormKind::kRmsPlusOne ? 1 : 0;
  Norm norm;
  ASSIGN_OR_RETURN(norm.weight, LoadVector(checkpoint, Weight(module), backend, plus));
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

absl::Status LoadNorms(const Checkpoint& checkpoint, Backend& backend, Block& block) {
  const Architecture& arch = checkpoint.arch();
  const std::pair<std::string_view, Norm*> norms[] = {{arch.attn_norm, &block.attn_norm},
                                                      {arch.mlp_norm, &block.mlp_norm},
                                                      {arch.attn_post_norm, &block.attn_post_norm},
                                                      {arch.mlp_post_norm, &block.mlp_post_norm},
                                                      {arch.q_norm, &block.q_norm},
                                                      {arch.k_norm, &block.k_norm}};
  for (const auto& [module, norm] : norms) {
    if (module.empty()) continue;
    ASSIGN_OR_RETURN(*norm, LoadNorm(checkpoint, LayerPath(arch, block.layer, module), backend));
  }
  return absl::OkStatus();
}

absl::Status LoadLinear(const Checkpoint& checkpoint, LinearId id, Backend& backend, Block& block) {
  const std::string path = ModulePath(checkpoint.arch(), block.layer, id);
  Linear& linear = block.linear(id);
  std::string bias = path + ".bias";
  if (checkpoint.IsFactored(path)) {
    ASSIGN_OR_RETURN(linear.a, LoadWeight(checkpoint, path + ".low_rank_a.weight", backend));
    ASSIGN_OR_RETURN(linear.b, LoadWeight(checkpoint, path + ".low_rank_b.weight", backend));
    if (checkpoint.config().pivoted) {
      ASSIGN_OR_RETURN(linear.order,
                       LoadOrder(checkpoint, path + ".low_rank_order", linear.a.rows(), backend));
    } else {
      bias = path + ".low_rank_b.bias";
    }
  } else {
    ASSIGN_OR_RETURN(linear.w, LoadWeight(checkpoint, path + ".weight", backend));
  }
  if (!HasBias(checkpoint.config(), id)) return absl::OkStatus();
  ASSIGN_OR_RETURN(linear.bias, LoadVector(checkpoint, bias, backend));
  return absl::OkStatus();
}

// A block's norms, and each of its linears.
size_t Parts(const Checkpoint& checkpoint) { return 1 + checkpoint.arch().linears.size(); }

// The parts [begin, end) of a block whose layer is set, beside what the backend is doing.
absl::Status LoadParts(const Checkpoint& checkpoint, size_t begin, size_t end, Backend& backend,
                       Block& block) {
  RETURN_IF_ERROR(backend.BeginUploads());
  absl::Status loaded;
  for (size_t part = begin; part < end && loaded.ok(); ++part) {
    loaded = part == 0
                 ? LoadNorms(checkpoint, backend, block)
                 : LoadLinear(checkpoint, checkpoint.arch().linears[part - 1].id, backend, block);
  }
  const absl::Status ended = backend.EndUploads();
  return loaded.ok() ? ended : loaded;
}

}  // namespace

absl::StatusOr<Matrix> NewWeight(int64_t rows, int64_t cols, DType stored, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix weight, backend.New(rows, AlignedCols(cols), backend.WeightType(stored)));
  return std::move(weight).Narrowed(cols);
}

absl::StatusOr<Matrix> PivotedOrder(std::span<const int32_t> order, int64_t rank,
                                    Backend& backend) {
  const auto gap = static_cast<int32_t>(AlignedCols(rank) - rank);
  std::vector<int32_t> places(order.begin(), order.end());
  for (int32_t& place : places) {
    if (place >= rank) place += gap;
  }
  ASSIGN_OR_RETURN(Matrix matrix, backend.New(1, static_cast<int64_t>(places.size()), DType::kI32));
  RETURN_IF_ERROR(backend.Upload(places.data(), DType::kI32, matrix));
  return matrix;
}

absl::StatusOr<Block> LoadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend) {
  Block block;
  block.layer = layer;
  RETURN_IF_ERROR(LoadParts(checkpoint, 0, Parts(checkpoint), backend, block));
  return block;
}

bool BlockReader::Reads(int64_t layer) const {
  return ahead_ && layer < checkpoint_.config().num_layers;
}

absl::StatusOr<Block> BlockReader::Take(int64_t layer) {
  if (!next_ || next_->layer != layer) {
    next_.reset();
    return LoadBlock(checkpoint_, layer, backend_);
  }
  Block block = *std::move(next_);
  next_.reset();
  RETURN_IF_ERROR(LoadParts(checkpoint_, parts_, Parts(checkpoint_), backend_, block));
  return block;
}

absl::Status BlockReader::ReadPart(int64_t layer) {
  if (!Reads(layer)) return absl::OkStatus();
  if (!next_ || next_->layer != layer) {
    next_.emplace();
    next_->layer = layer;
    parts_ = 0;
  }
  if (parts_ == Parts(checkpoint_)) return absl::OkStatus();
  ++parts_;
  return LoadParts(checkpoint_, parts_ - 1, parts_, backend_, *next_);
}

absl::Status BlockReader::ReadAhead(int64_t layer) {
  while (Reads(layer) && !(next_ && next_->layer == layer && parts_ == Parts(checkpoint_))) {
    RETURN_IF_ERROR(ReadPart(layer));
  }
  if (ahead_) ++layer;
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
