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
  ASSERT_TRUE(backend_->Activate(Activation::kSilu, g, Put(up, DType::kF32)).ok());
  const MatD silu = gate.array() / (1 + (-gate.array()).exp()) * up.array();
  EXPECT_LT((Get(g) - silu).cwiseAbs().maxCoeff(), 1e-4);
}

TEST_P(BackendTest, LayerNormTakesTheMeanAway) {
  const MatD x = Random(6, 77).array() + 1000, w = Random(1, 77), bias = Random(1, 77);
  Matrix y = *backend_->New(6, 77, DType::kF32);
  ASSERT_TRUE(
      backend_->LayerNorm(Put(x, DType::kF32), Put(w, DType::kF32), Put(bias, DType::kF32), 1e-5, y)
          .ok());
  const MatD stored = x.cast<float>().cast<double>(), got = Get(y);
  for (int i = 0; i < 6; ++i) {
    const MatD off = stored.row(i).array() - stored.row(i).mean();
    const MatD expected = (off / std::sqrt(off.squaredNorm() / 77 + 1e-5)).cwiseProduct(w) + bias;
    EXPECT_LT((got.row(i) - expected).norm(), 1e-5) << i;
  }
  EXPECT_FALSE(backend_
                   ->LayerNorm(Put(x, DType::kF32), Put(w, DType::kF32),
                               *backend_->New(1, 76, DType::kF32), 1e-5, y)
                   .ok());
}

TEST_P(BackendTest, Activations) {
  MatD gate = Random(9, 130) * 4;
  gate(0, 0) = 200, gate(0, 1) = -200, gate(0, 2) = 0, gate(0, 3) = 1e-6, gate(0, 4) = -0.2;
  gate(0, 5) = 11, gate(0, 6) = -11;
  gate = gate.cast<float>().cast<double>().eval();
  const MatD up = Random(9, 130);
  const auto one = [](Activation activation, double x) {
    switch (activation) {
      case Activation::kSilu:
        return x / (1 + std::exp(-x));
      case Activation::kGelu:
        return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
      case Activation::kGeluTanh:
        return 0.5 * x *
               (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
      case Activation::kRelu:
        return std::max(x, 0.0);
    }
    return 0.0;
  };
  for (const Activation activation :
       {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    const MatD expected = gate.unaryExpr([&](double x) { return one(activation, x); });
    Matrix y = Put(gate, DType::kF32);
    ASSERT_TRUE(backend_->Activate(activation, y, {}).ok());
    const MatD error = (Get(y) - expected).array() / (1 + gate.array().abs());
    EXPECT_LT(error.cwiseAbs().maxCoeff(), 1e-6) << static_cast<int>(activation);
    y = Put(gate, DType::kF32);
    ASSERT_TRUE(backend_->Activate(activation, y, Put(up, DType::kF32)).ok());
    EXPECT_LT((Get(y) - expected.cwiseProduct(up)).cwiseAbs().maxCoeff(), 1e-4)
        << static_cast<int>(activation);
  }
  Matrix y = Put(gate, DType::kF32);
  EXPECT_FALSE(backend_->Activate(Activation::kRelu, y, *backend_->New(9, 5, DType::kF32)).ok());
}

TEST_P(BackendTest, SoftCapBends) {
  MatD x = Random(5, 333) * 60;
  x(0, 0) = 0, x(0, 1) = 1e-4, x(0, 2) = 8.9, x(0, 3) = -9.1, x(0, 4) = 1e6, x(0, 5) = -1e6;
  x = x.cast<float>().cast<double>().eval();
  Matrix y = Put(x, DType::kF32);
  ASSERT_TRUE(backend_->SoftCap(y, 30).ok());
  const MatD expected = 30 * (x / 30).array().tanh(), got = Get(y);
  for (int64_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(got.data()[i], expected.data()[i], 1e-6 * std::abs(expected.data()[i]))
        << x.data()[i];
  }
  EXPECT_FALSE(backend_->SoftCap(y, 0).ok());
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
    std::vector<int32_t> order(static_cast<size_t>(n + 2));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator_);
    order.resize(static_cast<size_t>(n));  // not all columns are wanted
    Matrix indices = *backend_->New(1, n, DType::kI32);
    ASSERT_TRUE(backend_->Upload(order.data(), DType::kI32, indices).ok());
    const MatD x = Random(tokens, n + 3);
    Matrix y = *backend_->New(tokens, n, DType::kF32);
    ASSERT_TRUE(backend_->GatherCols(Put(x, DType::kF32).ref().Cols(1, n + 2), indices, y).ok());
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
