#include "linalg/cpu_attention.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "linalg/cpu_few_rows.h"
#include "linalg/cpu_kernels.h"

namespace svdllm::cpu {
namespace {

// Query rows whose scores are held at once.
constexpr int64_t kAttentionBlock = 128;
// Below this many multiplications a parallel region costs more than it saves.
constexpr int64_t kParallelProducts = 65536;

}  // namespace

void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               std::span<const int64_t> offsets, MatrixRef out) {
  struct Task {
    int64_t begin, first, rows, head;  // sequence start, first query row in it, rows, head
  };
  const int64_t d = shape.head_dim;
  std::vector<Task> tasks;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t length = offsets[s + 1] - offsets[s];
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t i = 0; i < length; i += kAttentionBlock) {
        tasks.push_back({offsets[s], i, std::min(kAttentionBlock, length - i), h});
      }
    }
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  const int64_t group = shape.heads / shape.kv_heads;
#pragma omp parallel
  {
    std::vector<float> scores;
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < tasks.size(); ++i) {
      const Task& task = tasks[i];
      const int64_t keys = task.first + task.rows;  // causal: what the last row may see
      scores.resize(static_cast<size_t>(task.rows * keys));
      const int64_t row = task.begin + task.first;
      const float* kh = k.row<float>(task.begin) + task.head / group * d;
      const float* vh = v.row<float>(task.begin) + task.head / group * d;
      float* oh = out.row<float>(row) + task.head * d;
      const auto rows = static_cast<blasint>(task.rows), cols = static_cast<blasint>(keys),
                 dim = static_cast<blasint>(d);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, cols, dim, 1.0f,
                  q.row<float>(row) + task.head * d, static_cast<blasint>(q.stride), kh,
                  static_cast<blasint>(k.stride), 0.0f, scores.data(), cols);
      for (int64_t r = 0; r < task.rows; ++r) {
        float* s = scores.data() + r * keys;
        const int64_t visible = task.first + r + 1;
        const float sum = ExpRow(s, visible, scale);
        ScaleRow(s, visible, 1.0f / sum);
        std::fill(s + visible, s + keys, 0.0f);
      }
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, dim, cols, 1.0f, scores.data(),
                  cols, vh, static_cast<blasint>(v.stride), 0.0f, oh,
                  static_cast<blasint>(out.stride));
    }
  }
}

void CachedAttention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                     std::span<const int64_t> lengths, MatrixRef out) {
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
  const int64_t capacity = k.rows / q.rows;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  int64_t products = 0;
  for (const int64_t length : lengths) products += length * q.cols;
    // The query heads that share a key head go over it together.
#pragma omp parallel if (products > kParallelProducts)
  {
    std::vector<float> scores;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < q.rows * shape.kv_heads; ++task) {
      const int64_t s = task / shape.kv_heads, head = task % shape.kv_heads;
      const int64_t length = lengths[static_cast<size_t>(s)];
      scores.resize(static_cast<size_t>(group * length));
      FewRows(q.row<float>(s) + head * group * d, d, group, k.row<float>(s * capacity) + head * d,
              k.stride, length, d, 1.0f, 0.0f, scores.data(), length);
      for (int64_t g = 0; g < group; ++g) {
        float* weights = scores.data() + g * length;
        const float sum = ExpRow(weights, length, scale);
        ScaleRow(weights, length, 1.0f / sum);
        float* to = out.row<float>(s) + (head * group + g) * d;
        std::fill(to, to + d, 0.0f);
        for (int64_t t = 0; t < length; ++t) {
          AddRow(v.row<float>(s * capacity + t) + head * d, d, weights[t], to);
        }
      }
    }
  }
}

}  // namespace svdllm::cpu
