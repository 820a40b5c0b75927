#include "linalg/cpu/attention.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "linalg/cpu/few_rows.h"
#include "linalg/cpu/kernels.h"

namespace svdllm::cpu {
namespace {

// Query rows whose scores are held at once.
constexpr int64_t kAttentionBlock = 128;
// Below this many multiplications a parallel region costs more than it saves.
constexpr int64_t kParallelProducts = 65536;

// The operands of all tasks.
struct Operands {
  MatrixRef q, k, v, out;
  AttentionShape shape;  // its scale filled in

  int64_t group() const { return shape.heads / shape.kv_heads; }
  // The first key that a query with this many keys up to itself sees.
  int64_t FirstKey(int64_t visible) const {
    return shape.window > 0 ? std::max<int64_t>(0, visible - shape.window) : 0;
  }
  // Scores become weights that sum to 1.
  void Softmax(float* scores, int64_t n) const {
    auto scale = static_cast<float>(shape.scale);
    if (shape.softcap > 0) {
      SoftCapRow(scores, n, scale, static_cast<float>(shape.softcap));
      scale = 1;
    }
    const float sum = ExpRow(scores, n, scale);
    ScaleRow(scores, n, 1.0f / sum);
  }
};

// Some query rows of one head; or the only query of a sequence with all query heads that share
// key head `head`.
struct Task {
  int64_t row, rows;  // of q
  int64_t head;
  KeyRange keys;
  int64_t visible;  // keys that the first row sees without a window
  bool single;
};

void Block(const Operands& o, const Task& task, std::vector<float>& scores) {
  const int64_t d = o.shape.head_dim, column = task.head / o.group() * d;
  const int64_t begin = o.FirstKey(task.visible), keys = task.visible + task.rows - 1 - begin;
  scores.resize(static_cast<size_t>(task.rows * keys));
  const int64_t first = task.keys.first + begin;
  const auto rows = static_cast<blasint>(task.rows), cols = static_cast<blasint>(keys),
             dim = static_cast<blasint>(d);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, cols, dim, 1.0f,
              o.q.row<float>(task.row) + task.head * d, static_cast<blasint>(o.q.stride),
              o.k.row<float>(first) + column, static_cast<blasint>(o.k.stride), 0.0f, scores.data(),
              cols);
  for (int64_t r = 0; r < task.rows; ++r) {
    float* s = scores.data() + r * keys;
    const int64_t visible = task.visible + r;
    const int64_t from = o.FirstKey(visible) - begin, to = visible - begin;
    std::fill(s, s + from, 0.0f);
    o.Softmax(s + from, to - from);
    std::fill(s + to, s + keys, 0.0f);
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, dim, cols, 1.0f, scores.data(), cols,
              o.v.row<float>(first) + column, static_cast<blasint>(o.v.stride), 0.0f,
              o.out.row<float>(task.row) + task.head * d, static_cast<blasint>(o.out.stride));
}

// A product with a single row is read straight through, which BLAS does not do.
void Single(const Operands& o, const Task& task, std::vector<float>& scores) {
  const int64_t d = o.shape.head_dim, group = o.group(), column = task.head * d;
  const int64_t begin = o.FirstKey(task.visible), keys = task.visible - begin;
  const int64_t first = task.keys.first + begin;
  scores.resize(static_cast<size_t>(group * keys));
  FewRows(o.q.row<float>(task.row) + column * group, d, group, o.k.row<float>(first) + column,
          o.k.stride, keys, d, 1.0f, 0.0f, scores.data(), keys);
  for (int64_t g = 0; g < group; ++g) {
    float* weights = scores.data() + g * keys;
    o.Softmax(weights, keys);
    float* to = o.out.row<float>(task.row) + (task.head * group + g) * d;
    std::fill(to, to + d, 0.0f);
    for (int64_t t = 0; t < keys; ++t) {
      AddRow(o.v.row<float>(first + t) + column, d, weights[t], to);
    }
  }
}

}  // namespace

void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               std::span<const int64_t> offsets, std::span<const KeyRange> keys, MatrixRef out) {
  Operands operands{q, k, v, out, shape};
  if (shape.scale == 0) {
    operands.shape.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
  }
  std::vector<Task> tasks;
  int64_t products = 0;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t queries = offsets[s + 1] - offsets[s], past = keys[s].count - queries;
    products += queries * keys[s].count * q.cols;
    if (queries == 1) {
      for (int64_t h = 0; h < shape.kv_heads; ++h) {
        tasks.push_back({offsets[s], 1, h, keys[s], keys[s].count, true});
      }
      continue;
    }
    for (int64_t h = 0; h < shape.heads; ++h) {
      for (int64_t i = 0; i < queries; i += kAttentionBlock) {
        tasks.push_back({offsets[s] + i, std::min(kAttentionBlock, queries - i), h, keys[s],
                         past + i + 1, false});
      }
    }
  }
#pragma omp parallel if (products > kParallelProducts)
  {
    std::vector<float> scores;
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < tasks.size(); ++i) {
      tasks[i].single ? Single(operands, tasks[i], scores) : Block(operands, tasks[i], scores);
    }
  }
}

}  // namespace svdllm::cpu
