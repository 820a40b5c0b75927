// The backend's operations at the shapes of a 135M-parameter model, one at a time.
#include <benchmark/benchmark.h>

#include <vector>

#include "linalg/backend.h"

namespace svdllm {
namespace {

constexpr int64_t kTokens = 4096, kHidden = 576, kInter = 1536;

Backend& TheBackend() {
  static Backend* backend = NewCpuBackend().release();
  return *backend;
}

Matrix Filled(int64_t rows, int64_t cols, DType dtype) {
  std::vector<double> values(static_cast<size_t>(rows * cols));
  uint64_t state = 1;
  for (double& value : values) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    value = static_cast<double>(state >> 40) / (1 << 24) - 0.5;
  }
  Matrix m = *TheBackend().New(rows, cols, dtype);
  TheBackend().Upload(values.data(), DType::kF64, m).IgnoreError();
  return m;
}

void Flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                                benchmark::Counter::kIsRate);
}

void LinearLayer(benchmark::State& state) {
  const Matrix x = Filled(kTokens, kHidden, DType::kF32), w = Filled(kInter, kHidden, DType::kF32),
               y = *TheBackend().New(kTokens, kInter, DType::kF32);
  for (auto _ : state) TheBackend().Gemm(false, true, 1, x, w, 0, y).IgnoreError();
  Flops(state, 2.0 * kTokens * kHidden * kInter);
}
BENCHMARK(LinearLayer)->Unit(benchmark::kMillisecond)->UseRealTime();

void Gram(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Matrix x = Filled(kTokens, n, DType::kF32), g = *TheBackend().New(n, n, DType::kF64);
  for (auto _ : state) TheBackend().AccumulateGram(x, g).IgnoreError();
  Flops(state, static_cast<double>(kTokens * n * n));
}
BENCHMARK(Gram)->Arg(kHidden)->Arg(kInter)->Unit(benchmark::kMillisecond)->UseRealTime();

void Attention(benchmark::State& state) {
  const int64_t length = state.range(0);
  const Matrix q = Filled(kTokens, kHidden, DType::kF32), k = Filled(kTokens, 192, DType::kF32),
               v = Filled(kTokens, 192, DType::kF32), out = Filled(kTokens, kHidden, DType::kF32);
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t <= kTokens; t += length) offsets.push_back(t);
  for (auto _ : state) TheBackend().Attention(q, k, v, {9, 3, 64}, offsets, {}, out).IgnoreError();
  Flops(state, 4.0 * kTokens * kHidden * static_cast<double>(length) / 2);
}
BENCHMARK(Attention)->Arg(512)->Arg(2048)->Unit(benchmark::kMillisecond)->UseRealTime();

void GatedSilu(benchmark::State& state) {
  const Matrix gate = Filled(kTokens, kInter, DType::kF32),
               up = Filled(kTokens, kInter, DType::kF32);
  for (auto _ : state) TheBackend().Activate(Activation::kSilu, gate, up).IgnoreError();
  state.SetItemsProcessed(state.iterations() * kTokens * kInter);
}
BENCHMARK(GatedSilu)->Unit(benchmark::kMillisecond)->UseRealTime();

// A batch as a layer has it, and one problem alone.
void Eigen(benchmark::State& state) {
  const int64_t count = state.range(0);
  std::vector<Matrix> ks, copies, values, vectors;
  for (int64_t i = 0; i < count; ++i) {
    const Matrix x = Filled(2 * kHidden, kHidden, DType::kF64);
    ks.push_back(*TheBackend().New(kHidden, kHidden, DType::kF64));
    TheBackend().Gemm(true, false, 1, x, x, 0, ks.back()).IgnoreError();
    copies.push_back(*TheBackend().New(kHidden, kHidden, DType::kF64));
    values.push_back(*TheBackend().New(1, kHidden, DType::kF64));
    vectors.push_back(*TheBackend().New(kHidden, kHidden, DType::kF64));
  }
  for (auto _ : state) {
    std::vector<EigenProblem> problems;
    for (size_t i = 0; i < ks.size(); ++i) {
      TheBackend().Copy(ks[i], copies[i]).IgnoreError();
      problems.push_back({copies[i], values[i], vectors[i]});
    }
    TheBackend().SymmetricEigen(problems).IgnoreError();
  }
  state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(Eigen)->Arg(1)->Arg(5)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace svdllm

BENCHMARK_MAIN();
