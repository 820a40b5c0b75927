// What every Backend promises of attention and rotary positions, checked in double precision.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

struct Case {
  AttentionShape shape;
  std::vector<int64_t> offsets;
  std::vector<KeyRange> keys;  // empty: the queries' rows
};

// Row by row, from the definition.
MatD Expected(const MatD& q, const MatD& k, const MatD& v, const Case& test) {
  const AttentionShape& shape = test.shape;
  const int64_t d = shape.head_dim;
  const double scale = shape.scale > 0 ? shape.scale : 1 / std::sqrt(static_cast<double>(d));
  MatD out = MatD::Zero(q.rows(), q.cols());
  for (size_t s = 0; s + 1 < test.offsets.size(); ++s) {
    const int64_t begin = test.offsets[s], queries = test.offsets[s + 1] - begin;
    const KeyRange range = test.keys.empty() ? KeyRange{begin, queries} : test.keys[s];
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t last = range.count - queries + i;
      const int64_t first = shape.window > 0 ? std::max<int64_t>(0, last - shape.window + 1) : 0;
      for (int64_t h = 0; h < shape.heads; ++h) {
        const int64_t column = h / (shape.heads / shape.kv_heads) * d;
        const MatD kh = k.block(range.first + first, column, last - first + 1, d),
                   vh = v.block(range.first + first, column, last - first + 1, d);
        MatD scores = scale * q.block(begin + i, h * d, 1, d) * kh.transpose();
        if (shape.softcap > 0) {
          scores = (shape.softcap * (scores / shape.softcap).array().tanh()).matrix().eval();
        }
        const MatD weights = (scores.array() - scores.maxCoeff()).exp();
        out.block(begin + i, h * d, 1, d) = weights / weights.sum() * vh;
      }
    }
  }
  return out;
}

class AttentionTest : public BackendTest {
 protected:
  // A precision other than F32 is allowed the rounding of weights and values.
  void Check(const Case& test, int64_t key_rows, double magnitude = 1) {
    const int64_t tokens = test.offsets.back(), d = test.shape.head_dim;
    const DType precision = test.shape.precision;
    const MatD q = Held(Random(tokens, test.shape.heads * d) * magnitude, precision),
               k = Held(Random(key_rows, test.shape.kv_heads * d), precision),
               v = Held(Random(key_rows, test.shape.kv_heads * d), precision);
    Matrix out = *backend_->New(tokens, test.shape.heads * d, DType::kF32);
    const absl::Status status =
        backend_->Attention(Put(q, DType::kF32), Put(k, DType::kF32), Put(v, DType::kF32),
                            test.shape, test.offsets, test.keys, out);
    ASSERT_TRUE(status.ok()) << status;
    const MatD difference = Get(out) - Expected(q, k, v, test);
    const double allowed = precision == DType::kF32 ? 1e-5 : precision == DType::kF16 ? 2e-3 : 2e-2;
    EXPECT_LT(difference.cwiseAbs().maxCoeff(), allowed)
        << "heads " << test.shape.heads << " of " << d << ", window " << test.shape.window;
  }
};

INSTANTIATE_TEST_SUITE_P(All, AttentionTest, Implementations(), NameOf);

TEST_P(AttentionTest, RopeRotatesByPosition) {
  const int64_t heads = 3;
  for (const int64_t rest : {0, 6}) {  // elements of a head that stay
    for (const std::vector<int64_t>& first : {std::vector<int64_t>{}, std::vector<int64_t>{2, 7}}) {
      const int64_t half = 4, head_dim = 2 * half + rest;
      const MatD angles = Random(10, half), x = Random(9, heads * head_dim);
      Matrix y = Put(x, DType::kF32);
      const std::vector<int64_t> offsets = {0, 6, 9};
      const Matrix cosines = Put(angles.array().cos(), DType::kF32),
                   sines = Put(angles.array().sin(), DType::kF32);
      ASSERT_TRUE(backend_->Rope(y, heads, cosines, sines, offsets, first).ok());
      MatD expected = x;
      for (int64_t t = 0; t < 9; ++t) {
        const int64_t p = (t < 6 ? t : t - 6) + (first.empty() ? 0 : first[t < 6 ? 0 : 1]);
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t i = 0; i < half; ++i) {
            const int64_t a = h * head_dim + i, b = a + half;
            const double c = std::cos(angles(p, i)), s = std::sin(angles(p, i));
            expected(t, a) = x(t, a) * c - x(t, b) * s;
            expected(t, b) = x(t, b) * c + x(t, a) * s;
          }
        }
      }
      EXPECT_LT((Get(y) - expected).cwiseAbs().maxCoeff(), 1e-5);
      const auto rotate = [&](const MatrixRef& table, const std::vector<int64_t>& from) {
        return backend_->Rope(y, heads, table, table, offsets, from).code();
      };
      EXPECT_EQ(rotate(cosines.ref().Rows(0, 5), first), absl::StatusCode::kInternal);
      EXPECT_EQ(rotate(cosines, {5, 0}), absl::StatusCode::kInternal);
      EXPECT_EQ(rotate(cosines, {-1, 0}), absl::StatusCode::kInternal);
      EXPECT_EQ(rotate(cosines, {1}), absl::StatusCode::kInternal);
    }
  }
}

TEST_P(AttentionTest, IsCausalAndGrouped) {
  // One sequence is longer than a block of rows, one is empty.
  Check({{4, 2, 8}, {0, 1, 300, 300, 340}, {}}, 340);
  Check({{12, 1, 6}, {0, 5}, {}}, 5);
}

TEST_P(AttentionTest, ScalesAndSoftCaps) {
  for (const double magnitude : {1.0, 40.0}) {
    Check({{.heads = 4, .kv_heads = 2, .head_dim = 8, .scale = 0.11, .softcap = 3.5},
           {0, 1, 200, 217},
           {}},
          217, magnitude);
  }
}

TEST_P(AttentionTest, SeesAWindow) {
  for (const int64_t window : {1, 2, 31, 64, 128, 129, 200, 1000}) {
    AttentionShape shape{4, 2, 8};
    shape.window = window;
    Check({shape, {0, 1, 300, 340}, {}}, 340);
    Check({shape, {0, 1, 130, 140}, {{150, 150}, {20, 129}, {0, 310}}}, 310);
    Check({shape, {0, 1, 2, 3}, {{150, 1}, {20, 129}, {0, 310}}}, 310);
    shape.softcap = 2;
    Check({shape, {0, 170}, {{13, 190}}}, 203);
  }
}

TEST_P(AttentionTest, SeesAWindowWithHeadsOfEverySize) {
  for (const int64_t head_dim : {64, 80, 96, 128, 256}) {
    for (const double softcap : {0.0, 2.5}) {
      for (const int64_t window : {0, 33, 100}) {
        AttentionShape shape{2, 1, head_dim};
        shape.softcap = softcap;
        shape.window = window;
        Check({shape, {0, 1, 140, 147}, {{150, 150}, {20, 230}, {0, 310}}}, 310);
      }
    }
  }
}

// Sequences that are long enough for another way, beside some that are not.
TEST_P(AttentionTest, InAShorterPrecision) {
  for (const DType precision : {DType::kBF16, DType::kF16}) {
    for (const int64_t head_dim : {8, 64, 80, 96, 128, 256}) {
      for (const auto& [heads, kv_heads] :
           std::vector<std::pair<int64_t, int64_t>>{{2, 2}, {4, 2}, {3, 1}, {8, 2}}) {
        if (heads > 2 && head_dim != 8 && head_dim != 80) continue;
        AttentionShape shape{heads, kv_heads, head_dim};
        shape.precision = precision;
        Check({shape, {0, 7, 519}, {}}, 519);
        shape.window = 100;
        shape.softcap = 3;
        Check({shape, {0, 259}, {{41, 300}}}, 349);
      }
    }
    // Few queries: one that follows a cache, and several that do.
    AttentionShape shape{4, 2, 64};
    shape.precision = precision;
    Check({shape, {0, 1, 2}, {{0, 100}, {110, 190}}}, 300);
    Check({shape, {0, 20, 33}, {{0, 100}, {110, 190}}}, 300);
  }
}

// More queries and more keys than are looked at at once.
TEST_P(AttentionTest, OfLongSequencesInAShorterPrecision) {
  for (const int64_t window : {0, 150}) {
    AttentionShape shape{2, 1, 16};
    shape.precision = DType::kF16;
    shape.window = window;
    Check({shape, {0, 1100}, {}}, 1100);
    Check({shape, {0, 530}, {{3, 1221}}}, 1224);
  }
}

TEST_P(AttentionTest, OfHeadsWiderThanUsual) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    AttentionShape shape{4, 2, 264};
    shape.precision = precision;
    Check({shape, {0, 1, 90, 93}, {}}, 93);
    shape.window = 40;
    Check({shape, {0, 1, 90}, {{3, 70}, {0, 131}}}, 131);
  }
}

// Queries are the last of the keys: prompts that share a beginning, tokens behind a cache.
TEST_P(AttentionTest, SeesKeysInFrontOfTheQueries) {
  for (const AttentionShape& shape : {AttentionShape{4, 2, 8}, AttentionShape{9, 3, 64},
                                      AttentionShape{3, 3, 10}, AttentionShape{12, 1, 6}}) {
    Check({shape, {0, 1, 2, 3}, {{0, 1}, {170, 170}, {340, 33}}}, 510);
    Check({shape, {0, 1, 8, 140}, {{100, 100}, {0, 150}, {30, 310}}}, 340);
    Check({shape, {0, 0, 1}, {{0, 10}, {0, 10}}}, 10);
  }
}

TEST_P(AttentionTest, OfEveryHeadSize) {
  for (const AttentionShape& shape :
       {AttentionShape{2, 1, 5}, AttentionShape{3, 3, 64}, AttentionShape{4, 2, 80},
        AttentionShape{4, 1, 128}, AttentionShape{2, 2, 200}, AttentionShape{1, 1, 256}}) {
    const int64_t d = shape.head_dim, tokens = 197;
    const Case test{shape, {0, 129, 129, 133, 197}, {}};  // one of them is empty
    // Queries, keys and values in one matrix, as a fused product leaves them.
    const int64_t q_cols = shape.heads * d, kv_cols = shape.kv_heads * d;
    const MatD all = Random(tokens, q_cols + 2 * kv_cols);
    const Matrix memory = Put(all, DType::kF32);
    Matrix out = *backend_->New(tokens, q_cols, DType::kF32);
    ASSERT_TRUE(backend_
                    ->Attention(memory.ref().Cols(0, q_cols), memory.ref().Cols(q_cols, kv_cols),
                                memory.ref().Cols(q_cols + kv_cols, kv_cols), shape, test.offsets,
                                {}, out)
                    .ok());
    const MatD expected = Expected(all.leftCols(q_cols), all.middleCols(q_cols, kv_cols),
                                   all.rightCols(kv_cols), test);
    EXPECT_LT((Get(out) - expected).cwiseAbs().maxCoeff(), 1e-5) << d;
  }
}

TEST_P(AttentionTest, RefusesKeysThatDoNotFit) {
  const Matrix q = *backend_->New(3, 32, DType::kF32), k = *backend_->New(20, 16, DType::kF32);
  const std::vector<int64_t> offsets = {0, 2, 3};
  const auto attend = [&](const AttentionShape& shape, const std::vector<KeyRange>& keys) {
    return backend_->Attention(q, k, k, shape, offsets, keys, q).code();
  };
  EXPECT_EQ(attend({4, 2, 8}, {{0, 20}, {19, 1}}), absl::StatusCode::kOk);
  for (const std::vector<KeyRange>& keys : std::vector<std::vector<KeyRange>>{{},
                                                                              {{0, 2}},
                                                                              {{0, 1}, {0, 1}},
                                                                              {{0, 2}, {20, 1}},
                                                                              {{-1, 2}, {0, 1}},
                                                                              {{0, 21}, {0, 1}}}) {
    EXPECT_EQ(attend({4, 2, 8}, keys), absl::StatusCode::kInternal) << keys.size();
  }
  EXPECT_EQ(attend({4, 3, 8}, {{0, 20}, {19, 1}}), absl::StatusCode::kInternal);
  EXPECT_EQ(attend({.heads = 4, .kv_heads = 2, .head_dim = 8, .window = -1}, {{0, 20}, {19, 1}}),
            absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace svdllm::testing
