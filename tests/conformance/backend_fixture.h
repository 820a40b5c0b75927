// The fixture of the backend's conformance tests: TEST_P(BackendTest, ...) runs for every
// implementation.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "linalg/backend.h"
#include "linalg/cuda/loader.h"

namespace svdllm::testing {

using MatD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Implementation {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Backend>>()> make;
};

inline auto Implementations() {
  return ::testing::Values(Implementation{"cpu", [] { return NewCpuBackend(); }},
                           Implementation{"cpu_one_thread", [] { return NewCpuBackend(1); }},
                           Implementation{"cuda", [] { return NewCudaBackend(); }});
}
inline std::string NameOf(const ::testing::TestParamInfo<Implementation>& info) {
  return info.param.name;
}

class BackendTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    // What a machine lacks is skipped and named; what it has must work.
    if (absl::IsUnavailable(made.status())) GTEST_SKIP() << made.status().message();
    ASSERT_TRUE(made.ok()) << made.status();
    backend_ = *std::move(made);
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
  // As a type of fewer bits holds it.
  static MatD Held(const MatD& m, DType dtype) {
    std::vector<char> bits(static_cast<size_t>(m.size()) * SizeOf(dtype));
    MatD held(m.rows(), m.cols());
    ConvertElements(m.data(), DType::kF64, bits.data(), dtype, static_cast<size_t>(m.size()));
    ConvertElements(bits.data(), dtype, held.data(), DType::kF64, static_cast<size_t>(m.size()));
    return held;
  }
  MatD RandomSpd(int64_t n) {
    const MatD x = Random(n + 3, n);
    return x.transpose() * x;
  }

  std::mt19937_64 generator_{7};
  std::unique_ptr<Backend> backend_;
};

}  // namespace svdllm::testing
