// The one numerical seam: coarse operations on row-major matrices. The CPU implementation is the
// specification; every implementation passes tests/conformance/backend_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "linalg/matrix.h"
#include "linalg/operands.h"

namespace svdllm {

// One symmetric eigenproblem of a batch: k = Σ_j values[j] · vectors[j]ᵀ vectors[j].
struct EigenProblem {
  MatrixRef k;       // F64 [n, n], symmetric; only its lower triangle is read, and it is destroyed
  MatrixRef values;  // F64 [1, n], descending
  // F64 [n, n]; row j is the unit eigenvector of values[j]. data == nullptr: values only.
  MatrixRef vectors;
};

// A batch of eigenproblems that is being solved. Its destructor waits for it. It must not outlive
// its backend.
class PendingEigen {
 public:
  virtual ~PendingEigen() = default;
  // Waits for the batch and says how it went. Call it once.
  virtual absl::Status Finish() = 0;
};

// Bytes of the memory that New hands out and that operations take while they run.
struct MemoryUse {
  int64_t now = 0;
  int64_t peak = 0;   // the most since the start, or since ResetPeak
  int64_t limit = 0;  // more is refused; 0: only the machine's memory limits it
};

// Not thread-safe: one worker owns one backend. Activations are F32, statistics and decompositions
// F64, weights F32 or what WeightType says. The caller promises that shapes and dtypes fit: a
// violation is INTERNAL, naming the operation. Operations are asynchronous where the device is;
// Download waits for them.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string Name() const = 0;  // "cpu: <model>, 2 threads"
  virtual bool OnDevice() const = 0;     // whether its memory is not the host's
  virtual MemoryUse Memory() const = 0;
  virtual void ResetPeak() = 0;
  // False: the backend computes nothing and only counts memory (counting/backend.h). What would be
  // read for such a backend need not be read.
  virtual bool Computes() const { return true; }
  // The type in which weights that are stored as `stored` are best held: F32, or F16 or BF16 where
  // products of these are faster. It is never less precise than what is stored.
  virtual DType WeightType(DType stored) const = 0;

  // Memory. New returns zeros. Where there is not enough memory it is RESOURCE_EXHAUSTED with
  // reason HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY.
  virtual absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) = 0;
  // `host` has to.rows × to.cols contiguous elements of host_dtype. They are converted to to.dtype.
  virtual absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) = 0;
  virtual absl::Status Download(MatrixRef from, void* host, DType host_dtype) = 0;
  // Both have the same shape. The floating-point types convert into each other; I32 converts to
  // nothing else, here and in the two above.
  virtual absl::Status Copy(MatrixRef from, MatrixRef to) = 0;
  // Between BeginUploads and EndUploads, New and Upload go beside the operations that are under way
  // instead of behind them. Nothing else may be called there but Memory. Whatever is called
  // afterwards finds what was uploaded.
  virtual absl::Status BeginUploads() = 0;
  virtual absl::Status EndUploads() = 0;

  // to[j, i] = from[i, j]. Both are F64.
  virtual absl::Status Transpose(MatrixRef from, MatrixRef to) = 0;

  // to[i, j] = from[rows[i], j]. Both are F64; every rows[i] is in [0, from.rows).
  virtual absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) = 0;

  // Products. c = alpha · op(a) op(b) + beta · c, where op transposes if asked. All three are F32,
  // or all are F64. A third form takes a as it is and b transposed, with a and c F32 and b F16 or
  // BF16: then a is rounded to b's type first, and the sums are F32.
  virtual absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a,
                            MatrixRef b, double beta, MatrixRef c) = 0;
  // gram += xᵀ x, its lower triangle only: x F32 [tokens, n], gram F64 [n, n]. x is first rounded
  // to `precision` (F32: left as it is; F16, BF16: faster on tensor cores). Products are F32 over
  // chunks of tokens, and the sum of the chunks is F64: an F32 sum would lose the small eigenvalues
  // that decide what is dropped.
  virtual absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) = 0;
  // cross += xᵀ y, rounded and summed like a Gram matrix: x F32 [tokens, p], y F32 [tokens, n],
  // cross F64 [p, n].
  virtual absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                                       MatrixRef cross) = 0;
  // Copies the lower triangle of a [n, n] over the upper one.
  virtual absl::Status MirrorLower(MatrixRef a) = 0;
  // sum[j] += Σ_t |x[t, j]|: x F32 [tokens, n], sum F64 [1, n].
  virtual absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) = 0;

  // Decompositions, F64.
  // Solves every problem of the batch. They are independent and run at the same time where that is
  // faster. The sign of a vector makes its largest component positive. Deterministic.
  absl::Status SymmetricEigen(std::span<const EigenProblem> problems) {
    ASSIGN_OR_RETURN(const std::unique_ptr<PendingEigen> pending, StartEigen(problems));
    return pending->Finish();
  }
  // Begins a batch: what it reads and writes must stay untouched until Finish. Other operations,
  // another batch among them, may be called meanwhile. A backend that has nothing to gain is done
  // at once.
  virtual absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) = 0;
  // w = q r with qᵀ q = I: w [m, n] with m >= n (destroyed), q [m, n], r [n, n] upper triangular.
  virtual absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) = 0;
  // Solves x · a = b for x. a [k, k] is symmetric positive definite and is destroyed; b [m, k] is
  // overwritten by x. FAILED_PRECONDITION where a is not numerically positive definite; b is then
  // unchanged.
  virtual absl::Status SolveSpd(MatrixRef a, MatrixRef b) = 0;
  // The interpolative decomposition of a wide matrix: a column-pivoted QR factorisation chooses k
  // of x's columns, and t holds the coefficients of the other columns in them:
  //   x[:, rest[i]] = Σ_j t[i, j] x[:, pivots[j]]
  // x is F64 [k, m] of rank k with k <= m, and is destroyed. pivots [k], like the other columns,
  // rest, is ascending. t is F64 [m − k, k]. With m = 4 and pivots = {1, 3}, rest is {0, 2} and
  // t[1, 0] is the coefficient of column 1 in column 2. FAILED_PRECONDITION where x is numerically
  // of lower rank.
  virtual absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) = 0;
  // x[i, j] *= scale[i] (rows) or scale[j] (columns). scale is F64 [1, rows or cols], x is F64.
  virtual absl::Status ScaleRows(MatrixRef x, MatrixRef scale) = 0;
  virtual absl::Status ScaleCols(MatrixRef x, MatrixRef scale) = 0;
  // sums[0, i] = Σ_j a[i, j] b[i, j], F64.
  virtual absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) = 0;
  // Σ_ij a[i, j] b[i, j], F64.
  virtual absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) = 0;

  // The forward pass, F32. x is [tokens, features]. Several sequences lie one below the other, and
  // offsets (first 0, last tokens) say where each begins: with offsets {0, 5, 12}, row 7 of x is
  // the third token of the second sequence.
  // y = x / sqrt(mean(x²) + eps) · weight
  virtual absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) = 0;
  // y = (x − mean(x)) / sqrt(variance(x) + eps) · weight + bias, row by row
  virtual absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                                 MatrixRef y) = 0;
  // y[t, j] = x[t, order[j]]. x is F32 [tokens, n], y F32 [tokens, m], order I32 [1, m] with values
  // in [0, n).
  virtual absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) = 0;
  // y += bias, row by row: bias [1, n].
  virtual absl::Status AddBias(MatrixRef y, MatrixRef bias) = 0;
  // y += alpha · x. Both are F32 or both F64.
  virtual absl::Status Add(double alpha, MatrixRef x, MatrixRef y) = 0;
  // Rotates pairs (i, i + r) of the first 2r elements of each head by the angle of the token's
  // position. The rest of a head stays. cosines and sines are [positions, r]. The first row of
  // sequence s is at position first[s] (at 0 where first is empty), and the rows behind it go on
  // from there.
  virtual absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                            std::span<const int64_t> offsets, std::span<const int64_t> first) = 0;
  // out = softmax(scale · q kᵀ, causal) v, head by head: q and out are [tokens, heads·head_dim], k
  // and v [any, kv_heads·head_dim]. The queries of a sequence are the last tokens of its keys:
  // query i of n sees the first count − n + i + 1 rows of keys[s]. With keys[s] = {first 10, count
  // 6} and n = 2 queries, query 0 sees rows 10 to 14 of k and v, query 1 rows 10 to 15. Where keys
  // is empty, the rows of k and v are those of q. The scores of a whole sequence are never in
  // memory at once.
  virtual absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                                 std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                                 MatrixRef out) = 0;
  // gate = activation(gate) · up. Where up is empty (data == nullptr) there is no such factor.
  virtual absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) = 0;
  // x = cap · tanh(x / cap)
  virtual absl::Status SoftCap(MatrixRef x, double cap) = 0;
  // Returns Σ over rows t with targets[t] >= 0 of −log softmax(logits[t])[targets[t]]. It is not
  // finite where a logit is not.
  virtual absl::StatusOr<double> CrossEntropy(MatrixRef logits,
                                              std::span<const int32_t> targets) = 0;
  // Returns Σ over rows of KL(softmax(reference) ‖ softmax(logits)) in nats. Both are F32 [rows,
  // n].
  virtual absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) = 0;
  // True where no element is NaN or infinite.
  virtual absl::StatusOr<bool> AllFinite(MatrixRef x) = 0;
};

// threads: 0 takes the machine's number, or OMP_NUM_THREADS. Results are bit-identical for a fixed
// thread count and processor type; both are in Name(). memory_limit is in bytes; 0 means none.
std::unique_ptr<Backend> NewCpuBackend(int threads = 0, int64_t memory_limit = 0);
// Returns the processor's type in its maker's words: what the CPU backend computes on.
std::string ProcessorName();

}  // namespace svdllm
