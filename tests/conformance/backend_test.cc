// What every Backend promises, checked against Eigen in double precision.
#include "linalg/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

namespace svdllm {
namespace {

using MatD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Implementation {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
};

class BackendTest : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    backend_ = GetParam().make();
    if (backend_ == nullptr) GTEST_SKIP() << GetParam().name << ": no device here";
  }

  MatD Random(int64_t rows, int64_t cols) {
    std::normal_distribution<double> normal;
    MatD m(rows, cols);
    for (int64_t i = 0; i < m.size(); ++i) {
      m.data()[i] = static_cast<float>(normal(generator_));  // exact in both precisions
    }
    return m;
  }
  Matrix Put(const MatD& m, DType dtype) {
    auto matrix = backend_->New(m.rows(), m.cols(), dtype);
    EXPECT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_TRUE(backend_->Upload(m.data(), DType::kF64, *matrix).ok());
    return *std::move(matrix);
  }
  MatD Get(const MatrixRef& ref) {
    MatD m(ref.rows, ref.cols);
    EXPECT_TRUE(backend_->Download(ref, m.data(), DType::kF64).ok());
    return m;
  }
  MatD RandomSpd(int64_t n) {
    const MatD x = Random(n + 3, n);
    return x.transpose() * x;
  }

  std::mt19937_64 generator_{7};
  std::unique_ptr<Backend> backend_;
};

TEST_P(BackendTest, NewIsZeroAndRoundTrips) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    EXPECT_EQ(Get(*backend_->New(3, 5, dtype)), MatD::Zero(3, 5));
    const MatD m = Random(17, 9);
    EXPECT_EQ(Get(Put(m, dtype)), m);
    EXPECT_EQ(Get(Put(m, dtype).ref().Rows(3, 4).Cols(2, 5)), MatD(m.block(3, 2, 4, 5)));
  }
  EXPECT_GT(backend_->PeakBytes(), 17 * 9 * 8);
}

TEST_P(BackendTest, GemmAllOrientationsAndOddShapes) {
  for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{
           {1, 1, 1}, {1, 7, 3}, {5, 1, 129}, {33, 65, 17}, {130, 70, 257}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const DType dtype : {DType::kF32, DType::kF64}) {
          const MatD a = ta ? Random(k, m) : Random(m, k), b = tb ? Random(n, k) : Random(k, n),
                     c = Random(m, n);
          const MatD opa = ta ? MatD(a.transpose()) : a, opb = tb ? MatD(b.transpose()) : b;
          Matrix out = Put(c, dtype);
          ASSERT_TRUE(backend_->Gemm(ta, tb, 0.5, Put(a, dtype), Put(b, dtype), -2.0, out).ok());
          const MatD expected = 0.5 * opa * opb - 2.0 * c;
          EXPECT_LT((Get(out) - expected).norm(),
                    (dtype == DType::kF32 ? 2e-6 : 1e-14) * (1 + expected.norm()))
              << m << " " << n << " " << k;
        }
      }
    }
  }
  EXPECT_FALSE(backend_
                   ->Gemm(false, false, 1, Put(Random(2, 3), DType::kF32),
                          Put(Random(2, 3), DType::kF32), 0, Put(Random(2, 3), DType::kF32))
                   .ok());
}

TEST_P(BackendTest, GramAddsUpInDouble) {
  for (const int64_t tokens : {1, 5, 1023, 3000}) {
    MatD x = Random(tokens, 37);
    x.col(3) *= 1000;  // an outlier channel
    x.col(5).setZero();
    Matrix gram = *backend_->New(37, 37, DType::kF64);
    ASSERT_TRUE(backend_->AccumulateGram(Put(x, DType::kF32), gram).ok());
    ASSERT_TRUE(backend_->AccumulateGram(Put(x, DType::kF32), gram).ok());
    ASSERT_TRUE(backend_->MirrorLower(gram).ok());
    const MatD expected = 2 * MatD(Eigen::MatrixXf(x.cast<float>()).cast<double>().transpose() *
                                   Eigen::MatrixXf(x.cast<float>()).cast<double>());
    const MatD got = Get(gram);
    EXPECT_EQ(got, MatD(got.transpose()));
    // Entry by entry: an outlier must not drown its neighbours.
    for (int64_t i = 0; i < 37; ++i) {
      for (int64_t j = 0; j < 37; ++j) {
        EXPECT_LE(std::abs(got(i, j) - expected(i, j)),
                  2e-6 * std::sqrt(expected(i, i) * expected(j, j)))
            << tokens << " " << i << " " << j;
      }
    }
  }
}

TEST_P(BackendTest, AbsoluteSums) {
  const MatD x = Random(200, 13);
  Matrix sum = *backend_->New(1, 13, DType::kF64);
  ASSERT_TRUE(backend_->AccumulateAbs(Put(x, DType::kF32), sum).ok());
  EXPECT_LT((Get(sum) - MatD(x.cwiseAbs().colwise().sum())).norm(), 1e-9);
}

TEST_P(BackendTest, EigenDecomposesABatch) {
  std::vector<MatD> ks;
  std::vector<Matrix> inputs, values, vectors;
  std::vector<EigenProblem> problems;
  for (const int64_t n : {1, 2, 64, 31, 97}) {
    MatD k = RandomSpd(n);
    if (n == 31) k.row(4).setZero(), k.col(4).setZero();  // singular
    ks.push_back(k);
    // Only the lower triangle may be read.
    MatD lower = k;
    lower.triangularView<Eigen::StrictlyUpper>().setConstant(1e30);
    inputs.push_back(Put(lower, DType::kF64));
    values.push_back(*backend_->New(1, n, DType::kF64));
    vectors.push_back(*backend_->New(n, n, DType::kF64));
  }
  for (size_t i = 0; i < ks.size(); ++i) problems.push_back({inputs[i], values[i], vectors[i]});
  ASSERT_TRUE(backend_->SymmetricEigen(problems).ok());
  for (size_t i = 0; i < ks.size(); ++i) {
    const MatD d = Get(values[i]), v = Get(vectors[i]);
    const int64_t n = d.cols();
    for (int64_t j = 1; j < n; ++j) EXPECT_GE(d(0, j - 1), d(0, j));
    EXPECT_LT((v * v.transpose() - MatD::Identity(n, n)).norm(), 1e-12 * n);
    EXPECT_LT((v.transpose() * d.row(0).asDiagonal() * v - ks[i]).norm(), 1e-12 * ks[i].norm());
    for (int64_t j = 0; j < n; ++j) {
      Eigen::Index largest;
      v.row(j).cwiseAbs().maxCoeff(&largest);
      EXPECT_GT(v(j, largest), 0);
    }
  }
}

TEST_P(BackendTest, EigenValuesOnlyAgree) {
  const MatD k = RandomSpd(50);
  Matrix with = *backend_->New(1, 50, DType::kF64), without = *backend_->New(1, 50, DType::kF64);
  Matrix vectors = *backend_->New(50, 50, DType::kF64);
  const Matrix first = Put(k, DType::kF64), second = Put(k, DType::kF64);
  ASSERT_TRUE(backend_->SymmetricEigen(std::vector<EigenProblem>{{first, with, vectors}}).ok());
  ASSERT_TRUE(backend_->SymmetricEigen(std::vector<EigenProblem>{{second, without, {}}}).ok());
  EXPECT_LT((Get(with) - Get(without)).norm(), 1e-11 * Get(with).norm());
}

TEST_P(BackendTest, ThinQr) {
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 5}, {80, 33}}) {
    const MatD w = Random(m, n);
    Matrix q = *backend_->New(m, n, DType::kF64), r = *backend_->New(n, n, DType::kF64);
    ASSERT_TRUE(backend_->ThinQr(Put(w, DType::kF64), q, r).ok());
    const MatD gq = Get(q), gr = Get(r);
    EXPECT_LT((gq * gr - w).norm(), 1e-13 * w.norm());
    EXPECT_LT((gq.transpose() * gq - MatD::Identity(n, n)).norm(), 1e-13 * n);
    EXPECT_EQ(MatD(gr.triangularView<Eigen::StrictlyLower>()), MatD::Zero(n, n));
  }
}

TEST_P(BackendTest, SolveSpdAndItsRefusal) {
  const MatD a = RandomSpd(20), b = Random(7, 20);
  Matrix x = Put(b, DType::kF64);
  ASSERT_TRUE(backend_->SolveSpd(Put(a, DType::kF64), x).ok());
  EXPECT_LT((Get(x) * a - b).norm(), 1e-10 * b.norm());

  MatD singular = a;
  singular.row(3).setZero();
  singular.col(3).setZero();
  Matrix unchanged = Put(b, DType::kF64);
  EXPECT_EQ(backend_->SolveSpd(Put(singular, DType::kF64), unchanged).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Get(unchanged), b);
}

TEST_P(BackendTest, ScalesAndDot) {
  const MatD x = Random(6, 9), rows = Random(1, 6), cols = Random(1, 9);
  Matrix y = Put(x, DType::kF64);
  ASSERT_TRUE(backend_->ScaleRows(y, Put(rows, DType::kF64)).ok());
  ASSERT_TRUE(backend_->ScaleCols(y, Put(cols, DType::kF64)).ok());
  const MatD expected = rows.row(0).asDiagonal() * x * cols.row(0).asDiagonal();
  EXPECT_LT((Get(y) - expected).norm(), 1e-14);
  EXPECT_NEAR(*backend_->Dot(y, Put(x, DType::kF64)), expected.cwiseProduct(x).sum(), 1e-12);
}

TEST_P(BackendTest, Transposes) {
  const MatD x = Random(6, 29);
  Matrix y = *backend_->New(29, 6, DType::kF64);
  ASSERT_TRUE(backend_->Transpose(Put(x, DType::kF64), y).ok());
  EXPECT_EQ(Get(y), MatD(x.transpose()));
}

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
  ASSERT_TRUE(backend_->Add(Put(x, DType::kF32), y).ok());
  EXPECT_LT((Get(y) - (expected.rowwise() + bias.row(0)) - x).norm(), 1e-5);

  Matrix sum = Put(x, DType::kF64);
  ASSERT_TRUE(backend_->Add(Put(up, DType::kF64), sum).ok());
  EXPECT_EQ(Get(sum), MatD(x + up));

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

TEST_P(BackendTest, FindsNonFiniteValues) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    MatD x = Random(70, 19);
    EXPECT_TRUE(*backend_->AllFinite(Put(x, dtype)));
    x(69, 18) = std::numeric_limits<double>::infinity();
    EXPECT_FALSE(*backend_->AllFinite(Put(x, dtype)));
    x(69, 18) = 0, x(0, 3) = std::numeric_limits<double>::quiet_NaN();
    EXPECT_FALSE(*backend_->AllFinite(Put(x, dtype)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, BackendTest,
                         testing::Values(Implementation{"cpu", [] { return NewCpuBackend(); }},
                                         Implementation{"cpu_one_thread",
                                                        [] { return NewCpuBackend(1); }}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace svdllm
