#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace svdllm {
namespace {

// Rows whose logits are held at once: a vocabulary of 128,000 takes 128 MB.
constexpr int64_t kLogitRows = 256;

// INTERNAL where the caller's layout is not what SequenceLayout promises.
absl::Status CheckLayout(const SequenceLayout& layout) {
  if (layout.parents.empty()) return absl::OkStatus();
  bool ok = layout.parents.size() + 1 == layout.offsets.size();
  for (size_t s = 0; ok && s < layout.parents.size(); ++s) {
    const int64_t parent = layout.parents[s];
    ok = parent == -1 || (parent >= 0 && parent < static_cast<int64_t>(s) &&
                          layout.parents[static_cast<size_t>(parent)] == -1);
  }
  return ok ? absl::OkStatus()
            : absl::InternalError("RunBlock: a sequence's parent is not an earlier one without");
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
    const int64_t rank = linear.a.rows(), others = y.cols - rank, begin = AlignedCols(rank);
    ASSIGN_OR_RETURN(const MatrixRef rows, Buffer("rank", x.rows, begin + AlignedCols(others)));
    const MatrixRef pivots = rows.Cols(0, rank);
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.a, 0, pivots));
    if (others > 0) {
      RETURN_IF_ERROR(backend_.Gemm(false, true, 1, pivots, linear.b, 0, rows.Cols(begin, others)));
    }
    RETURN_IF_ERROR(backend_.GatherCols(rows, linear.order, y));
  } else if (linear.factored()) {
    const int64_t rank = linear.a.rows();
    ASSIGN_OR_RETURN(const MatrixRef buffer, Buffer("rank", x.rows, AlignedCols(rank)));
    const MatrixRef inner = buffer.Cols(0, rank);
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.a, 0, inner));
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, inner, linear.b, 0, y));
  } else {
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, linear.w, 0, y));
  }
  if (observer.output) RETURN_IF_ERROR(observer.output(id, y));
  return linear.bias.empty() ? absl::OkStatus() : backend_.AddBias(y, linear.bias);
}

absl::Status Forward::Normalise(const Norm& norm, MatrixRef x, MatrixRef y) {
  if (arch_.norm == NormKind::kLayer) {
    return backend_.LayerNorm(x, norm.weight, norm.bias, config_.norm_eps, y);
  }
  return backend_.RmsNorm(x, norm.weight, config_.norm_eps, y);
}

absl::Status Forward::ApplyRope(int64_t layer, int64_t heads, std::span<const int64_t> offsets,
                                std::span<const int64_t> first, std::span<const int64_t> lengths,
                                MatrixRef x) {
  if (lengths.empty() || config_.rope.dim == 0) return absl::OkStatus();
  const bool is_local = config_.local_rope && config_.Slides(layer);
  const RopeConfig& rope = is_local ? *config_.local_rope : config_.rope;
  RopeCache& tables = is_local ? local_rope_ : rope_;
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (std::all_of(lengths.begin(), lengths.end(),
                  [&](int64_t length) { return RopeCache::SameTable(rope, length, longest); })) {
    ASSIGN_OR_RETURN(const RopeTable* table, tables.Get(rope, longest, backend_));
    return backend_.Rope(x, heads, table->cosines, table->sines, offsets, first);
  }
  for (size_t s = 0; s < lengths.size(); ++s) {
    ASSIGN_OR_RETURN(const RopeTable* table, tables.Get(rope, lengths[s], backend_));
    const int64_t count = offsets[s + 1] - offsets[s], own[] = {0, count};
    RETURN_IF_ERROR(backend_.Rope(x.Rows(offsets[s], count), heads, table->cosines, table->sines,
                                  own, first.subspan(s, 1)));
  }
  return absl::OkStatus();
}

absl::StatusOr<MatrixRef> Forward::BehindParents(const char* buffer, MatrixRef x,
                                                 const SequenceLayout& layout,
                                                 std::span<const KeyRange> ranges) {
  ASSIGN_OR_RETURN(const MatrixRef all,
                   Buffer(buffer, ranges.back().first + ranges.back().count, x.cols));
  for (size_t s = 0; s < ranges.size(); ++s) {
    const int64_t begin = layout.offsets[s], own = layout.offsets[s + 1] - begin;
    const int64_t before = ranges[s].count - own, row = ranges[s].first;
    if (before > 0) {
      const int64_t parent = layout.offsets[static_cast<size_t>(layout.parents[s])];
      RETURN_IF_ERROR(backend_.Copy(x.Rows(parent, before), all.Rows(row, before)));
    }
    RETURN_IF_ERROR(backend_.Copy(x.Rows(begin, own), all.Rows(row + before, own)));
  }
  return all;
}

absl::Status Forward::Attend(const Block& block, MatrixRef q, MatrixRef k, MatrixRef v,
                             const SequenceLayout& layout, const Past* past, MatrixRef mixed) {
  const std::span<const int64_t> offsets = layout.offsets;
  const size_t sequences = layout.sequences();
  const bool has_parents = !layout.parents.empty();
  const int64_t capacity =
      past == nullptr ? 0 : past->cache.k.rows() / static_cast<int64_t>(sequences);
  // Of each sequence: its first position, and the length that its rotary frequencies go by.
  std::vector<int64_t> first(sequences), lengths(sequences);
  std::vector<KeyRange> keys;  // empty: a sequence's own
  for (size_t s = 0; s < sequences; ++s) {
    first[s] = past != nullptr ? past->lengths[s] : layout.FirstPosition(s);
    const int64_t length = first[s] + layout.Length(s);
    lengths[s] = past != nullptr ? capacity : length;
    if (past != nullptr) {
      keys.push_back({static_cast<int64_t>(s) * capacity, length});
    } else if (has_parents) {
      keys.push_back({keys.empty() ? 0 : keys.back().first + keys.back().count, length});
      if (first[s] > 0 && !SameFrequencies(config_, first[s], length)) {
        return absl::UnimplementedError("rope_scaling: " + std::to_string(length) +
                                        " tokens cannot share a beginning of " +
                                        std::to_string(first[s]));
      }
    }
  }
  const int64_t d = config_.head_dim;
  for (const auto& [norm, x] : {std::pair{&block.q_norm, q}, std::pair{&block.k_norm, k}}) {
    if (norm->empty()) continue;
    const MatrixRef heads{x.data, x.size() / d, d, d, x.dtype};
    RETURN_IF_ERROR(Normalise(*norm, heads, heads));
  }
  RETURN_IF_ERROR(ApplyRope(block.layer, config_.num_heads, offsets, first, lengths, q));
  RETURN_IF_ERROR(ApplyRope(block.layer, config_.num_kv_heads, offsets, first, lengths, k));
  if (past != nullptr) {
    const auto append = [&](MatrixRef own, MatrixRef cache) -> absl::Status {
      bool in_step = true;  // a token each, behind as many
      for (size_t s = 0; s < sequences; ++s) {
        in_step = in_step && offsets[s + 1] - offsets[s] == 1 && first[s] == first[0];
      }
      if (in_step) {  // one copy, not one a sequence: on a device a step is mostly launches
        MatrixRef rows = cache.Rows(first[0], own.rows);
        rows.stride *= capacity;
        return backend_.Copy(own, rows);
      }
      for (size_t s = 0; s < sequences; ++s) {
        const int64_t count = offsets[s + 1] - offsets[s], row = keys[s].first + first[s];
        RETURN_IF_ERROR(backend_.Copy(own.Rows(offsets[s], count), cache.Rows(row, count)));
      }
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(append(k, past->cache.k));
    RETURN_IF_ERROR(append(v, past->cache.v));
    k = past->cache.k;
    v = past->cache.v;
  } else if (has_parents) {
    ASSIGN_OR_RETURN(k, BehindParents("all keys", k, layout, keys));
    ASSIGN_OR_RETURN(v, BehindParents("all values", v, layout, keys));
  }
  const AttentionShape shape{.heads = config_.num_heads,
                             .kv_heads = config_.num_kv_heads,
                             .head_dim = d,
                             .scale = config_.attention_scale,
                             .softcap = config_.attention_softcap,
                             .window = config_.Window(block.layer),
                             .precision = block.precision()};
  return backend_.Attention(q, k, v, shape, offsets, keys, mixed);
}

absl::StatusOr<MatrixRef> Forward::InputOf(const Block& block, Site site,
                                           const SequenceLayout& layout, MatrixRef x,
                                           const BlockObserver& observer, const Past* past) {
  const int64_t tokens = x.rows, head_dim = config_.head_dim;
  const auto observed = [&](Site which, MatrixRef input) -> absl::StatusOr<MatrixRef> {
    if (observer.input) RETURN_IF_ERROR(observer.input(which, input));
    return input;
  };
  MatrixRef normed = x;
  if (!config_.norms_behind) {
    ASSIGN_OR_RETURN(normed, Buffer("normed", tokens, x.cols));
  }
  if (site == Site::kAttnIn || site == Site::kOIn) {
    if (!config_.norms_behind) RETURN_IF_ERROR(Normalise(block.attn_norm, x, normed));
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
    RETURN_IF_ERROR(Attend(block, q, k, v, layout, past, mixed));
    return observed(Site::kOIn, mixed);
  }
  if (!config_.norms_behind) RETURN_IF_ERROR(Normalise(block.mlp_norm, x, normed));
  RETURN_IF_ERROR(observed(Site::kMlpIn, normed).status());
  if (site == Site::kMlpIn) return normed;
  ASSIGN_OR_RETURN(const MatrixRef up, Buffer("up", tokens, config_.intermediate_size));
  if (!arch_.gated()) {
    RETURN_IF_ERROR(Apply(block, LinearId::kUp, normed, up, observer));
    RETURN_IF_ERROR(backend_.Activate(config_.activation, up, {}));
    return observed(Site::kDownIn, up);
  }
  ASSIGN_OR_RETURN(const MatrixRef gate, Buffer("gate", tokens, config_.intermediate_size));
  RETURN_IF_ERROR(Apply(block, LinearId::kGate, normed, gate, observer));
  RETURN_IF_ERROR(Apply(block, LinearId::kUp, normed, up, observer));
  RETURN_IF_ERROR(backend_.Activate(config_.activation, gate, up));
  return observed(Site::kDownIn, gate);
}

absl::Status Forward::FinishHalf(const Block& block, Site site, MatrixRef input, MatrixRef x,
                                 const BlockObserver& observer) {
  const bool is_attention = site == Site::kOIn;
  ASSIGN_OR_RETURN(const MatrixRef y, Buffer("normed", x.rows, x.cols));
  RETURN_IF_ERROR(Apply(block, is_attention ? LinearId::kO : LinearId::kDown, input, y, observer));
  const Norm& post = is_attention ? block.attn_post_norm : block.mlp_post_norm;
  if (!post.empty()) RETURN_IF_ERROR(Normalise(post, y, y));
  RETURN_IF_ERROR(backend_.Add(1, y, x));
  if (!config_.norms_behind) return absl::OkStatus();
  return Normalise(is_attention ? block.attn_norm : block.mlp_norm, x, x);
}

absl::Status Forward::RunBlock(const Block& block, const SequenceLayout& layout, MatrixRef x,
                               const BlockObserver& observer) {
  RETURN_IF_ERROR(CheckLayout(layout));
  for (const Site site : {Site::kOIn, Site::kDownIn}) {
    ASSIGN_OR_RETURN(const MatrixRef input, SiteInput(block, site, layout, x, observer));
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
  if (!head.norm.empty()) {
    ASSIGN_OR_RETURN(const MatrixRef normed, Buffer("normed", x.rows, x.cols));
    RETURN_IF_ERROR(Normalise(head.norm, x, normed));
    x = normed;
  }
  if (!head.project.empty()) {
    ASSIGN_OR_RETURN(const MatrixRef narrow, Buffer("narrow", x.rows, head.project.rows()));
    RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, head.project, 0, narrow));
    x = narrow;
  }
  RETURN_IF_ERROR(backend_.Gemm(false, true, 1, x, head.w, 0, logits));
  return config_.logit_softcap > 0 ? backend_.SoftCap(logits, config_.logit_softcap)
                                   : absl::OkStatus();
}

absl::StatusOr<std::vector<double>> Forward::NegativeLogLikelihoods(
    const Head& head, std::span<const int64_t> offsets, std::span<const int32_t> ids, MatrixRef x) {
  // The last token of a sequence predicts nothing.
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  for (size_t s = 1; s < offsets.size(); ++s) {
    if (offsets[s] > offsets[s - 1]) targets[static_cast<size_t>(offsets[s] - 1)] = -1;
  }
  std::vector<double> sums(offsets.size() - 1, 0.0);
  size_t sequence = 0;
  for (int64_t begin = 0; begin < x.rows; begin += kLogitRows) {
    const int64_t rows = std::min(kLogitRows, x.rows - begin);
    ASSIGN_OR_RETURN(const MatrixRef logits, Buffer("logits", rows, head.w.rows()));
    RETURN_IF_ERROR(Logits(head, x.Rows(begin, rows), logits));
    for (int64_t i = 0; i < rows;) {
      while (offsets[sequence + 1] <= begin + i) ++sequence;
      const int64_t count = std::min(rows, offsets[sequence + 1] - begin) - i;
      ASSIGN_OR_RETURN(
          const double nll,
          backend_.CrossEntropy(logits.Rows(i, count),
                                std::span<const int32_t>(targets).subspan(
                                    static_cast<size_t>(begin + i), static_cast<size_t>(count))));
      sums[sequence] += nll;
      i += count;
    }
  }
  if (!std::all_of(sums.begin(), sums.end(), [](double sum) { return std::isfinite(sum); })) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "evaluate: a logit is not finite");
  }
  return sums;
}

}  // namespace svdllm
