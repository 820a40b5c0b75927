// Random matrices in a backend and back, for what holds at any shape.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <random>

#include "lowrank/decomposition.h"
#include "tests/support/status_matchers.h"

namespace svdllm {

using MatD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class LowRankPropertyTest : public ::testing::TestWithParam<int> {
 protected:
  MatD Random(int64_t rows, int64_t cols) {
    std::normal_distribution<double> normal;
    MatD m(rows, cols);
    for (int64_t i = 0; i < m.size(); ++i) m.data()[i] = normal(generator_);
    return m;
  }
  int64_t Size(int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(generator_); }
  Matrix Put(const MatD& m) {
    Matrix matrix = *backend_->New(m.rows(), m.cols(), DType::kF64);
    EXPECT_TRUE(backend_->Upload(m.data(), DType::kF64, matrix).ok());
    return matrix;
  }
  MatD Get(const MatrixRef& ref) {
    MatD m(ref.rows, ref.cols);
    EXPECT_TRUE(backend_->Download(ref, m.data(), DType::kF64).ok());
    return m;
  }
  Decomposition DecomposeOne(const Matrix& w, const Metric& metric) {
    const DecomposeItem item{w, metric};
    auto result = Decompose({&item, 1}, *backend_);
    EXPECT_TRUE(result.ok()) << result.status();
    return std::move((*result)[0]);
  }
  MatD ProductOf(const Factors& factors) { return Get(*Multiply(factors, *backend_)); }

  std::mt19937_64 generator_{static_cast<uint64_t>(GetParam())};
  std::unique_ptr<Backend> backend_ = NewCpuBackend(1);
};

}  // namespace svdllm
