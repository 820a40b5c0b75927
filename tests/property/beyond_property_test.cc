// The pivoted encoding and the anchored target, at random shapes and ranks.
#include <cmath>

#include "lowrank/anchored.h"
#include "lowrank_fixture.h"

namespace svdllm {
namespace {

class BeyondPropertyTest : public LowRankPropertyTest {};

TEST_P(BeyondPropertyTest, PivotedEncodingIsLossless) {
  const int64_t m = Size(60), n = Size(60), p = std::min(m, n);
  const MatD w = Random(m, n), x = Random(n, n + 20);
  const Matrix gram = Put(x * x.transpose()), weight = Put(w);
  Metric metric;
  metric.gram = gram;
  const Decomposition d = DecomposeOne(weight, metric);
  for (const int64_t rank : {int64_t{1}, (p + 1) / 2, p}) {
    const auto plain = Truncate(d, rank, *backend_);
    ASSERT_OK(plain);
    const auto pivoted = Pivot(*plain, *backend_);
    ASSERT_OK(pivoted);
    ASSERT_TRUE(pivoted->pivoted());
    EXPECT_EQ(pivoted->a.rows(), rank);
    EXPECT_EQ(pivoted->b.rows(), m - rank);
    const MatD before = ProductOf(*plain), after = ProductOf(*pivoted);
    EXPECT_LT((after - before).norm(), 1e-10 * before.norm()) << m << "x" << n << " rank " << rank;
    // The pivot rows are rows of W′ itself, each row of the order is used once, ascending.
    std::vector<bool> seen(static_cast<size_t>(m), false);
    int64_t next_pivot = 0, next_rest = rank;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t place = pivoted->order[static_cast<size_t>(i)];
      ASSERT_FALSE(seen[static_cast<size_t>(place)]);
      seen[static_cast<size_t>(place)] = true;
      EXPECT_EQ(place, place < rank ? next_pivot++ : next_rest++);
    }
    // Column-pivoted QR keeps the coefficients small: 2^k is its bound, and far from what happens.
    if (m > rank) {
      EXPECT_LT(Get(pivoted->b).cwiseAbs().maxCoeff(), 50);
    }
  }
}

TEST_P(BeyondPropertyTest, RefitIsTheLeastSquaresFitToRoundedPivotRows) {
  const int64_t m = 4 + Size(40), n = 4 + Size(40), rank = std::min(m, n) / 2;
  const MatD w = Random(m, n), x = Random(n, n + 20);
  const Matrix gram = Put(x * x.transpose()), weight = Put(w);
  Metric metric;
  metric.gram = gram;
  const Decomposition d = DecomposeOne(weight, metric);
  Factors factors = *Pivot(*Truncate(d, rank, *backend_), *backend_);

  // With exact pivot rows there is nothing to refit: the coefficients are optimal already.
  Factors same = *Pivot(*Truncate(d, rank, *backend_), *backend_);
  ASSERT_OK(RefitPivoted(d.w, metric, same, *backend_));
  EXPECT_LT((ProductOf(same) - ProductOf(factors)).norm(), 1e-7 * ProductOf(factors).norm());

  const MatD rough = Get(factors.a).unaryExpr([](double v) { return std::round(v * 16) / 16; });
  factors.a = Put(rough);
  const double before = ((w - ProductOf(factors)) * x).squaredNorm();
  ASSERT_OK(RefitPivoted(d.w, metric, factors, *backend_));
  const MatD after = ProductOf(factors);
  EXPECT_LE(((w - after) * x).squaredNorm(), before * (1 + 1e-12));
  EXPECT_LT((Get(factors.a) - rough).norm(), 1e-15);
  const MatD regressors = (rough * x).transpose();
  for (int64_t i = 0; i < m; ++i) {
    if (factors.order[static_cast<size_t>(i)] < rank) continue;
    const Eigen::VectorXd wanted = (w.row(i) * x).transpose();
    const Eigen::VectorXd fit = regressors.colPivHouseholderQr().solve(wanted);
    EXPECT_NEAR((wanted - regressors * fit).squaredNorm(),
                ((w.row(i) - after.row(i)) * x).squaredNorm(), 1e-8 * wanted.squaredNorm());
  }
}

TEST_P(BeyondPropertyTest, AnchoredWithTheSameInputsIsWhitening) {
  const int64_t m = Size(40), n = Size(40);
  const MatD w = Random(m, n), x = Random(n, n + 20);
  const MatD g = x * x.transpose();
  const Matrix gram = Put(g), drift = Put(MatD::Zero(n, n)), weight = Put(w);
  ASSERT_OK(AddRidge(1e-6, gram, *backend_));
  EXPECT_LT(
      (Get(gram) - g - 1e-6 * g.trace() / static_cast<double>(n) * MatD::Identity(n, n)).norm(),
      1e-12 * g.norm());
  const auto target = AnchoredTarget({weight, drift}, gram, 1, *backend_);
  ASSERT_OK(target);
  EXPECT_EQ(Get(*target), w);
  Metric anchored, whitening;
  anchored.gram = gram;
  const Matrix plain = Put(g);
  whitening.gram = plain;
  const Decomposition a = DecomposeOne(*target, anchored), b = DecomposeOne(weight, whitening);
  for (int64_t rank = 1; rank <= std::min(m, n); ++rank) {
    const MatD mine = ProductOf(*Truncate(a, rank, *backend_));
    EXPECT_NEAR(((w - mine) * x).squaredNorm(), b.Tail(rank),
                1e-3 * b.Tail(rank) + 1e-5 * b.Tail(0));
  }
}

TEST_P(BeyondPropertyTest, AnchoredTargetIsTheRidgeRegressionOnTheNewInputs) {
  const int64_t m = Size(30), n = Size(30), tokens = n + 10;
  const MatD w = Random(m, n), x = Random(n, tokens), moved = x + 0.3 * Random(n, tokens);
  const MatD h = moved * moved.transpose(), d = (x - moved) * moved.transpose();
  const double ridge = 1e-3, mu = ridge * h.trace() / static_cast<double>(n);
  const Matrix gram = Put(h), drift = Put(d), weight = Put(w);
  ASSERT_OK(AddRidge(ridge, gram, *backend_));
  for (const double blend : {0.0, 0.5, 1.0}) {
    const MatD goal = (1 - blend) * w * moved + blend * w * x;
    const MatD expected = (h + mu * MatD::Identity(n, n))
                              .ldlt()
                              .solve((goal * moved.transpose() + mu * w).transpose())
                              .transpose();
    const auto mine = AnchoredTarget({weight, drift}, gram, blend, *backend_);
    ASSERT_OK(mine);
    EXPECT_LT((Get(*mine) - expected).norm(), 1e-7 * expected.norm()) << blend;
    const Matrix output_drift = Put(w * d);  // overwritten
    const auto by_output = AnchoredTarget({weight, output_drift, true}, gram, blend, *backend_);
    ASSERT_OK(by_output);
    EXPECT_LT((Get(*by_output) - expected).norm(), 1e-7 * expected.norm()) << blend;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, BeyondPropertyTest, ::testing::Range(1, 21));

}  // namespace
}  // namespace svdllm
