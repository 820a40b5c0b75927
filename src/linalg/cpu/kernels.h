// Single-threaded F32 loops of the CPU backend, compiled for several instruction sets and chosen at
// load time. Parallel loops call them: a clone does not reach into an OpenMP region.
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
// gate = activation(gate) · up; up may be null.
void ActivateRow(Activation activation, float* gate, const float* up, int64_t n);
// x = cap · tanh(scale · x / cap)
void SoftCapRow(float* x, int64_t n, float scale, float cap);
// One head of one token: pairs (i, i + half).
void RopeRow(float* x, const float* cosines, const float* sines, int64_t half);
// x = exp(scale · (x − max)) over the first n; returns their sum. n > 0.
float ExpRow(float* x, int64_t n, float scale);
void ScaleRow(float* x, int64_t n, float factor);
// log Σ exp(x), the sum in F64; NaN where an element is NaN or +inf.
double LogSumExp(const float* x, int64_t n);
// KL(softmax(p) ‖ softmax(q)), sums in F64. n > 0.
double KlDivergence(const float* p, const float* q, int64_t n);
// sum[j] += x[j] and sum[j] += |x[j]|
void AddToDouble(const float* x, int64_t n, double* sum);
void AddAbsToDouble(const float* x, int64_t n, double* sum);
bool AllFinite(const float* x, int64_t n);
bool AllFinite(const double* x, int64_t n);

}  // namespace svdllm::cpu
