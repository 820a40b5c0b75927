// What every Backend promises, checked against Eigen in double precision: memory, products,
// decompositions.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "linalg/cuda/loader.h"
#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

TEST_P(BackendTest, NewIsZeroAndRoundTrips) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    EXPECT_EQ(Get(*backend_->New(3, 5, dtype)), MatD::Zero(3, 5));
    const MatD m = Random(17, 9);
    EXPECT_EQ(Get(Put(m, dtype)), m);
    EXPECT_EQ(Get(Put(m, dtype).ref().Rows(3, 4).Cols(2, 5)), MatD(m.block(3, 2, 4, 5)));
  }
  EXPECT_GE(backend_->Memory().peak, 17 * 9 * 8);
}

TEST_P(BackendTest, IndicesMoveAndNeverConvert) {
  const std::vector<int32_t> host = {3, -1, 0, 2147483647, 16777217, 5};  // not all fit a float
  Matrix indices = *backend_->New(2, 3, DType::kI32), copy = *backend_->New(2, 3, DType::kI32);
  ASSERT_TRUE(backend_->Upload(host.data(), DType::kI32, indices).ok());
  ASSERT_TRUE(backend_->Copy(indices, copy).ok());
  std::vector<int32_t> back(6);
  ASSERT_TRUE(backend_->Download(copy, back.data(), DType::kI32).ok());
  EXPECT_EQ(back, host);
  std::vector<int32_t> part(2);
  ASSERT_TRUE(backend_->Download(copy.ref().Cols(1, 1), part.data(), DType::kI32).ok());
  EXPECT_EQ(part, (std::vector<int32_t>{-1, 16777217}));

  std::vector<float> floats(6);
  Matrix real = *backend_->New(2, 3, DType::kF32);
  EXPECT_EQ(backend_->Download(indices, floats.data(), DType::kF32).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(backend_->Upload(floats.data(), DType::kF32, indices).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(backend_->Upload(host.data(), DType::kI32, real).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(backend_->Copy(indices, real).code(), absl::StatusCode::kInternal);
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

// A single token, and a few: the products of generating text. Any number of columns, views, alpha
// and beta; what y held does not matter where beta is 0.
TEST_P(BackendTest, GemmOfFewRows) {
  for (const int64_t m : {1, 2, 3, 4, 5, 8, 16, 17}) {
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {3, 7}, {33, 16}, {70, 230}, {6, 577}, {192, 31}, {301, 96}}) {
      const MatD x = Random(m, k + 3), w = Random(n, k + 5), y = Random(m, n + 2);
      const Matrix px = Put(x, DType::kF32), pw = Put(w, DType::kF32), out = Put(y, DType::kF32);
      const MatD product = x.middleCols(1, k) * w.middleCols(2, k).transpose();
      const MatrixRef to = out.ref().Cols(1, n);
      ASSERT_TRUE(
          backend_->Gemm(false, true, -0.5, px.ref().Cols(1, k), pw.ref().Cols(2, k), 2, to).ok());
      const MatD expected = -0.5 * product + 2 * y.middleCols(1, n);
      EXPECT_LT((Get(to) - expected).norm(), 2e-6 * std::sqrt(k) * (1 + expected.norm()))
          << m << " " << n << " " << k;
      MatD nan = y;
      nan.middleCols(1, n).setConstant(std::numeric_limits<double>::quiet_NaN());
      const Matrix fresh = Put(nan, DType::kF32);
      ASSERT_TRUE(backend_
                      ->Gemm(false, true, 1, px.ref().Cols(1, k), pw.ref().Cols(2, k), 0,
                             fresh.ref().Cols(1, n))
                      .ok());
      const MatD got = Get(fresh);
      EXPECT_LT((got.middleCols(1, n) - product).norm(),
                2e-6 * std::sqrt(k) * (1 + product.norm()));
      EXPECT_EQ(got.col(0), y.col(0));
      EXPECT_EQ(got.col(n + 1), y.col(n + 1));
    }
  }
}

TEST_P(BackendTest, GramAddsUpInDouble) {
  for (const int64_t tokens : {1, 5, 1023, 3000}) {
    MatD x = Random(tokens, 37);
    x.col(3) *= 1000;  // an outlier channel
    x.col(5).setZero();
    Matrix gram = *backend_->New(37, 37, DType::kF64);
    ASSERT_TRUE(backend_->AccumulateGram(Put(x, DType::kF32), DType::kF32, gram).ok());
    ASSERT_TRUE(backend_->AccumulateGram(Put(x, DType::kF32), DType::kF32, gram).ok());
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

TEST_P(BackendTest, CrossProductsAddUpInDouble) {
  for (const int64_t tokens : {1, 5, 1023, 3000}) {
    MatD x = Random(tokens, 21);
    const MatD y = Random(tokens, 37);
    x.col(3) *= 1000;  // an outlier channel
    MatD wide = Random(tokens, 30);
    wide.middleCols(4, 21) = x;
    const Matrix memory = Put(wide, DType::kF32);
    const MatrixRef view = memory.ref().Cols(4, 21);
    Matrix cross = *backend_->New(21, 37, DType::kF64);
    ASSERT_TRUE(backend_->AccumulateCross(view, Put(y, DType::kF32), DType::kF32, cross).ok());
    ASSERT_TRUE(backend_->AccumulateCross(view, Put(y, DType::kF32), DType::kF32, cross).ok());
    const MatD expected = 2 * x.transpose() * y, got = Get(cross);
    for (int64_t i = 0; i < 21; ++i) {
      for (int64_t j = 0; j < 37; ++j) {
        EXPECT_LE(std::abs(got(i, j) - expected(i, j)), 4e-6 * x.col(i).norm() * y.col(j).norm())
            << tokens << " " << i << " " << j;
      }
    }
    EXPECT_FALSE(backend_->AccumulateCross(Put(y, DType::kF32), view, DType::kF32, cross).ok());
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

TEST_P(BackendTest, InterpolativeExpressesColumnsInPivots) {
  for (const auto& [k, m] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {1, 9}, {7, 7}, {3, 40}, {31, 97}, {64, 65}, {20, 1500}, {130, 300}}) {
    MatD x = Random(k, m);
    x.col(m / 2) *= 1000;  // one that is sure to be a pivot
    Matrix t = *backend_->New(m - k, k, DType::kF64), again = *backend_->New(m - k, k, DType::kF64);
    std::vector<int32_t> pivots(static_cast<size_t>(k)), pivots_again(pivots.size());
    ASSERT_TRUE(backend_->Interpolative(Put(x, DType::kF64), pivots, t).ok()) << k << " " << m;
    std::vector<bool> chosen(static_cast<size_t>(m));
    MatD kept(k, k), rest(k, m - k);
    for (int64_t j = 0; j < k; ++j) {
      const int32_t pivot = pivots[static_cast<size_t>(j)];
      ASSERT_GE(pivot, j == 0 ? 0 : pivots[static_cast<size_t>(j - 1)] + 1);
      ASSERT_LT(pivot, m);
      chosen[static_cast<size_t>(pivot)] = true;
      kept.col(j) = x.col(pivot);
    }
    EXPECT_TRUE(chosen[static_cast<size_t>(m / 2)]);
    for (int64_t j = 0, next = 0; j < m; ++j) {
      if (!chosen[static_cast<size_t>(j)]) rest.col(next++) = x.col(j);
    }
    const MatD got = Get(t);
    EXPECT_LT((kept * got.transpose() - rest).norm(), 1e-12 * x.norm()) << k << " " << m;
    if (m > k) {
      EXPECT_LT(got.cwiseAbs().maxCoeff(), 50) << k << " " << m;
    }

    // A view into something wider, and the same bytes again.
    MatD wide = Random(k, m + 5);
    wide.middleCols(2, m) = x;
    const Matrix memory = Put(wide, DType::kF64);
    ASSERT_TRUE(backend_->Interpolative(memory.ref().Cols(2, m), pivots_again, again).ok());
    EXPECT_EQ(pivots_again, pivots);
    EXPECT_EQ(Get(again), got);
  }
}

TEST_P(BackendTest, InterpolativeRefusesALowerRank) {
  const auto status = [this](const MatD& x) {
    std::vector<int32_t> pivots(static_cast<size_t>(x.rows()));
    return backend_->Interpolative(Put(x, DType::kF64), pivots,
                                   *backend_->New(x.cols() - x.rows(), x.rows(), DType::kF64));
  };
  EXPECT_EQ(status(Random(6, 3) * Random(3, 30)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status(MatD::Zero(2, 4)).code(), absl::StatusCode::kFailedPrecondition);
  MatD bad = Random(6, 30);
  bad(3, 3) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(status(bad).ok());
  MatD steep = Random(5, 30);  // ill conditioned is not singular
  for (int i = 0; i < 5; ++i) steep.row(i) *= std::pow(10, -2 * i);
  EXPECT_TRUE(status(steep).ok());
  std::vector<int32_t> too_few(2);
  EXPECT_EQ(backend_
                ->Interpolative(Put(Random(3, 5), DType::kF64), too_few,
                                *backend_->New(2, 3, DType::kF64))
                .code(),
            absl::StatusCode::kInternal);
}

TEST_P(BackendTest, ScalesAndDot) {
  const MatD x = Random(6, 9), rows = Random(1, 6), cols = Random(1, 9);
  Matrix y = Put(x, DType::kF64);
  ASSERT_TRUE(backend_->ScaleRows(y, Put(rows, DType::kF64)).ok());
  ASSERT_TRUE(backend_->ScaleCols(y, Put(cols, DType::kF64)).ok());
  const MatD expected = rows.row(0).asDiagonal() * x * cols.row(0).asDiagonal();
  EXPECT_LT((Get(y) - expected).norm(), 1e-14);
  EXPECT_NEAR(*backend_->Dot(y, Put(x, DType::kF64)), expected.cwiseProduct(x).sum(), 1e-12);
  Matrix sums = *backend_->New(1, 6, DType::kF64);
  ASSERT_TRUE(backend_->RowDots(y, Put(x, DType::kF64), sums).ok());
  EXPECT_LT((Get(sums) - expected.cwiseProduct(x).rowwise().sum().transpose()).norm(), 1e-12);
}

TEST_P(BackendTest, GathersRows) {
  const MatD x = Random(7, 33);
  const std::vector<int32_t> rows = {6, 0, 0, 3};
  Matrix y = *backend_->New(4, 33, DType::kF64);
  ASSERT_TRUE(backend_->GatherRows(Put(x, DType::kF64), rows, y).ok());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Get(y).row(i), x.row(rows[static_cast<size_t>(i)]));
  EXPECT_FALSE(backend_->GatherRows(Put(x, DType::kF64), std::vector<int32_t>{0, 7, 1, 1}, y).ok());
}

TEST_P(BackendTest, Transposes) {
  const MatD x = Random(6, 29);
  Matrix y = *backend_->New(29, 6, DType::kF64);
  ASSERT_TRUE(backend_->Transpose(Put(x, DType::kF64), y).ok());
  EXPECT_EQ(Get(y), MatD(x.transpose()));
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

INSTANTIATE_TEST_SUITE_P(All, BackendTest, Implementations(), NameOf);

}  // namespace
}  // namespace svdllm::testing
