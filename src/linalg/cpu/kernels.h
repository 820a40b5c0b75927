// Single-threaded F32 loops of the CPU backend. They are compiled for several instruction sets, and
// the processor's is chosen at load time. Parallel loops call them, because the compiler makes no
// such clones of an OpenMP region.
#pragma once

#include <cstdint>

#include "linalg/operands.h"

namespace svdllm::cpu {

void RmsNormRow(const float* x, const float* weight, int64_t n, double eps, float* y);
void LayerNormRow(const float* x, const float* weight, const float* bias, int64_t n, double eps,
                  float* y);
// y[j] = x[order[j]]
void GatherRow(const float* x, const int32_t* order, int64_t n, float* y);
// y += factor · x
void AddRow(const float* x, int64_t n, float factor, float* y);
// gate = activation(gate) · up, or activation(gate) alone where up is null.
void ActivateRow(Activation activation, float* gate, const float* up, int64_t n);
// x = cap · tanh(scale · x / cap)
void SoftCapRow(float* x, int64_t n, float scale, float cap);
// Rotates the pairs (i, i + half) of one head of one token.
void RopeRow(float* x, const float* cosines, const float* sines, int64_t half);
// x = exp(scale · (x − max)) over the first n > 0 elements. Returns their sum.
float ExpRow(float* x, int64_t n, float scale);
void ScaleRow(float* x, int64_t n, float factor);
// Returns log Σ exp(x), with the sum in F64; NaN where an element is NaN or +inf.
double LogSumExp(const float* x, int64_t n);
// Returns KL(softmax(p) ‖ softmax(q)), with sums in F64. n > 0.
double KlDivergence(const float* p, const float* q, int64_t n);
// sum[j] += x[j], and sum[j] += |x[j]|.
void AddToDouble(const float* x, int64_t n, double* sum);
void AddAbsToDouble(const float* x, int64_t n, double* sum);
bool AllFinite(const float* x, int64_t n);
bool AllFinite(const double* x, int64_t n);

}  // namespace svdllm::cpu
