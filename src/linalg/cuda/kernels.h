// The kernels that the CUDA backend adds to what CUDA's libraries have. Operands are checked
// before, lie on the stream's device, and stay until the stream has passed; nothing here waits. A
// launch that failed is left to cudaGetLastError(). Shapes and meanings are Backend's unless said.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "linalg/matrix.h"
#include "linalg/operands.h"

namespace svdllm::cuda {

// Elements.

// Elements begin, begin + 1, … of to, counted along its rows, become those of from; any types that
// convert, and any type into itself.
void Convert(MatrixRef from, int64_t from_begin, MatrixRef to, int64_t to_begin, int64_t count,
             cudaStream_t stream);
void Transpose(MatrixRef from, MatrixRef to, cudaStream_t stream);
void MirrorLower(MatrixRef a, cudaStream_t stream);
// to = from, rounded to nearest even; F32 to F16, where what is too large becomes the largest, or
// to BF16.
void Round(MatrixRef from, MatrixRef to, cudaStream_t stream);
// sum[i, j] += x[i, j] where j <= i + diagonal: x F32, sum F64.
void AddToDouble(MatrixRef x, MatrixRef sum, int64_t diagonal, cudaStream_t stream);
void ScaleRows(MatrixRef x, MatrixRef scale, cudaStream_t stream);
void ScaleCols(MatrixRef x, MatrixRef scale, cudaStream_t stream);
void AddBias(MatrixRef y, MatrixRef bias, cudaStream_t stream);
void Add(double alpha, MatrixRef x, MatrixRef y, cudaStream_t stream);
// up.data may be nullptr.
void Activate(Activation activation, MatrixRef gate, MatrixRef up, cudaStream_t stream);
void SoftCap(MatrixRef x, double cap, cudaStream_t stream);
void GatherCols(MatrixRef x, MatrixRef order, MatrixRef y, cudaStream_t stream);
// offsets: sequences + 1 on the device; first: sequences, or nullptr where all are 0.
void Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines, const int64_t* offsets,
          const int64_t* first, int64_t sequences, cudaStream_t stream);

// Sums. Their order is fixed, and so are their bits.

void RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y, cudaStream_t stream);
void LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps, MatrixRef y,
               cudaStream_t stream);
void AccumulateAbs(MatrixRef x, MatrixRef sum, cudaStream_t stream);
// rows[i]: row i's share of the result, 0 where targets[i] < 0.
void CrossEntropy(MatrixRef logits, const int32_t* targets, double* rows, cudaStream_t stream);
void KlDivergence(MatrixRef reference, MatrixRef logits, double* rows, cudaStream_t stream);
void Dot(MatrixRef a, MatrixRef b, double* rows, cudaStream_t stream);
// rows[i] = Σ_j |a[i, j]|, F64.
void AbsSums(MatrixRef a, double* rows, cudaStream_t stream);
// *bad becomes 1 where an element is not finite, and is left alone otherwise.
void FindNonFinite(MatrixRef x, int32_t* bad, cudaStream_t stream);

// Attention.

// Of a tile's scores [heads, tile_rows, pitch], F32, of which rows × count are there: query r sees
// the keys up to before + r, of them those in shape's window. Its weights, of dtype and laid out
// like the scores; 0 where it sees nothing.
void Softmax(const float* scores, const AttentionShape& shape, int64_t before, int64_t rows,
             int64_t count, int64_t tile_rows, int64_t pitch, void* weights, DType dtype,
             cudaStream_t stream);

// The rest is for heads of at most kMaxHeadDim.

inline constexpr int64_t kMaxHeadDim = 256;
// shape: its scale is filled in. offsets and keys on the device, one key range a sequence; longest:
// of the sequences' queries.
void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               const int64_t* offsets, const KeyRange* keys, int64_t sequences, int64_t longest,
               MatrixRef out, cudaStream_t stream);

// Decompositions, F64.

// What the eigensolver left, ascending, in the order and with the signs of Backend: row n − 1 − j
// of found becomes row j of vectors (none where its data is nullptr), found_values likewise.
void OrderEigen(MatrixRef found, const double* found_values, MatrixRef values, MatrixRef vectors,
                cudaStream_t stream);
// r [n, n] = the upper triangle of the matrix whose transpose is from [n, m], zeros below.
void UpperOfTranspose(MatrixRef from, MatrixRef r, cudaStream_t stream);
// The column-pivoted QR factorisation of x [k, m], k <= m, in place and without moving columns:
// after steps 0 to k − 1, chosen[s] is the column of step s, diagonal[s] its element of R; above,
// column j of x holds its elements of R. norms, reflector and free are scratch of m, k + 1 and m
// elements, which BeginPivotedQr fills.
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
// to[i, j] = from[i, columns[j]], F64, for the columns of to.
void PickCols(MatrixRef from, const int32_t* columns, MatrixRef to, cudaStream_t stream);
// to[i, j] = from[rows[i], j], F64, for the rows of to.
void PickRows(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream);
// to[i, j] = from[rows[j], i], F64.
void PickRowsTransposed(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream);

}  // namespace svdllm::cuda
