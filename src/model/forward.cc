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
  if (linear.pivoted()) {
    // a's rows of y, behind them b's, which are made of them; then each to its place.
    const int64_t rank = linear.a.rows();
    ASSIGN_OR_RETURN(const MatrixRef rows, Buffer("rank", x.rows, y.cols));
    const MatrixRef pivots = rows.Cols(0, rank);
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.a, 0, pivots));
    if (rank < y.cols) {
      RETURN_IF_ERROR(
          backend_.Gemm(false, true, 1, pivots, linear.b, 0, rows.Cols(rank, y.cols - rank)));
    }
    RETURN_IF_ERROR(backend_.GatherCols(rows, linear.order, y));
  } else if (linear.factored()) {
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

absl::Status Forward::Attend(MatrixRef q, MatrixRef k, MatrixRef v,
                             std::span<const int64_t> offsets, const Past* past, MatrixRef mixed) {
  if (past != nullptr && std::any_of(past->lengths.begin(), past->lengths.end(),
                                     [](int64_t length) { return length > 0; })) {
    return AttendCached(q, k, v, *past, mixed);
  }
  RETURN_IF_ERROR(ApplyRope(config_.num_heads, offsets, q));
  RETURN_IF_ERROR(ApplyRope(config_.num_kv_heads, offsets, k));
  if (past != nullptr) {
    const int64_t sequences = static_cast<int64_t>(past->lengths.size());
    const int64_t capacity = past->cache.k.rows() / sequences;
    for (int64_t s = 0; s < sequences; ++s) {
      const int64_t begin = offsets[static_cast<size_t>(s)];
      const int64_t count = offsets[static_cast<size_t>(s) + 1] - begin;
      RETURN_IF_ERROR(
          backend_.Copy(k.Rows(begin, count), past->cache.k.ref().Rows(s * capacity, count)));
      RETURN_IF_ERROR(
          backend_.Copy(v.Rows(begin, count), past->cache.v.ref().Rows(s * capacity, count)));
    }
  }
  return backend_.Attention(q, k, v, {config_.num_heads, config_.num_kv_heads, config_.head_dim},
                            offsets, mixed);
}

// One token of each sequence.
absl::Status Forward::AttendCached(MatrixRef q, MatrixRef k, MatrixRef v, const Past& past,
                                   MatrixRef mixed) {
  const MatrixRef keys = past.cache.k, values = past.cache.v;
  const int64_t sequences = static_cast<int64_t>(past.lengths.size());
  const int64_t capacity = keys.rows / sequences;
  // A table for all positions to come: it is made once, not longer by one every time.
  ASSIGN_OR_RETURN(const RopeTable* table, rope_.Get(config_, capacity, backend_));
  const int64_t single[] = {0, 1};
  std::vector<int64_t> lengths(past.lengths.begin(), past.lengths.end());
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t position = lengths[static_cast<size_t>(s)]++;
    const MatrixRef cosines = table->cosines.ref().Rows(position, 1);
    const MatrixRef sines = table->sines.ref().Rows(position, 1);
    RETURN_IF_ERROR(backend_.Rope(q.Rows(s, 1), config_.num_heads, cosines, sines, single));
    RETURN_IF_ERROR(backend_.Rope(k.Rows(s, 1), config_.num_kv_heads, cosines, sines, single));
    RETURN_IF_ERROR(backend_.Copy(k.Rows(s, 1), keys.Rows(s * capacity + position, 1)));
    RETURN_IF_ERROR(backend_.Copy(v.Rows(s, 1), values.Rows(s * capacity + position, 1)));
  }
  return backend_.CachedAttention(
      q, keys, values, {config_.num_heads, config_.num_kv_heads, config_.head_dim}, lengths, mixed);
}

absl::StatusOr<MatrixRef> Forward::InputOf(const Block& block, Site site,
                                           std::span<const int64_t> offsets, MatrixRef x,
                                           const BlockObserver& observer, const Past* past) {
  const int64_t tokens = x.rows, head_dim = config_.head_dim;
  const auto observed = [&](Site which, MatrixRef input) -> absl::StatusOr<MatrixRef> {
    if (observer.input) RETURN_IF_ERROR(observer.input(which, input));
    return input;
  };
  ASSIGN_OR_RETURN(const MatrixRef normed, Buffer("normed", tokens, x.cols));
  if (site == Site::kAttnIn || site == Site::kOIn) {
    RETURN_IF_ERROR(backend_.RmsNorm(x, block.attn_norm, config_.norm_eps, normed));
    RETURN_IF_ERROR(observed(Site::kAttnIn, normed).status());
    if (site == Site::kAttnIn) return normed;
    const int64_t q_cols = config_.num_heads * head_dim, kv_cols = config_.num_kv_heads * head_dim;
    ASSIGN_OR_RETURN(const MatrixRef q, Buffer("q", tokens, q_cols));
    ASSIGN_OR_RETURN(const MatrixRef k, Buffer("k", tokens, kv_cols));
    ASSIGN_OR_RETURN(const MatrixRef v, Buffer("v", tokens, kv_cols));
    RETURN_IF_ERROR(Apply(block, LinearId::kQ, normed, q, observer));
    RETURN_IF_ERROR(Apply(block, LinearId::kK, normed, k, observer));
    RETURN_IF_ERROR(Apply(block, LinearId::kV, normed, v, observer));
    ASSIGN_OR_RETURN(const MatrixRef mixed, Buffer("mixed", tokens, q_cols));
    RETURN_IF_ERROR(Attend(q, k, v, offsets, past, mixed));
    return observed(Site::kOIn, mixed);
  }
  RETURN_IF_ERROR(backend_.RmsNorm(x, block.mlp_norm, config_.norm_eps, normed));
  RETURN_IF_ERROR(observed(Site::kMlpIn, normed).status());
  if (site == Site::kMlpIn) return normed;
  ASSIGN_OR_RETURN(const MatrixRef gate, Buffer("gate", tokens, config_.intermediate_size));
  ASSIGN_OR_RETURN(const MatrixRef up, Buffer("up", tokens, config_.intermediate_size));
  RETURN_IF_ERROR(Apply(block, LinearId::kGate, normed, gate, observer));
  RETURN_IF_ERROR(Apply(block, LinearId::kUp, normed, up, observer));
  RETURN_IF_ERROR(backend_.SiluMul(gate, up));
  return observed(Site::kDownIn, gate);
}

absl::Status Forward::FinishHalf(const Block& block, Site site, MatrixRef input, MatrixRef x,
                                 const BlockObserver& observer) {
  ASSIGN_OR_RETURN(const MatrixRef y, Buffer("normed", x.rows, x.cols));
  RETURN_IF_ERROR(
      Apply(block, site == Site::kOIn ? LinearId::kO : LinearId::kDown, input, y, observer));
  return backend_.Add(1, y, x);
}

absl::Status Forward::RunBlock(const Block& block, std::span<const int64_t> offsets, MatrixRef x,
                               const BlockObserver& observer) {
  for (const Site site : {Site::kOIn, Site::kDownIn}) {
    ASSIGN_OR_RETURN(const MatrixRef input, SiteInput(block, site, offsets, x, observer));
    RETURN_IF_ERROR(FinishHalf(block, site, input, x, observer));
  }
  return absl::OkStatus();
}

absl::Status Forward::RunBlock(const Block& block, std::span<const int64_t> offsets, MatrixRef x,
                               const KvCache& cache, std::span<const int64_t> lengths) {
  const Past past{cache, lengths};
  for (const Site site : {Site::kOIn, Site::kDownIn}) {
    ASSIGN_OR_RETURN(const MatrixRef input, InputOf(block, site, offsets, x, {}, &past));
    RETURN_IF_ERROR(FinishHalf(block, site, input, x));
  }
  return absl::OkStatus();
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
