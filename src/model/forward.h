// The forward pass, a block at a time, over many sequences at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/rope.h"
#include "model/sequence_layout.h"

namespace svdllm {

// What watches a block while it runs. Either function may be empty. The views are valid during the
// call only.
struct BlockObserver {
  // Called with the input of every linear that reads this site: F32 [tokens, in].
  std::function<absl::Status(Site site, MatrixRef x)> input;
  // Called with W x of this linear, without its bias: F32 [tokens, out].
  std::function<absl::Status(LinearId id, MatrixRef y)> output;
};

// The keys and values that a block has seen of a batch's sequences. k and v are F32
// [sequences·capacity, kv_heads·head_dim], and sequence s begins at row s·capacity: with a capacity
// of 64, row 130 holds the third token of sequence 2.
struct KvCache {
  Matrix k, v;
};

// Runs blocks of one model and keeps its buffers between calls. Not thread-safe. It must not
// outlive the backend.
class Forward {
 public:
  Forward(const ModelConfig& config, const Architecture& arch, Backend& backend)
      : config_(config), arch_(arch), backend_(backend) {}

  // Advances x, the residual stream F32 [tokens, hidden], in place. Positions are counted from a
  // sequence's own start, or on from the end of its parent. UNIMPLEMENTED where a sequence needs
  // other rotary frequencies than its parent, whose keys are turned already.
  absl::Status RunBlock(const Block& block, const SequenceLayout& layout, MatrixRef x,
                        const BlockObserver& observer = {});

  // RunBlock for sequences that go on. The cache holds lengths[s] tokens of sequence s, and x holds
  // the next ones, any number of each. They are added to the cache; the caller counts them. Rotary
  // frequencies are those of sequences of the cache's capacity.
  absl::Status RunBlock(const Block& block, std::span<const int64_t> offsets, MatrixRef x,
                        const KvCache& cache, std::span<const int64_t> lengths);

  // RunBlock in halves, for callers that change a half's linears between its steps. SiteInput
  // returns the input of a site's linears. For kAttnIn and kOIn, x is the residual stream in front
  // of the block; for kMlpIn and kDownIn, the one behind attention. x stays as it is. The view is
  // valid until the next call.
  absl::StatusOr<MatrixRef> SiteInput(const Block& block, Site site, const SequenceLayout& layout,
                                      MatrixRef x, const BlockObserver& observer = {}) {
    return InputOf(block, site, layout, x, observer, nullptr);
  }
  // Adds a half to x, given the input of the linear that ends it: site is kOIn or kDownIn.
  absl::Status FinishHalf(const Block& block, Site site, MatrixRef input, MatrixRef x,
                          const BlockObserver& observer = {});

  // Returns for every sequence Σ −log p(ids[t + 1] | ids[..t]), natural logarithm, from the
  // residual stream x behind the last block. A sequence of length n has n − 1 predictions.
  // NUMERICAL_FAILURE where a logit is not finite.
  absl::StatusOr<std::vector<double>> NegativeLogLikelihoods(const Head& head,
                                                             std::span<const int64_t> offsets,
                                                             std::span<const int32_t> ids,
                                                             MatrixRef x);
  // Gives the buffers back. What SiteInput returned is no longer valid then.
  void ReleaseBuffers() { buffers_.clear(); }
  // Computes the logits F32 [tokens, vocab] of rows of x.
  absl::Status Logits(const Head& head, MatrixRef x, MatrixRef logits);

 private:
  struct Past {
    const KvCache& cache;
    std::span<const int64_t> lengths;
  };
  absl::StatusOr<MatrixRef> InputOf(const Block& block, Site site, const SequenceLayout& layout,
                                    MatrixRef x, const BlockObserver& observer, const Past* past);
  // Turns q and k by their positions and mixes v: attention itself. Without a cache, past is null.
  absl::Status Attend(const Block& block, MatrixRef q, MatrixRef k, MatrixRef v,
                      const SequenceLayout& layout, const Past* past, MatrixRef mixed);
  // Returns the parents' rows of x in front of their sequences' own rows, sequence by sequence.
  absl::StatusOr<MatrixRef> BehindParents(const char* buffer, MatrixRef x,
                                          const SequenceLayout& layout,
                                          std::span<const KeyRange> ranges);
  absl::Status Apply(const Block& block, LinearId id, MatrixRef x, MatrixRef y,
                     const BlockObserver& observer);
  // `first` has each sequence's first position, `lengths` its length with what is in front of it.
  absl::Status ApplyRope(int64_t layer, int64_t heads, std::span<const int64_t> offsets,
                         std::span<const int64_t> first, std::span<const int64_t> lengths,
                         MatrixRef x);
  absl::Status Normalise(const Norm& norm, MatrixRef x, MatrixRef y);
  // Returns memory that is kept under a name for the next call. It holds whatever was there.
  absl::StatusOr<MatrixRef> Buffer(const char* name, int64_t rows, int64_t cols);

  const ModelConfig& config_;
  const Architecture& arch_;
  Backend& backend_;
  RopeCache rope_, local_rope_;
  std::map<std::string, Matrix> buffers_;
};

}  // namespace svdllm
