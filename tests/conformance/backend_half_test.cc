// What every Backend promises of products with operands of 16 bits.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/conformance/backend_fixture.h"

namespace svdllm::testing {
namespace {

constexpr DType kHalves[] = {DType::kF16, DType::kBF16};

TEST_P(BackendTest, WeightsAreNeverHeldLessPreciselyThanStored) {
  EXPECT_EQ(backend_->WeightType(DType::kF32), DType::kF32);
  EXPECT_EQ(backend_->WeightType(DType::kF64), DType::kF32);
  for (const DType stored : kHalves) {
    EXPECT_THAT(backend_->WeightType(stored), ::testing::AnyOf(stored, DType::kF32));
  }
}

TEST_P(BackendTest, GemmWithWeightsOfHalfTheBits) {
  for (const DType dtype : kHalves) {
    for (const auto& [m, n, k] :
         std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {3, 9, 17}, {33, 65, 24}, {130, 70, 256}}) {
      const MatD x = Random(m, k + 4), w = Random(n, k + 8), y = Random(m, n + 2);
      const Matrix px = Put(x, DType::kF32), pw = Put(w, dtype), out = Put(y, DType::kF32);
      // Views: on a multiple of four columns, and beside one.
      for (const int64_t from : {0, 1, 4}) {
        const Matrix to = Put(y, DType::kF32);
        ASSERT_TRUE(backend_
                        ->Gemm(false, true, -0.5, px.ref().Cols(from, k), pw.ref().Cols(from, k), 2,
                               to.ref().Cols(1, n))
                        .ok());
        const MatD expected = -0.5 * Held(x.middleCols(from, k), dtype) *
                                  Held(w, dtype).middleCols(from, k).transpose() +
                              2 * y.middleCols(1, n);
        EXPECT_LT((Get(to).middleCols(1, n) - expected).norm(),
                  3e-6 * std::sqrt(k) * (1 + expected.norm()))
            << DTypeName(dtype) << " " << m << " " << n << " " << k << " " << from;
        EXPECT_EQ(Get(to).col(0), y.col(0));
      }
    }
  }
  // Only the one orientation that a layer has.
  const Matrix a = *backend_->New(4, 4, DType::kF32), b = *backend_->New(4, 4, DType::kBF16);
  EXPECT_FALSE(backend_->Gemm(false, false, 1, a, b, 0, a).ok());
  EXPECT_FALSE(backend_->Gemm(true, true, 1, a, b, 0, a).ok());
  EXPECT_FALSE(backend_->Gemm(false, true, 1, b, a, 0, a).ok());
}

// Several products of the same input, and of another in its place.
TEST_P(BackendTest, GemmSeesWhatItsInputHasBecome) {
  for (const DType dtype : kHalves) {
    const MatD first = Random(9, 16), second = Random(9, 16), w = Random(16, 16);
    const Matrix x = Put(first, DType::kF32), pw = Put(w, dtype);
    const MatD held = Held(w, dtype);
    const auto product = [&](const MatrixRef& to) {
      ASSERT_TRUE(backend_->Gemm(false, true, 1, x, pw, 0, to).ok());
    };
    const auto expect = [&](const Matrix& y, const MatD& input) {
      const MatD expected = Held(input, dtype) * held.transpose();
      EXPECT_LT((Get(y) - expected).norm(), 1e-5 * expected.norm());
    };
    const Matrix y = *backend_->New(9, 16, DType::kF32), z = *backend_->New(9, 16, DType::kF32);
    product(y);
    product(z);
    expect(z, first);
    ASSERT_TRUE(backend_->Upload(second.data(), DType::kF64, x).ok());
    product(z);
    expect(z, second);
    ASSERT_TRUE(backend_->Copy(y, x).ok());
    const MatD copied = Get(x);
    product(z);
    expect(z, copied);
    // Its own output.
    const MatD before = Get(x);
    ASSERT_TRUE(backend_->Gemm(false, true, 1, z, pw, 0, x).ok());
    const MatD now = Get(x);
    product(z);
    expect(z, now);
    ASSERT_TRUE(backend_->Gemm(false, true, 1, x, pw, 0, y).ok());
    ASSERT_TRUE(backend_->Gemm(false, true, 1, y, pw, 0, x).ok());
    const MatD last = Get(x);
    product(z);
    expect(z, last);
  }
}

TEST_P(BackendTest, GramsOfRoundedInputsAddUpInDouble) {
  for (const DType dtype : kHalves) {
    for (const auto& [tokens, n] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 37}, {8200, 20}, {40, 2100}}) {
      const MatD wide = Random(tokens, n + 3);
      const Matrix memory = Put(wide, DType::kF32);
      const MatD x = Held(wide.middleCols(2, n), dtype);
      const Matrix gram = *backend_->New(n, n, DType::kF64);
      // The upper triangle stays.
      for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(backend_->AccumulateGram(memory.ref().Cols(2, n), dtype, gram).ok());
      }
      const MatD got = Get(gram);
      const MatD norms = x.colwise().norm();
      const MatD expected = 2 * x.transpose() * x;
      double worst = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          worst = std::max(
              worst, std::abs(got(i, j) - expected(i, j)) / (norms(0, i) * norms(0, j) + 1e-30));
        }
      }
      EXPECT_LT(worst, 4e-6) << DTypeName(dtype) << " " << tokens << " " << n;
      const MatD above = got.triangularView<Eigen::StrictlyUpper>();
      EXPECT_EQ(above.norm(), 0);
    }
  }
}

TEST_P(BackendTest, CrossProductsOfRoundedInputs) {
  for (const DType dtype : kHalves) {
    for (const auto& [tokens, p, n] :
         std::vector<std::array<int64_t, 3>>{{1, 1, 3}, {700, 21, 37}, {30, 2060, 11}}) {
      const MatD x = Random(tokens, p), y = Random(tokens, n);
      const Matrix cross = *backend_->New(p, n, DType::kF64);
      for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(
            backend_->AccumulateCross(Put(x, DType::kF32), Put(y, DType::kF32), dtype, cross).ok());
      }
      const MatD expected = 2 * Held(x, dtype).transpose() * Held(y, dtype);
      EXPECT_LT((Get(cross) - expected).norm(), 1e-5 * expected.norm()) << tokens << " " << p;
    }
  }
  const Matrix x = *backend_->New(3, 2, DType::kF32), gram = *backend_->New(2, 2, DType::kF64);
  EXPECT_FALSE(backend_->AccumulateGram(x, DType::kF64, gram).ok());
  EXPECT_FALSE(backend_->AccumulateCross(x, x, DType::kI32, gram).ok());
}

}  // namespace
}  // namespace svdllm::testing
