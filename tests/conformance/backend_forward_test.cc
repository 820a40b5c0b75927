// What every Backend promises, checked against Eigen in double precision: the forward pass.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

TEST_P(BackendTest, NormsAndElementwise) {
  const MatD x = Random(5, 70), w = Random(1, 70), bias = Random(1, 70), up = Random(5, 70);
  Matrix y = *backend_->New(5, 70, DType::kF32);
  ASSERT_TRUE(backend_->RmsNorm(Put(x, DType::kF32), Put(w, DType::kF32), 1e-5, y).ok());
  MatD expected(5, 70);
  for (int i = 0; i < 5; ++i) {
    expected.row(i) =
        x.row(i).cwiseProduct(w.row(0)) / std::sqrt(x.row(i).squaredNorm() / 70 + 1e-5);
  }
  EXPECT_LT((Get(y) - expected).norm(), 1e-5);
  ASSERT_TRUE(backend_->AddBias(y, Put(bias, DType::kF32)).ok());
  ASSERT_TRUE(backend_->Add(-0.5, Put(x, DType::kF32), y).ok());
  EXPECT_LT((Get(y) - (expected.rowwise() + bias.row(0)) + 0.5 * x).norm(), 1e-5);

  Matrix sum = Put(x, DType::kF64);
  ASSERT_TRUE(backend_->Add(2, Put(up, DType::kF64), sum).ok());
  EXPECT_EQ(Get(sum), MatD(x + 2 * up));

  MatD gate = Random(5, 70) * 30;
  gate(0, 0) = 200, gate(0, 1) = -200, gate(0, 2) = 0;
  Matrix g = Put(gate, DType::kF32);
  ASSERT_TRUE(backend_->SiluMul(g, Put(up, DType::kF32)).ok());
  const MatD silu = gate.array() / (1 + (-gate.array()).exp()) * up.array();
  EXPECT_LT((Get(g) - silu).cwiseAbs().maxCoeff(), 1e-4);
}

TEST_P(BackendTest, RopeRotatesByPosition) {
  const int64_t half = 4, heads = 3;
  const MatD angles = Random(6, half), x = Random(9, heads * 2 * half);
  Matrix y = Put(x, DType::kF32);
  const std::vector<int64_t> offsets = {0, 6, 9};
  ASSERT_TRUE(backend_
                  ->Rope(y, heads, Put(angles.array().cos(), DType::kF32),
                         Put(angles.array().sin(), DType::kF32), offsets)
                  .ok());
  const MatD got = Get(y);
  for (int64_t t = 0; t < 9; ++t) {
    const int64_t p = t < 6 ? t : t - 6;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t a = h * 2 * half + i, b = a + half;
        EXPECT_NEAR(got(t, a), x(t, a) * std::cos(angles(p, i)) - x(t, b) * std::sin(angles(p, i)),
                    1e-5);
        EXPECT_NEAR(got(t, b), x(t, b) * std::cos(angles(p, i)) + x(t, a) * std::sin(angles(p, i)),
                    1e-5);
      }
    }
  }
  EXPECT_FALSE(backend_
                   ->Rope(y, heads, Put(angles.topRows(2), DType::kF32),
                          Put(angles.topRows(2), DType::kF32), offsets)
                   .ok());
}

TEST_P(BackendTest, AttentionIsCausalAndGrouped) {
  const AttentionShape shape{4, 2, 8};
  const std::vector<int64_t> offsets = {0, 1, 300, 340};  // one longer than a block of rows
  const MatD q = Random(340, 32), k = Random(340, 16), v = Random(340, 16);
  Matrix out = *backend_->New(340, 32, DType::kF32);
  ASSERT_TRUE(backend_
                  ->Attention(Put(q, DType::kF32), Put(k, DType::kF32), Put(v, DType::kF32), shape,
                              offsets, out)
                  .ok());
  const MatD got = Get(out);
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t begin = offsets[s], length = offsets[s + 1] - begin;
    for (int64_t h = 0; h < 4; ++h) {
      const MatD qh = q.block(begin, h * 8, length, 8), kh = k.block(begin, h / 2 * 8, length, 8),
                 vh = v.block(begin, h / 2 * 8, length, 8);
      MatD scores = qh * kh.transpose() / std::sqrt(8.0);
      for (int64_t i = 0; i < length; ++i) {
        scores.row(i).tail(length - i - 1).setConstant(-1e300);
        scores.row(i) = (scores.row(i).array() - scores.row(i).maxCoeff()).exp();
        scores.row(i) /= scores.row(i).sum();
      }
      EXPECT_LT((got.block(begin, h * 8, length, 8) - scores * vh).norm(), 1e-5 * vh.norm());
    }
  }
}

// The last query of a causal attention is a single query against all of its keys.
TEST_P(BackendTest, CachedAttentionIsTheLastRow) {
  for (const AttentionShape& shape : {AttentionShape{4, 2, 8}, AttentionShape{9, 3, 64},
                                      AttentionShape{3, 3, 10}, AttentionShape{12, 1, 6}}) {
    const int64_t capacity = 170, d = shape.head_dim;
    const std::vector<int64_t> lengths = {1, 170, 33};
    const MatD k = Random(3 * capacity, shape.kv_heads * d),
               v = Random(3 * capacity, shape.kv_heads * d), q = Random(3, shape.heads * d);
    Matrix out = *backend_->New(3, shape.heads * d, DType::kF32);
    ASSERT_TRUE(backend_
                    ->CachedAttention(Put(q, DType::kF32), Put(k, DType::kF32), Put(v, DType::kF32),
                                      shape, lengths, out)
                    .ok());
    const MatD got = Get(out);
    for (int64_t s = 0; s < 3; ++s) {
      const int64_t length = lengths[static_cast<size_t>(s)];
      for (int64_t h = 0; h < shape.heads; ++h) {
        const int64_t column = h / (shape.heads / shape.kv_heads) * d;
        const MatD keys = k.block(s * capacity, column, length, d);
        MatD scores =
            q.block(s, h * d, 1, d) * keys.transpose() / std::sqrt(static_cast<double>(d));
        scores = (scores.array() - scores.maxCoeff()).exp();
        const MatD expected = scores / scores.sum() * v.block(s * capacity, column, length, d);
        EXPECT_LT((got.block(s, h * d, 1, d) - expected).norm(), 1e-5 * (1 + expected.norm()))
            << s << " " << h;
      }
    }
    for (const std::vector<int64_t>& wrong :
         std::vector<std::vector<int64_t>>{{1, 171, 3}, {0, 1, 1}, {1, 1}}) {
      EXPECT_EQ(backend_
                    ->CachedAttention(Put(q, DType::kF32), Put(k, DType::kF32), Put(v, DType::kF32),
                                      shape, wrong, out)
                    .code(),
                absl::StatusCode::kInternal);
    }
  }
}

TEST_P(BackendTest, CrossEntropySkipsNegativeTargets) {
  const MatD logits = Random(4, 1000) * 20;
  const std::vector<int32_t> targets = {5, -1, 999, 0};
  double expected = 0;
  for (const int i : {0, 2, 3}) {
    const double max = logits.row(i).maxCoeff();
    expected += max + std::log((logits.row(i).array() - max).exp().sum()) -
                logits(i, targets[static_cast<size_t>(i)]);
  }
  EXPECT_NEAR(*backend_->CrossEntropy(Put(logits, DType::kF32), targets), expected,
              1e-5 * expected);
  MatD bad = logits;
  bad(2, 17) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(*backend_->CrossEntropy(Put(bad, DType::kF32), targets)));
  EXPECT_FALSE(
      backend_->CrossEntropy(Put(logits, DType::kF32), std::vector<int32_t>{1, 2, 3, 1000}).ok());
}

TEST_P(BackendTest, GathersColumns) {
  for (const auto& [tokens, n] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 77}, {5, 40}, {300, 130}}) {
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator_);
    Matrix indices = *backend_->New(1, n, DType::kI32);
    ASSERT_TRUE(backend_->Upload(order.data(), DType::kI32, indices).ok());
    const MatD x = Random(tokens, n + 3);
    Matrix y = *backend_->New(tokens, n, DType::kF32);
    ASSERT_TRUE(backend_->GatherCols(Put(x, DType::kF32).ref().Cols(1, n), indices, y).ok());
    const MatD got = Get(y);
    for (int64_t j = 0; j < n; ++j) {
      EXPECT_EQ(got.col(j), x.col(1 + order[static_cast<size_t>(j)]));
    }
    EXPECT_FALSE(backend_->GatherCols(y, indices, *backend_->New(tokens, n + 1, DType::kF32)).ok());
    EXPECT_FALSE(backend_->GatherCols(y, y, y).ok());
  }
}

}  // namespace
}  // namespace svdllm::testing
