// Generating text: a whole model in memory, with a cache of keys and values, a token of every
// sequence at a time.
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

// Not thread-safe; must not outlive the checkpoint or the backend.
class Decoder {
 public:
  // Reads every weight. check, where given, is asked in front of every block, here and in all
  // calls to come; its error ends the call.
  using Check = std::function<absl::Status()>;
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const Checkpoint& checkpoint,
                                                       Backend& backend, Check check = {});

  // Starts afresh with these prompts, one after the other in ids; offsets (first 0, last
  // ids.size()) say where each begins, and none is empty. capacity: as long as a sequence may
  // become. Returns the logits F32 [sequences, vocab] behind each prompt, valid until the next
  // call. INVALID_ARGUMENT for ids outside the vocabulary, empty prompts and prompts above the
  // capacity; UNIMPLEMENTED for a capacity at which rotary scaling would change the keys that are
  // in the cache.
  // shared: what every prompt begins with, in front of ids and counted within the capacity; it is
  // computed once, also over several calls with the same capacity.
  absl::StatusOr<MatrixRef> Prefill(std::span<const int32_t> ids, std::span<const int64_t> offsets,
                                    int64_t capacity, std::span<const int32_t> shared = {});
  // Appends one token to every sequence; returns the logits behind it. OUT_OF_RANGE where a
  // sequence is at its capacity, INVALID_ARGUMENT where ids are not one a sequence.
  absl::StatusOr<MatrixRef> Step(std::span<const int32_t> ids);
  // Goes on with these sequences only, ascending; they take the numbers 0, 1 and so on.
  absl::Status Keep(std::span<const size_t> sequences);

  // Tokens of each sequence so far.
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
  // Caches of so many sequences. The first rows of sequence i come from sequence from[i] of the
  // caches as they were.
  absl::Status ResizeCaches(int64_t sequences, std::span<const size_t> from, int64_t rows);

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const Check check_;
  Forward forward_;
  std::vector<Block> blocks_;
  Head head_;
  std::vector<KvCache> caches_;  // one a block
  int64_t capacity_ = 0;
  std::vector<int64_t> lengths_;
  std::vector<int32_t> shared_;  // what the caches' first sequence begins with
  Matrix x_, last_, logits_;
};

// The most likely token; the first of several.
int32_t GreedyToken(std::span<const float> logits);
// A token drawn from softmax(logits): the same from the same state of random. logits are finite.
int32_t SampleToken(std::span<const float> logits, Random& random);

// Continues every prompt (as for Prefill) by count tokens: choose gives the next token of a
// sequence for its logits [vocab], or the error that ends it all. Returns the new tokens, sequence
// by sequence. NUMERICAL_FAILURE where a logit is not finite.
using ChooseToken =
    std::function<absl::StatusOr<int32_t>(size_t sequence, std::span<const float> logits)>;
absl::StatusOr<std::vector<std::vector<int32_t>>> Generate(Decoder& decoder,
                                                           std::span<const int32_t> ids,
                                                           std::span<const int64_t> offsets,
                                                           int64_t count,
                                                           const ChooseToken& choose);

}  // namespace svdllm
