// Generating text. A whole model is in memory with a cache of keys and values, and every sequence
// gets one token at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/random.h"
#include "model/forward.h"

namespace svdllm {

// Not thread-safe. It must not outlive the checkpoint or the backend.
class Decoder {
 public:
  // Reads every weight. Where `check` is given, it is asked in front of every block, here and in
  // all later calls. Its error ends the call.
  using Check = std::function<absl::Status()>;
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const Checkpoint& checkpoint,
                                                       Backend& backend, Check check = {});

  // Starts afresh with these prompts. They lie one after the other in ids, and offsets (first 0,
  // last ids.size()) say where each begins: with offsets {0, 3, 8}, ids[3] to ids[7] are the second
  // prompt. None is empty. capacity is the most tokens that a sequence may have. Returns the logits
  // F32 [sequences, vocab] behind each prompt, valid until the next call.
  // Errors: INVALID_ARGUMENT for ids outside the vocabulary, empty prompts and prompts above the
  // capacity; UNIMPLEMENTED for a capacity at which rotary scaling would change the keys that are
  // in the cache.
  // `shared` is what every prompt begins with, in front of ids. It counts within the capacity and
  // is computed once, also over several calls with the same capacity.
  absl::StatusOr<MatrixRef> Prefill(std::span<const int32_t> ids, std::span<const int64_t> offsets,
                                    int64_t capacity, std::span<const int32_t> shared = {});
  // Appends ids[s] to every sequence s and returns the logits behind it. OUT_OF_RANGE where a
  // sequence is at its capacity, INVALID_ARGUMENT where ids does not have one id per sequence.
  absl::StatusOr<MatrixRef> Step(std::span<const int32_t> ids);
  // Goes on with these sequences only, given in ascending order. They are renumbered 0, 1 and so
  // on.
  absl::Status Keep(std::span<const size_t> sequences);

  // The number of tokens of each sequence so far.
  const std::vector<int64_t>& lengths() const { return lengths_; }
  Backend& backend() { return backend_; }

 private:
  Decoder(const Checkpoint& checkpoint, Backend& backend, Check check)
      : checkpoint_(checkpoint),
        backend_(backend),
        check_(std::move(check)),
        forward_(checkpoint.config(), checkpoint.arch(), backend) {}
  absl::StatusOr<MatrixRef> Run(std::span<const int32_t> ids, std::span<const int64_t> offsets);
  absl::Status RunBlocks(std::span<const int32_t> ids, std::span<const int64_t> offsets);
  // Makes caches for `sequences` sequences. The first `rows` rows of sequence i come from sequence
  // from[i] of the caches as they were.
  absl::Status ResizeCaches(int64_t sequences, std::span<const size_t> from, int64_t rows);

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const Check check_;
  Forward forward_;
  std::vector<Block> blocks_;
  Head head_;
  std::vector<KvCache> caches_;  // one per block
  int64_t capacity_ = 0;
  std::vector<int64_t> lengths_;
  std::vector<int32_t> shared_;  // what the caches' first sequence begins with
  Matrix x_, last_, logits_;
};

// Returns the most likely token, or the first of several equal ones.
int32_t GreedyToken(std::span<const float> logits);
// Draws a token from softmax(logits). It is the same for the same state of random. All logits are
// finite.
int32_t SampleToken(std::span<const float> logits, Random& random);

// Continues every prompt (given as for Prefill) by count tokens. `choose` returns the next token of
// a sequence for its logits [vocab], or an error that ends the whole call. In the result,
// tokens[1][4] is the fifth new token of the second sequence. NUMERICAL_FAILURE where a logit is
// not finite.
using ChooseToken =
    std::function<absl::StatusOr<int32_t>(size_t sequence, std::span<const float> logits)>;
absl::StatusOr<std::vector<std::vector<int32_t>>> Generate(Decoder& decoder,
                                                           std::span<const int32_t> ids,
                                                           std::span<const int64_t> offsets,
                                                           int64_t count,
                                                           const ChooseToken& choose);

}  // namespace svdllm
