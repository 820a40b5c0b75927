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
  MatrixRef k;       // F64 [n, n], symmetric, only the lower triangle is read; destroyed
  MatrixRef values;  // F64 [1, n], descending
  MatrixRef
      vectors;  // F64 [n, n], row j the unit eigenvector of values[j]; data == nullptr: values only
};

// A batch of eigenproblems on its way. Waits when it goes; must not outlive its backend.
class PendingEigen {
 public:
  virtual ~PendingEigen() = default;
  // Waits, and says how it went. To be called once.
  virtual absl::Status Finish() = 0;
};

// Bytes of the memory that New hands out and that operations take while they run.
struct MemoryUse {
  int64_t now = 0;
  int64_t peak = 0;   // since the start, or since ResetPeak
  int64_t limit = 0;  // more is refused; 0: there is none but the machine's
};

// Not thread-safe: one worker owns one. Activations are F32, statistics and decompositions F64,
// weights F32 or what WeightType says. Shapes and dtypes are the caller's promise: a violation is
// INTERNAL, naming the operation. Engine are asynchronous where the device is; Download waits.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string Name() const = 0;  // "cpu: <model>, 2 threads"
  virtual bool OnDevice() const = 0;     // whether its memory is another than the host's
  virtual MemoryUse Memory() const = 0;
  virtual void ResetPeak() = 0;
  // False: nothing is computed, only memory counted (counting_backend.h). What would be read for
  // such a backend need not be.
  virtual bool Computes() const { return true; }
  // The type in which weights that are stored as this are best held: F32, or F16 or BF16 where
  // products of these are faster. Never less precise than what is stored.
  virtual DType WeightType(DType stored) const = 0;

  // Memory. New returns zeros; RESOURCE_EXHAUSTED with reason HOST_OUT_OF_MEMORY or
  // DEVICE_OUT_OF_MEMORY where there is not enough.
  virtual absl::StatusOr<Matrix> New(int64_t rows, int64_t cols, DType dtype) = 0;
  // host: to.rows × to.cols contiguous elements of host_dtype, converted to to.dtype.
  virtual absl::Status Upload(const void* host, DType host_dtype, MatrixRef to) = 0;
  virtual absl::Status Download(MatrixRef from, void* host, DType host_dtype) = 0;
  // Same shape; the floating-point types convert into each other. I32 converts to nothing else,
  // here and above.
  virtual absl::Status Copy(MatrixRef from, MatrixRef to) = 0;
  // Between these two, New and Upload (and nothing else may be called but Memory) go beside the
  // operations that are under way instead of behind them; whatever is called afterwards finds what
  // was uploaded.
  virtual absl::Status BeginUploads() = 0;
  virtual absl::Status EndUploads() = 0;

  // to[j, i] = from[i, j]; F64.
  virtual absl::Status Transpose(MatrixRef from, MatrixRef to) = 0;

  // to[i, j] = from[rows[i], j]; F64, rows in [0, from.rows).
  virtual absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to) = 0;

  // Products. c = alpha · op(a) op(b) + beta · c; op transposes where asked. All F32, or all F64,
  // or, with a as it is and b transposed, a and c F32 and b F16 or BF16: then a is rounded to b's
  // type first, and the sums are F32.
  virtual absl::Status Gemm(bool transpose_a, bool transpose_b, double alpha, MatrixRef a,
                            MatrixRef b, double beta, MatrixRef c) = 0;
  // gram += xᵀ x, its lower triangle only: x F32 [tokens, n], gram F64 [n, n]. x is first rounded
  // to precision (F32: left as it is; F16, BF16: faster on tensor cores). Products are F32 over
  // chunks of tokens, their sum is F64 (an F32 sum loses the small eigenvalues that decide what is
  // dropped).
  virtual absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram) = 0;
  // cross += xᵀ y, likewise: x F32 [tokens, p], y F32 [tokens, n], cross F64 [p, n].
  virtual absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision,
                                       MatrixRef cross) = 0;
  // Copies the lower triangle of a [n, n] over the upper one.
  virtual absl::Status MirrorLower(MatrixRef a) = 0;
  // sum[j] += Σ_t |x[t, j]|: x F32 [tokens, n], sum F64 [1, n].
  virtual absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum) = 0;

  // Decompositions, F64.
  // Every problem of the batch; they are independent and run at the same time where that is
  // faster. The sign of a vector makes its largest component positive. Deterministic.
  absl::Status SymmetricEigen(std::span<const EigenProblem> problems) {
    ASSIGN_OR_RETURN(const std::unique_ptr<PendingEigen> pending, StartEigen(problems));
    return pending->Finish();
  }
  // Begins them: what they read and write stays untouched until Finish. Other operations, another
  // batch among them, may be called meanwhile. A backend that has nothing to gain is done at once.
  virtual absl::StatusOr<std::unique_ptr<PendingEigen>> StartEigen(
      std::span<const EigenProblem> problems) = 0;
  // w = q r with qᵀ q = I: w [m, n] with m >= n (destroyed), q [m, n], r [n, n] upper triangular.
  virtual absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r) = 0;
  // Solves x · a = b for x: a [k, k] symmetric positive definite (destroyed), b [m, k] is
  // overwritten by x. FAILED_PRECONDITION where a is not numerically positive definite; b is then
  // unchanged.
  virtual absl::Status SolveSpd(MatrixRef a, MatrixRef b) = 0;
  // The interpolative decomposition of a wide matrix: k of x's columns, chosen by a column-pivoted
  // QR factorisation, and the coefficients t of the others in them:
  //   x[:, rest[i]] = Σ_j t[i, j] x[:, pivots[j]]
  // x F64 [k, m] of rank k, k <= m (destroyed); pivots [k] and the others, rest, ascending; t F64
  // [m − k, k]. FAILED_PRECONDITION where x is numerically of lower rank.
  virtual absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) = 0;
  // x[i, j] *= scale[i] (rows) or scale[j] (columns); scale F64 [1, rows or cols], x F64.
  virtual absl::Status ScaleRows(MatrixRef x, MatrixRef scale) = 0;
  virtual absl::Status ScaleCols(MatrixRef x, MatrixRef scale) = 0;
  // sums[0, i] = Σ_j a[i, j] b[i, j], F64.
  virtual absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums) = 0;
  // Σ_ij a[i, j] b[i, j], F64.
  virtual absl::StatusOr<double> Dot(MatrixRef a, MatrixRef b) = 0;

  // The forward pass, F32. x is [tokens, features]; several sequences lie one after the other, and
  // offsets (first 0, last tokens) say where each begins.
  // y = x / sqrt(mean(x²) + eps) · weight
  virtual absl::Status RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y) = 0;
  // y = (x − mean(x)) / sqrt(variance(x) + eps) · weight + bias, row by row
  virtual absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps,
                                 MatrixRef y) = 0;
  // y[t, j] = x[t, order[j]]: x F32 [tokens, n], y F32 [tokens, m], order I32 [1, m] with values in
  // [0, n).
  virtual absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y) = 0;
  // y += bias, row by row: bias [1, n].
  virtual absl::Status AddBias(MatrixRef y, MatrixRef bias) = 0;
  // y += alpha · x; F32 or F64
  virtual absl::Status Add(double alpha, MatrixRef x, MatrixRef y) = 0;
  // Rotates pairs (i, i + r) of the first 2r elements of each head by the angle of the token's
  // position; the rest of a head stays. cosines and sines are [positions, r]; the first row of
  // sequence s is at position first[s] (first empty: at 0), the ones behind it go on from there.
  virtual absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                            std::span<const int64_t> offsets, std::span<const int64_t> first) = 0;
  // out = softmax(scale · q kᵀ, causal) v, head by head: q, out [tokens, heads·head_dim], k, v
  // [any, kv_heads·head_dim]. The queries of a sequence are the last tokens of its keys: query i of
  // n sees the first count − n + i + 1 rows of keys[s]. keys empty: the rows of k and v are those
  // of q. Never materialises the scores of a whole sequence.
  virtual absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                                 std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                                 MatrixRef out) = 0;
  // gate = activation(gate) · up; without the factor where up is empty (data == nullptr).
  virtual absl::Status Activate(Activation activation, MatrixRef gate, MatrixRef up) = 0;
  // x = cap · tanh(x / cap)
  virtual absl::Status SoftCap(MatrixRef x, double cap) = 0;
  // Σ over rows t with targets[t] >= 0 of −log softmax(logits[t])[targets[t]]. Not finite where a
  // logit is not.
  virtual absl::StatusOr<double> CrossEntropy(MatrixRef logits,
                                              std::span<const int32_t> targets) = 0;
  // Σ over rows of KL(softmax(reference) ‖ softmax(logits)), nats: both F32 [rows, n].
  virtual absl::StatusOr<double> KlDivergence(MatrixRef reference, MatrixRef logits) = 0;
  // True where no element is NaN or infinite.
  virtual absl::StatusOr<bool> AllFinite(MatrixRef x) = 0;
};

// threads: 0 takes the machine's (or OMP_NUM_THREADS). Results are bit-identical for a fixed thread
// count and processor type; both are in Name(). memory_limit in bytes; 0: none.
std::unique_ptr<Backend> NewCpuBackend(int threads = 0, int64_t memory_limit = 0);
// The processor's type in its maker's words: what the CPU backend computes on.
std::string ProcessorName();

}  // namespace svdllm
