#include "linalg/cuda/attention_tiles.h"

#include <algorithm>

#include "linalg/cuda/kernels.h"

namespace svdllm::cuda {
namespace {

using device::AttentionTiles;

// Tiles begin at multiples of this in the keys: rows of 16-bit scores on 16 bytes.
constexpr int64_t kKeyAlign = 8;

// The heads as batches of one stride each: those of a key head, whose keys have a stride of 0, or
// one of every key head; whichever makes fewer batches.
struct Batches {
  int64_t count = 0, heads = 0;              // batches, and heads in each
  int64_t query_step = 0, key_step = 0;      // heads from one batch to the next
  int64_t query_stride = 0, key_stride = 0;  // heads from one head of a batch to the next
};

Batches BatchesOf(const AttentionShape& shape) {
  const int64_t group = shape.heads / shape.kv_heads;
  if (group <= shape.kv_heads) return {group, shape.kv_heads, 1, 0, group, 1};
  return {shape.kv_heads, group, group, 1, 1, 0};
}

class Tiler {
 public:
  Tiler(const std::shared_ptr<Device>& device, const AttentionShape& shape,
        const AttentionTiles& tiles)
      : device_(device), shape_(shape), tiles_(tiles), batches_(BatchesOf(shape)) {}

  absl::Status Init() {
    const int64_t elements = shape_.heads * tiles_.rows * tiles_.pitch;
    ASSIGN_OR_RETURN(scores_, Device::Allocate(device_, elements * 4));
    ASSIGN_OR_RETURN(weights_, Device::Allocate(device_, elements * static_cast<int64_t>(Size())));
    if (!IsHalf(tiles_.dtype)) return absl::OkStatus();
    const int64_t d = shape_.head_dim;
    ASSIGN_OR_RETURN(
        q_, Device::Allocate(device_, device::RoundedBytes(tiles_.queries, shape_.heads * d)));
    const int64_t bytes = device::RoundedBytes(tiles_.keys, shape_.kv_heads * d);
    ASSIGN_OR_RETURN(k_, Device::Allocate(device_, bytes));
    ASSIGN_OR_RETURN(v_, Device::Allocate(device_, bytes));
    return absl::OkStatus();
  }

  // One sequence: its queries, and all of its keys and values.
  absl::Status Attend(MatrixRef q, MatrixRef k, MatrixRef v, MatrixRef out) {
    ASSIGN_OR_RETURN(q, Rounded(q, q_.get()));
    ASSIGN_OR_RETURN(k, Rounded(k, k_.get()));
    ASSIGN_OR_RETURN(v, Rounded(v, v_.get()));
    const int64_t past = k.rows - q.rows;
    for (int64_t row = 0; row < q.rows; row += tiles_.rows) {
      const int64_t rows = std::min(tiles_.rows, q.rows - row);
      // The keys that the tile's first query sees first, and its last query last.
      const int64_t hidden =
          shape_.window > 0 ? std::max<int64_t>(past + row - shape_.window + 1, 0) : 0;
      const int64_t first = hidden / kKeyAlign * kKeyAlign, count = past + row + rows - first;
      RETURN_IF_ERROR(Scores(q.Rows(row, rows), k.Rows(first, count)));
      Softmax(static_cast<const float*>(scores_.get()), shape_, past + row - first, rows, count,
              tiles_.rows, tiles_.pitch, weights_.get(), tiles_.dtype, device_->Use());
      RETURN_IF_ERROR(device_->Launched("Attention"));
      RETURN_IF_ERROR(Mix(v.Rows(first, count), out.Rows(row, rows)));
    }
    return absl::OkStatus();
  }

 private:
  size_t Size() const { return SizeOf(tiles_.dtype); }

  absl::StatusOr<MatrixRef> Rounded(MatrixRef x, void* to) {
    if (to == nullptr) return x;
    const MatrixRef rounded{to, x.rows, x.cols, device::RoundedPitch(x.cols), tiles_.dtype};
    Round(x, rounded, device_->Use());
    RETURN_IF_ERROR(device_->Launched("Attention"));
    return rounded;
  }

  static const void* Head(const MatrixRef& x, int64_t head, int64_t head_dim) {
    return x.Cols(head * head_dim, head_dim).data;
  }
  int64_t Square() const { return tiles_.rows * tiles_.pitch; }  // elements of a head's tile

  // scores[h] = q_h k_hᵀ; to the library, which sees columns, the transpose: k_h q_hᵀ.
  absl::Status Scores(MatrixRef q, MatrixRef k) {
    const int64_t d = shape_.head_dim;
    const float one = 1, zero = 0;
    for (int64_t b = 0; b < batches_.count; ++b) {
      const int64_t query = b * batches_.query_step, key = b * batches_.key_step;
      device_->Pace();
      RETURN_IF_ERROR(device_->Call("Attention", [&] {
        return cublasGemmStridedBatchedEx_64(
            device_->blas(), CUBLAS_OP_T, CUBLAS_OP_N, k.rows, q.rows, d, &one, Head(k, key, d),
            DataType(k.dtype), k.stride, batches_.key_stride * d, Head(q, query, d),
            DataType(q.dtype), q.stride, batches_.query_stride * d, &zero,
            static_cast<float*>(scores_.get()) + query * Square(), CUDA_R_32F, tiles_.pitch,
            batches_.query_stride * Square(), batches_.heads, CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT);
      }));
    }
    return absl::OkStatus();
  }

  // out_h = weights[h] v_h; to the library v_hᵀ weights[h]ᵀ.
  absl::Status Mix(MatrixRef v, MatrixRef out) {
    const int64_t d = shape_.head_dim;
    const float one = 1, zero = 0;
    for (int64_t b = 0; b < batches_.count; ++b) {
      const int64_t query = b * batches_.query_step, key = b * batches_.key_step;
      const char* const weights = static_cast<const char*>(weights_.get()) +
                                  query * Square() * static_cast<int64_t>(Size());
      device_->Pace();
      RETURN_IF_ERROR(device_->Call("Attention", [&] {
        return cublasGemmStridedBatchedEx_64(
            device_->blas(), CUBLAS_OP_N, CUBLAS_OP_N, d, out.rows, v.rows, &one, Head(v, key, d),
            DataType(v.dtype), v.stride, batches_.key_stride * d, weights, DataType(tiles_.dtype),
            tiles_.pitch, batches_.query_stride * Square(), &zero, out.as<float>() + query * d,
            CUDA_R_32F, out.stride, batches_.query_stride * d, batches_.heads, CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT);
      }));
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<Device>& device_;
  const AttentionShape& shape_;
  const AttentionTiles& tiles_;
  const Batches batches_;
  std::shared_ptr<void> scores_, weights_, q_, k_, v_;
};

}  // namespace

absl::Status TiledAttention(const std::shared_ptr<Device>& device, MatrixRef q, MatrixRef k,
                            MatrixRef v, const AttentionShape& shape,
                            const device::AttentionTiles& tiles, std::span<const int64_t> offsets,
                            std::span<const KeyRange> keys, MatrixRef out) {
  Tiler tiler(device, shape, tiles);
  RETURN_IF_ERROR(tiler.Init());
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t begin = offsets[s], rows = offsets[s + 1] - begin;
    if (rows == 0) continue;
    RETURN_IF_ERROR(tiler.Attend(q.Rows(begin, rows), k.Rows(keys[s].first, keys[s].count),
                                 v.Rows(keys[s].first, keys[s].count), out.Rows(begin, rows)));
  }
  return absl::OkStatus();
}

}  // namespace svdllm::cuda
