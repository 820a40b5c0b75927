#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace svdllm {
namespace {

// Rows whose logits are held at once: a vocabulary of 128,000 takes 128 MB.
constexpr int64_t kLogitRows = 256;

int64_t LongestSequence(std::span<const int64_t> offsets) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    longest = std::max(longest, offsets[s + 1] - offsets[s]);
  }
  return longest;
}

}  // namespace

absl::StatusOr<MatrixRef> Forward::Buffer(const char* name, int64_t rows, int64_t cols) {
  Matrix& memory = buffers_[name];
  if (memory.cols() < rows * cols) {
    memory = Matrix();  // give the old one back first
    ASSIGN_OR_RETURN(memory, backend_.New(1, rows * cols, DType::kF32));
  }
  return MatrixRef{memory.ref().data, rows, cols, cols, DType::kF32};
}

absl::Status Forward::Apply(const Block& block, LinearId id, MatrixRef x, MatrixRef y,
                            const BlockObserver& observer) {
  const Linear& linear = block.linear(id);
  if (linear.factored()) {
    ASSIGN_OR_RETURN(const MatrixRef inner, Buffer("rank", x.rows, linear.a.rows()));
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.a, 0, inner));
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, inner, linear.b, 0, y));
  } else {
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.w, 0, y));
  }
  if (observer.output) RETURN_IF_ERROR(observer.output(id, y));
  return linear.bias.empty() ? absl::OkStatus() : backend_.AddBias(y, linear.bias);
}

absl::Status Forward::ApplyRope(int64_t heads, std::span<const int64_t> offsets, MatrixRef x) {
  if (!RopeCache::DependsOnLength(config_, LongestSequence(offsets))) {
    ASSIGN_OR_RETURN(const RopeTable* table,
                     rope_.Get(config_, LongestSequence(offsets), backend_));
    return backend_.Rope(x, heads, table->cosines, table->sines, offsets);
  }
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t length = offsets[s + 1] - offsets[s];
    ASSIGN_OR_RETURN(const RopeTable* table, rope_.Get(config_, length, backend_));
    const int64_t own[] = {0, length};
    RETURN_IF_ERROR(
        backend_.Rope(x.Rows(offsets[s], length), heads, table->cosines, table->sines, own));
  }
  return absl::OkStatus();
}

absl::Status Forward::RunBlock(const Block& block, std::span<const int64_t> offsets, MatrixRef x,
                               const BlockObserver& observer) {
  const int64_t tokens = x.rows, head_dim = config_.head_dim;
  const int64_t q_cols = config_.num_heads * head_dim, kv_cols = config_.num_kv_heads * head_dim;
  const auto observe = [&observer](Site site, MatrixRef input) {
    return observer.input ? observer.input(site, input) : absl::OkStatus();
  };

  ASSIGN_OR_RETURN(const MatrixRef normed, Buffer("normed", tokens, x.cols));
  ASSIGN_OR_RETURN(const MatrixRef q, Buffer("q", tokens, q_cols));
  ASSIGN_OR_RETURN(const MatrixRef k, Buffer("k", tokens, kv_cols));
  ASSIGN_OR_RETURN(const MatrixRef v, Buffer("v", tokens, kv_cols));
  RETURN_IF_ERROR(backend_.RmsNorm(x, block.attn_norm, config_.norm_eps, normed));
  RETURN_IF_ERROR(observe(Site::kAttnIn, normed));
  RETURN_IF_ERROR(Apply(block, LinearId::kQ, normed, q, observer));
  RETURN_IF_ERROR(Apply(block, LinearId::kK, normed, k, observer));
  RETURN_IF_ERROR(Apply(block, LinearId::kV, normed, v, observer));
  RETURN_IF_ERROR(ApplyRope(config_.num_heads, offsets, q));
  RETURN_IF_ERROR(ApplyRope(config_.num_kv_heads, offsets, k));
  ASSIGN_OR_RETURN(const MatrixRef mixed, Buffer("mixed", tokens, q_cols));
  RETURN_IF_ERROR(backend_.Attention(q, k, v, {config_.num_heads, config_.num_kv_heads, head_dim},
                                     offsets, mixed));
  RETURN_IF_ERROR(observe(Site::kOIn, mixed));
  RETURN_IF_ERROR(Apply(block, LinearId::kO, mixed, normed, observer));
  RETURN_IF_ERROR(backend_.Add(normed, x));

  ASSIGN_OR_RETURN(const MatrixRef gate, Buffer("gate", tokens, config_.intermediate_size));
  ASSIGN_OR_RETURN(const MatrixRef up, Buffer("up", tokens, config_.intermediate_size));
  RETURN_IF_ERROR(backend_.RmsNorm(x, block.mlp_norm, config_.norm_eps, normed));
  RETURN_IF_ERROR(observe(Site::kMlpIn, normed));
  RETURN_IF_ERROR(Apply(block, LinearId::kGate, normed, gate, observer));
  RETURN_IF_ERROR(Apply(block, LinearId::kUp, normed, up, observer));
  RETURN_IF_ERROR(backend_.SiluMul(gate, up));
  RETURN_IF_ERROR(observe(Site::kDownIn, gate));
  RETURN_IF_ERROR(Apply(block, LinearId::kDown, gate, normed, observer));
  return backend_.Add(normed, x);
}

absl::Status Forward::Logits(const Head& head, MatrixRef x, MatrixRef logits) {
  ASSIGN_OR_RETURN(const MatrixRef normed, Buffer("normed", x.rows, x.cols));
  RETURN_IF_ERROR(backend_.RmsNorm(x, head.norm, config_.norm_eps, normed));
  return backend_.Gemm(false, true, 1, normed, head.w, 0, logits);
}

absl::StatusOr<double> Forward::NegativeLogLikelihood(const Head& head,
                                                      std::span<const int64_t> offsets,
                                                      std::span<const int32_t> ids, MatrixRef x) {
  // The last token of a sequence predicts nothing.
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  for (size_t s = 1; s < offsets.size(); ++s) {
    if (offsets[s] > offsets[s - 1]) targets[static_cast<size_t>(offsets[s] - 1)] = -1;
  }
  double sum = 0;
  for (int64_t begin = 0; begin < x.rows; begin += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, x.rows - begin);
    ASSIGN_OR_RETURN(const MatrixRef logits, Buffer("logits", rows, head.w.rows()));
    RETURN_IF_ERROR(Logits(head, x.Rows(begin, rows), logits));
    ASSIGN_OR_RETURN(
        const double nll,
        backend_.CrossEntropy(logits, std::span<const int32_t>(targets).subspan(
                                          static_cast<size_t>(begin), static_cast<size_t>(rows))));
    sum += nll;
  }
  if (!std::isfinite(sum)) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "evaluate: a logit is not finite");
  }
  return sum;
}

}  // namespace svdllm
