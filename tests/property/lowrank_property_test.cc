// What holds for every matrix, metric and rank, at random shapes: against the textbook whitening
// and against the definition of the loss.
#include <cmath>

#include "lowrank_fixture.h"

namespace svdllm {
namespace {

TEST_P(LowRankPropertyTest, EqualsTextbookWhiteningAndLosesTheTail) {
  const int64_t m = Size(40), n = Size(40), tokens = n + Size(100);
  const MatD w = Random(m, n);
  MatD x = Random(n, tokens);
  x.row(0) *= 100;  // an outlier channel
  const MatD g = x * x.transpose();
  const Matrix gram = Put(g), weight = Put(w);
  Metric metric;
  metric.gram = gram;
  const Decomposition d = DecomposeOne(weight, metric);

  // W S = U Σ Vᵀ with S the Cholesky factor of G; W′ = U_k Σ_k V_kᵀ S⁻¹.
  const MatD s = g.llt().matrixL();
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(w * s, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const int64_t p = std::min(m, n);
  double previous = std::numeric_limits<double>::infinity();
  for (int64_t rank = 1; rank <= p; ++rank) {
    auto factors = Truncate(d, rank, *backend_);
    ASSERT_OK(factors);
    const MatD mine = ProductOf(*factors);
    const MatD textbook = svd.matrixU().leftCols(rank) *
                          svd.singularValues().head(rank).asDiagonal() *
                          svd.matrixV().leftCols(rank).transpose() * s.inverse();
    EXPECT_LT(((mine - textbook) * x).norm(), 1e-7 * (w * x).norm())
        << m << "x" << n << " " << rank;
    const double loss = ((w - mine) * x).squaredNorm();
    const double total = (w * x).squaredNorm();
    EXPECT_NEAR(loss, d.Tail(rank), 1e-6 * d.Tail(rank) + 1e-12 * total) << rank;
    EXPECT_NEAR(*ResidualLoss(d, Put(mine), metric, *backend_), loss, 1e-9 * loss + 1e-12 * total);
    EXPECT_LE(loss, previous + 1e-9 * total) << "more rank, more loss";
    previous = loss;
    // Balanced: what a 16-bit format has to hold is alike in both factors.
    ASSERT_OK(Balance(*factors, *backend_));
    EXPECT_LT((ProductOf(*factors) - mine).norm(), 1e-12 * (1 + mine.norm()));
    const MatD a = Get(factors->a), b = Get(factors->b);
    for (int64_t i = 0; i < rank; ++i) {
      EXPECT_NEAR(a.row(i).norm() / b.col(i).norm(), 1, 1e-6);
    }
  }
}

TEST_P(LowRankPropertyTest, SingularGramsAndDeadChannelsAreExact) {
  const int64_t m = Size(30), n = 2 + Size(30), tokens = Size(n - 1);  // fewer tokens than channels
  const MatD w = Random(m, n);
  MatD x = Random(n, tokens);
  x.row(n / 2).setZero();
  const Matrix gram = Put(x * x.transpose()), weight = Put(w);
  Metric metric;
  metric.gram = gram;
  const Decomposition d = DecomposeOne(weight, metric);
  for (int64_t rank = 1; rank <= std::min(m, n); ++rank) {
    const MatD mine = ProductOf(*Truncate(d, rank, *backend_));
    ASSERT_TRUE(mine.allFinite());
    const double loss = ((w - mine) * x).squaredNorm(), total = (w * x).squaredNorm();
    EXPECT_NEAR(loss, d.Tail(rank), 1e-6 * d.Tail(rank) + 1e-12 * total);
    if (rank >= tokens) {
      EXPECT_LT(loss, 1e-10 * total + 1e-20);
    }
  }
}

TEST_P(LowRankPropertyTest, OutputGramGivesTheSameAsTheInputGram) {
  const int64_t m = Size(20), n = m + Size(40), tokens = Size(200);
  const MatD w = Random(m, n), x = Random(n, tokens), y = w * x;
  const Matrix gram = Put(x * x.transpose()), output = Put(y * y.transpose()), weight = Put(w);
  Metric by_input, by_output;
  by_input.gram = gram;
  by_output.output_gram = output;
  const Decomposition a = DecomposeOne(weight, by_input), b = DecomposeOne(weight, by_output);
  const int64_t rank = (m + 1) / 2;
  EXPECT_NEAR(a.Tail(rank), b.Tail(rank), 1e-8 * a.Tail(0));
  EXPECT_LT(
      ((ProductOf(*Truncate(a, rank, *backend_)) - ProductOf(*Truncate(b, rank, *backend_))) * x)
          .norm(),
      1e-6 * y.norm());
}

TEST_P(LowRankPropertyTest, PlainAndScaledSvd) {
  const int64_t m = Size(40), n = Size(40);
  const MatD w = Random(m, n);
  const MatD scale = Random(1, n).cwiseAbs().array() + 0.1;
  const Matrix weight = Put(w), scales = Put(scale);
  Metric scaled;
  scaled.scale = scales;
  const Decomposition plain = DecomposeOne(weight, {}), asvd = DecomposeOne(weight, scaled);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(w);
  const Eigen::BDCSVD<Eigen::MatrixXd> scaled_svd(w * scale.row(0).asDiagonal());
  for (int64_t j = 0; j < std::min(m, n); ++j) {
    const double s = svd.singularValues()[j], t = scaled_svd.singularValues()[j];
    EXPECT_NEAR(plain.spectrum[static_cast<size_t>(j)], s * s,
                1e-10 * svd.singularValues()[0] * svd.singularValues()[0]);
    EXPECT_NEAR(asvd.spectrum[static_cast<size_t>(j)], t * t,
                1e-10 * scaled_svd.singularValues()[0] * scaled_svd.singularValues()[0]);
  }
  const int64_t rank = (std::min(m, n) + 1) / 2;
  const MatD rest = w - ProductOf(*Truncate(asvd, rank, *backend_));
  EXPECT_NEAR((rest * scale.row(0).asDiagonal()).squaredNorm(), asvd.Tail(rank),
              1e-9 * asvd.Tail(0));
}

TEST_P(LowRankPropertyTest, UpdateWithTheSameInputsIsTheIdentity) {
  const int64_t m = Size(40), n = Size(40), tokens = n + Size(50);
  const MatD w = Random(m, n), x = Random(n, tokens);
  const Matrix gram = Put(x * x.transpose()), weight = Put(w);
  Metric metric;
  metric.gram = gram;
  const Decomposition d = DecomposeOne(weight, metric);
  const int64_t rank = (std::min(m, n) + 1) / 2;
  const auto updated = CutAndUpdate(d, rank, metric, *backend_);
  ASSERT_OK(updated);
  const MatD a = ProductOf(updated->factors), b = ProductOf(*Truncate(d, rank, *backend_));
  EXPECT_LT(((a - b) * x).norm(), 1e-7 * (w * x).norm());
  EXPECT_NEAR(updated->relative_loss, std::sqrt(d.Tail(rank) / d.Tail(0)), 1e-6);
}

TEST_P(LowRankPropertyTest, UpdateIsTheLeastSquaresFitOnTheNewInputs) {
  const int64_t m = Size(30), n = Size(30), tokens = n + Size(50);
  const MatD w = Random(m, n), x = Random(n, tokens), moved = x + 0.3 * Random(n, tokens);
  const Matrix gram = Put(x * x.transpose()), other = Put(moved * moved.transpose()),
               weight = Put(w);
  Metric metric, after;
  metric.gram = gram;
  after.gram = other;
  const Decomposition d = DecomposeOne(weight, metric);
  const int64_t rank = (std::min(m, n) + 1) / 2;
  const auto updated = CutAndUpdate(d, rank, after, *backend_);
  ASSERT_OK(updated);
  const MatD mine = ProductOf(updated->factors);
  // Its own solve: columns of V X′ as regressors of W X′.
  const MatD vx = Get(updated->factors.a) * moved, wx = w * moved;
  const MatD fit = vx.transpose().colPivHouseholderQr().solve(wx.transpose()).transpose();
  const double best = (wx - fit * vx).squaredNorm(), loss = ((w - mine) * moved).squaredNorm();
  EXPECT_NEAR(loss, best, 1e-7 * wx.squaredNorm());
  EXPECT_LE(loss,
            ((w - ProductOf(*Truncate(d, rank, *backend_))) * moved).squaredNorm() * (1 + 1e-9));
  EXPECT_NEAR(updated->relative_loss, std::sqrt(loss / wx.squaredNorm()), 1e-6);
}

TEST_P(LowRankPropertyTest, UpdateKeepsWhatTheNewInputsDoNotExcite) {
  const int64_t m = 6 + Size(20), n = 6 + Size(20);
  const MatD w = Random(m, n), x = Random(n, 3 * n);
  const MatD one = Random(n, 1);  // a single token: V H Vᵀ has rank one
  const Matrix gram = Put(x * x.transpose()), other = Put(one * one.transpose()), weight = Put(w);
  Metric metric, after;
  metric.gram = gram;
  after.gram = other;
  const Decomposition d = DecomposeOne(weight, metric);
  const auto updated = CutAndUpdate(d, 4, after, *backend_);
  ASSERT_OK(updated);
  const MatD mine = ProductOf(updated->factors), before = ProductOf(*Truncate(d, 4, *backend_));
  ASSERT_TRUE(mine.allFinite());
  EXPECT_LT(((w - mine) * one).norm(), 1e-6 * (w * one).norm());
  // The correction has rank one, and nothing blew up.
  const Eigen::BDCSVD<Eigen::MatrixXd> change(mine - before);
  EXPECT_LT(change.singularValues()[1], 1e-6 * change.singularValues()[0] + 1e-9);
}

TEST_P(LowRankPropertyTest, SampledLossIsTheLossOnTheSample) {
  const int64_t m = Size(20), n = Size(20);
  const MatD w = Random(m, n), approximation = Random(m, n), x = Random(7, n);
  const Decomposition d = DecomposeOne(Put(w), {});
  Matrix sample = *backend_->New(7, n, DType::kF32);
  ASSERT_OK(backend_->Upload(x.data(), DType::kF64, sample));
  const double expected = ((w - approximation) * x.transpose()).squaredNorm();
  EXPECT_NEAR(*SampledLoss(d, Put(approximation), sample, *backend_), expected, 1e-5 * expected);
}

TEST(LowRankErrorTest, NonFiniteMetricIsANumericalFailure) {
  const auto backend = NewCpuBackend(1);
  const std::vector<double> w = {1, 2, 3, 4}, g = {1, 0, 0, std::nan("")};
  const Matrix weight = *backend->New(2, 2, DType::kF64), gram = *backend->New(2, 2, DType::kF64);
  ASSERT_OK(backend->Upload(w.data(), DType::kF64, weight));
  ASSERT_OK(backend->Upload(g.data(), DType::kF64, gram));
  Metric metric;
  metric.gram = gram;
  const DecomposeItem item{weight, metric};
  EXPECT_STATUS(Decompose({&item, 1}, *backend), kInternal, kNumericalFailure, {"not finite"});
}

INSTANTIATE_TEST_SUITE_P(Seeds, LowRankPropertyTest, ::testing::Range(1, 21));

}  // namespace
}  // namespace svdllm
