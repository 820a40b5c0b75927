// The backend's operations one at a time, at the shapes of a model of 135M parameters; on a device
// (SVDLLM_BENCH_DEVICE=cuda:0) at those of one of 7B; and eigenproblems beside products.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "linalg/backend.h"
#include "linalg/cuda/loader.h"

namespace svdllm {
namespace {

constexpr int64_t kTokens = 4096;

Backend& TheBackend() {
  static Backend* backend = [] {
    const char* device = std::getenv("SVDLLM_BENCH_DEVICE");
    if (device == nullptr || std::strcmp(device, "cpu") == 0) return NewCpuBackend().release();
    auto made = NewCudaBackend(std::atoi(device + std::min(std::strlen(device), size_t{5})));
    if (made.ok()) return made->release();
    std::fprintf(stderr, "kernel_bench: %s\n", std::string(made.status().message()).c_str());
    std::exit(1);
  }();
  return *backend;
}

// What a CPU emulates is as slow as one.
bool Large() {
  static const bool large = TheBackend().OnDevice() &&
                            TheBackend().Name().find("emulated on the CPU") == std::string::npos;
  return large;
}
int64_t Hidden() { return Large() ? 4096 : 576; }
int64_t Inter() { return Large() ? 11008 : 1536; }
DType Weights() { return TheBackend().WeightType(DType::kBF16); }

// Until the device has done what it was asked.
void Await(const MatrixRef& x) {
  double one = 0;
  TheBackend().Download(x.Rows(0, 1).Cols(0, 1), &one, DType::kF64).IgnoreError();
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
  const int64_t hidden = Hidden(), inter = Inter();
  const Matrix x = Filled(kTokens, hidden, DType::kF32), w = Filled(inter, hidden, Weights()),
               y = *TheBackend().New(kTokens, inter, DType::kF32);
  for (auto _ : state) {
    TheBackend().Gemm(false, true, 1, x, w, 0, y).IgnoreError();
    Await(y);
  }
  Flops(state, 2.0 * static_cast<double>(kTokens * hidden * inter));
}
BENCHMARK(LinearLayer)->Unit(benchmark::kMillisecond)->UseRealTime();

// 0: of the hidden features, 1: of the intermediate ones.
void Gram(benchmark::State& state) {
  const int64_t n = state.range(0) == 0 ? Hidden() : Inter();
  const Matrix x = Filled(kTokens, n, DType::kF32), g = *TheBackend().New(n, n, DType::kF64);
  for (auto _ : state) {
    TheBackend().AccumulateGram(x, Weights(), g).IgnoreError();
    Await(g);
  }
  Flops(state, static_cast<double>(kTokens * n * n));
}
BENCHMARK(Gram)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime();

void Attention(benchmark::State& state) {
  const int64_t length = state.range(0);
  AttentionShape shape = Large() ? AttentionShape{32, 32, 128} : AttentionShape{9, 3, 64};
  shape.precision = Weights();
  const int64_t q_cols = shape.heads * shape.head_dim, k_cols = shape.kv_heads * shape.head_dim;
  const Matrix q = Filled(kTokens, q_cols, DType::kF32), k = Filled(kTokens, k_cols, DType::kF32),
               v = Filled(kTokens, k_cols, DType::kF32), out = Filled(kTokens, q_cols, DType::kF32);
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t <= kTokens; t += length) offsets.push_back(t);
  for (auto _ : state) {
    TheBackend().Attention(q, k, v, shape, offsets, {}, out).IgnoreError();
    Await(out);
  }
  Flops(state, 4.0 * static_cast<double>(kTokens * q_cols) * static_cast<double>(length) / 2);
}
BENCHMARK(Attention)->Arg(64)->Arg(512)->Arg(2048)->Unit(benchmark::kMillisecond)->UseRealTime();

void GatedSilu(benchmark::State& state) {
  const Matrix gate = Filled(kTokens, Inter(), DType::kF32),
               up = Filled(kTokens, Inter(), DType::kF32);
  for (auto _ : state) {
    TheBackend().Activate(Activation::kSilu, gate, up).IgnoreError();
    Await(gate);
  }
  state.SetItemsProcessed(state.iterations() * kTokens * Inter());
}
BENCHMARK(GatedSilu)->Unit(benchmark::kMillisecond)->UseRealTime();

// Problems of the hidden features' order, and memory to solve them in.
struct EigenBatch {
  explicit EigenBatch(int64_t count) {
    const int64_t n = Hidden();
    for (int64_t i = 0; i < count; ++i) {
      const Matrix x = Filled(2 * n, n, DType::kF64);
      ks.push_back(*TheBackend().New(n, n, DType::kF64));
      TheBackend().Gemm(true, false, 1, x, x, 0, ks.back()).IgnoreError();
      copies.push_back(*TheBackend().New(n, n, DType::kF64));
      values.push_back(*TheBackend().New(1, n, DType::kF64));
      vectors.push_back(*TheBackend().New(n, n, DType::kF64));
    }
  }
  // The first of them as they were.
  std::vector<EigenProblem> Problems(size_t count) const {
    std::vector<EigenProblem> problems;
    for (size_t i = 0; i < count; ++i) {
      TheBackend().Copy(ks[i], copies[i]).IgnoreError();
      problems.push_back({copies[i], values[i], vectors[i]});
    }
    return problems;
  }
  std::vector<Matrix> ks, copies, values, vectors;
};

// A batch as a layer has it, and one problem alone.
void Eigen(benchmark::State& state) {
  const EigenBatch batch(state.range(0));
  for (auto _ : state) {
    TheBackend().SymmetricEigen(batch.Problems(batch.ks.size())).IgnoreError();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Eigen)->Arg(1)->Arg(5)->Unit(benchmark::kMillisecond)->UseRealTime();

// Seconds of a layer's eigenproblems alone, of products for as long alone, and of both at once: the
// share of the shorter that is hidden (1: all of it) is what a job gains by doing both at once.
void EigenBesideProducts(benchmark::State& state) {
  const EigenBatch batch(7);
  const Matrix x = Filled(kTokens, Hidden(), DType::kF32), w = Filled(Inter(), Hidden(), Weights()),
               y = *TheBackend().New(kTokens, Inter(), DType::kF32);
  const auto seconds = [&](size_t problems, int64_t products) {
    const std::vector<EigenProblem> given = batch.Problems(problems);
    Await(batch.copies.back());
    const auto start = std::chrono::steady_clock::now();
    const auto pending = TheBackend().StartEigen(given);
    for (int64_t i = 0; i < products; ++i) {
      TheBackend().Gemm(false, true, 1, x, w, 0, y).IgnoreError();
    }
    if (!pending.ok() || !(*pending)->Finish().ok()) state.SkipWithError("eigenproblems failed");
    Await(y);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const size_t all = batch.ks.size();
  seconds(all, 8);  // warm
  const double product = seconds(0, 8) / 8;
  for (auto _ : state) {
    const double one = seconds(1, 0), eigen = seconds(all, 0);
    const auto count = std::max<int64_t>(1, static_cast<int64_t>(eigen / product));
    const double products = seconds(0, count), both = seconds(all, count);
    state.SetIterationTime(both);
    state.counters["one_s"] = one;
    state.counters["seven_s"] = eigen;
    state.counters["products_s"] = products;
    state.counters["both_s"] = both;
    state.counters["overlap"] = (eigen + products - both) / std::min(eigen, products);
  }
}
BENCHMARK(EigenBesideProducts)->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace svdllm

BENCHMARK_MAIN();
