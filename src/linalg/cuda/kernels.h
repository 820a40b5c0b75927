// The kernels that the CUDA backend adds to what CUDA's libraries have. Operands are checked
// already, lie on the stream's device, and stay until the stream has passed. Nothing here waits. A
// launch that failed is left to cudaGetLastError(). Shapes and meanings are those of Backend where
// nothing else is said.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "linalg/matrix.h"
#include "linalg/operands.h"

namespace svdllm::cuda {

// Elements.

// Elements begin, begin + 1, … of to, counted along its rows, become those of from. Types that
// convert are converted; any type goes into itself.
void Convert(MatrixRef from, int64_t from_begin, MatrixRef to, int64_t to_begin, int64_t count,
             cudaStream_t stream);
void Transpose(MatrixRef from, MatrixRef to, cudaStream_t stream);
void MirrorLower(MatrixRef a, cudaStream_t stream);
// to = from, rounded to nearest even: F32 to BF16, or to F16, where what is too large becomes the
// largest number.
void Round(MatrixRef from, MatrixRef to, cudaStream_t stream);
// sum[i, j] += x[i, j] where j <= i + diagonal. x is F32, sum is F64.
void AddToDouble(MatrixRef x, MatrixRef sum, int64_t diagonal, cudaStream_t stream);
void ScaleRows(MatrixRef x, MatrixRef scale, cudaStream_t stream);
void ScaleCols(MatrixRef x, MatrixRef scale, cudaStream_t stream);
void AddBias(MatrixRef y, MatrixRef bias, cudaStream_t stream);
void Add(double alpha, MatrixRef x, MatrixRef y, cudaStream_t stream);
// up.data may be nullptr.
void Activate(Activation activation, MatrixRef gate, MatrixRef up, cudaStream_t stream);
void SoftCap(MatrixRef x, double cap, cudaStream_t stream);
void GatherCols(MatrixRef x, MatrixRef order, MatrixRef y, cudaStream_t stream);
// offsets: sequences + 1 numbers on the device. first: one number per sequence, or nullptr where
// all are 0.
void Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines, const int64_t* offsets,
          const int64_t* first, int64_t sequences, cudaStream_t stream);

// Sums. Their order is fixed, and so are their bits.

void RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y, cudaStream_t stream);
void LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps, MatrixRef y,
               cudaStream_t stream);
void AccumulateAbs(MatrixRef x, MatrixRef sum, cudaStream_t stream);
// rows[i] becomes row i's share of the result, 0 where targets[i] < 0.
void CrossEntropy(MatrixRef logits, const int32_t* targets, double* rows, cudaStream_t stream);
void KlDivergence(MatrixRef reference, MatrixRef logits, double* rows, cudaStream_t stream);
void Dot(MatrixRef a, MatrixRef b, double* rows, cudaStream_t stream);
// rows[i] = Σ_j |a[i, j]|, in F64.
void AbsSums(MatrixRef a, double* rows, cudaStream_t stream);
// *bad becomes 1 where an element is not finite. Otherwise it is left alone.
void FindNonFinite(MatrixRef x, int32_t* bad, cudaStream_t stream);

// Attention.

// The softmax of a tile's scores, F32 [heads, tile_rows, pitch], of which rows × count are there.
// Query r sees the keys up to before + r, of them those in shape's window. weights has the dtype
// given and is laid out like the scores: the weight of key c for query r of head h is element (h ·
// tile_rows + r) · pitch + c. It is 0 where the query does not see the key.
void Softmax(const float* scores, const AttentionShape& shape, int64_t before, int64_t rows,
             int64_t count, int64_t tile_rows, int64_t pitch, void* weights, DType dtype,
             cudaStream_t stream);

// The rest is for heads of at most kMaxHeadDim.

inline constexpr int64_t kMaxHeadDim = 256;
// shape has its scale filled in. offsets and keys are on the device, with one key range per
// sequence. longest is the largest number of queries of a sequence.
void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               const int64_t* offsets, const KeyRange* keys, int64_t sequences, int64_t longest,
               MatrixRef out, cudaStream_t stream);

// Decompositions, F64.

// Brings what the eigensolver left, ascending, into the order and the signs of Backend: row n − 1 −
// j of found becomes row j of vectors (none where its data is nullptr), and found_values go the
// same way.
void OrderEigen(MatrixRef found, const double* found_values, MatrixRef values, MatrixRef vectors,
                cudaStream_t stream);
// r [n, n] = the upper triangle of the matrix whose transpose is from [n, m], zeros below.
void UpperOfTranspose(MatrixRef from, MatrixRef r, cudaStream_t stream);
// The column-pivoted QR factorisation of x [k, m], k <= m, in place and without moving columns.
// After steps 0 to k − 1, chosen[s] is the column of step s and diagonal[s] its element of R; above
// the diagonal, column j of x holds its elements of R. norms, reflector and free are scratch of m,
// k + 1 and m elements, which BeginPivotedQr fills.
struct PivotedQr {
  MatrixRef x;
  int32_t* chosen;
  double* diagonal;
  double* norms;
  double* reflector;
  int32_t* free;
};
void BeginPivotedQr(const PivotedQr& qr, cudaStream_t stream);
void StepOfPivotedQr(const PivotedQr& qr, int64_t step, cudaStream_t stream);
// to[i, j] = from[i, columns[j]] for all columns j of to. Both are F64.
void PickCols(MatrixRef from, const int32_t* columns, MatrixRef to, cudaStream_t stream);
// to[i, j] = from[rows[i], j] for all rows i of to. Both are F64.
void PickRows(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream);
// to[i, j] = from[rows[j], i]. Both are F64.
void PickRowsTransposed(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream);

}  // namespace svdllm::cuda
