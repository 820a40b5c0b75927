#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace svdllm {
namespace {

// memory itself where it has that shape already.
absl::Status Reshape(int64_t rows, int64_t cols, Backend& backend, Matrix& memory) {
  if (memory.rows() == rows && memory.cols() == cols) return absl::OkStatus();
  memory = Matrix();  // give the old one back first
  ASSIGN_OR_RETURN(memory, backend.New(rows, cols, DType::kF32));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Load(const Checkpoint& checkpoint,
                                                       Backend& backend, Check check) {
  std::unique_ptr<Decoder> decoder(new Decoder(checkpoint, backend, std::move(check)));
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    if (decoder->check_) RETURN_IF_ERROR(decoder->check_());
    ASSIGN_OR_RETURN(Block block, LoadBlock(checkpoint, layer, backend));
    decoder->blocks_.push_back(std::move(block));
  }
  ASSIGN_OR_RETURN(decoder->head_, LoadHead(checkpoint, backend));
  return decoder;
}

absl::Status Decoder::ResizeCaches(int64_t sequences, std::span<const size_t> from, int64_t rows) {
  const ModelConfig& config = checkpoint_.config();
  const int64_t cols = config.num_kv_heads * config.head_dim;
  caches_.resize(blocks_.size());
  for (KvCache& cache : caches_) {
    for (Matrix* const memory : {&cache.k, &cache.v}) {
      if (memory->rows() == sequences * capacity_) continue;
      const Matrix before = std::move(*memory);
      ASSIGN_OR_RETURN(*memory, backend_.New(sequences * capacity_, cols, DType::kF32));
      for (size_t i = 0; i < from.size(); ++i) {
        RETURN_IF_ERROR(
            backend_.Copy(before.ref().Rows(static_cast<int64_t>(from[i]) * capacity_, rows),
                          memory->ref().Rows(static_cast<int64_t>(i) * capacity_, rows)));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<MatrixRef> Decoder::Prefill(std::span<const int32_t> ids,
                                           std::span<const int64_t> offsets, int64_t capacity,
                                           std::span<const int32_t> shared) {
  const ModelConfig& config = checkpoint_.config();
  const auto count = static_cast<int64_t>(offsets.size()) - 1,
             beginning = static_cast<int64_t>(shared.size());
  for (size_t s = 0; s + 1 < offsets.size(); ++s) {
    const int64_t own = offsets[s + 1] - offsets[s], length = beginning + own;
    if (own < 1 || length > capacity) {
      return absl::InvalidArgumentError("prompt " + std::to_string(s) + " has " +
                                        std::to_string(own) + " tokens, not between 1 and " +
                                        std::to_string(capacity - beginning));
    }
    if (!SameFrequencies(config, length, capacity)) {
      return absl::UnimplementedError("rope_scaling: up to " + std::to_string(capacity) +
                                      " tokens cannot be generated from a cache of the " +
                                      std::to_string(length) + " of prompt " + std::to_string(s));
    }
  }
  const bool known = !shared.empty() && capacity == capacity_ && !caches_.empty() &&
                     std::equal(shared.begin(), shared.end(), shared_.begin(), shared_.end());
  shared_.clear();  // until it is there
  if (capacity != capacity_) caches_.clear();
  capacity_ = capacity;
  const size_t first[] = {0};
  RETURN_IF_ERROR(ResizeCaches(count, std::span(first).first(known ? 1 : 0), beginning));
  lengths_.assign(static_cast<size_t>(count), 0);
  if (!shared.empty()) {
    if (!known) {
      std::vector<int64_t> ends(static_cast<size_t>(count) + 1, beginning);
      ends[0] = 0;  // the first sequence alone
      RETURN_IF_ERROR(RunBlocks(shared, ends));
    }
    for (const KvCache& cache : caches_) {
      for (const MatrixRef memory : {cache.k.ref(), cache.v.ref()}) {
        for (int64_t s = 1; s < count; ++s) {
          RETURN_IF_ERROR(
              backend_.Copy(memory.Rows(0, beginning), memory.Rows(s * capacity, beginning)));
        }
      }
    }
    lengths_.assign(static_cast<size_t>(count), beginning);
    shared_.assign(shared.begin(), shared.end());
  }
  return Run(ids, offsets);
}

absl::Status Decoder::Keep(std::span<const size_t> sequences) {
  int64_t longest = 0;
  std::vector<int64_t> lengths;
  for (const size_t s : sequences) {
    if (s >= lengths_.size() || (!lengths.empty() && s <= sequences[lengths.size() - 1])) {
      return absl::InvalidArgumentError("Keep: sequence " + std::to_string(s) + " of " +
                                        std::to_string(lengths_.size()) + " is out of order");
    }
    lengths.push_back(lengths_[s]);
    longest = std::max(longest, lengths_[s]);
  }
  RETURN_IF_ERROR(ResizeCaches(static_cast<int64_t>(sequences.size()), sequences, longest));
  lengths_ = std::move(lengths);
  return absl::OkStatus();
}

absl::StatusOr<MatrixRef> Decoder::Step(std::span<const int32_t> ids) {
  if (ids.empty() || ids.size() != lengths_.size()) {
    return absl::InvalidArgumentError(std::to_string(ids.size()) + " tokens for " +
                                      std::to_string(lengths_.size()) + " sequences");
  }
  if (*std::max_element(lengths_.begin(), lengths_.end()) >= capacity_) {
    return absl::OutOfRangeError("a sequence is at its capacity of " + std::to_string(capacity_) +
                                 " tokens");
  }
  std::vector<int64_t> offsets(ids.size() + 1);
  for (size_t s = 0; s < offsets.size(); ++s) offsets[s] = static_cast<int64_t>(s);
  return Run(ids, offsets);
}

absl::Status Decoder::RunBlocks(std::span<const int32_t> ids, std::span<const int64_t> offsets) {
  const int64_t tokens = static_cast<int64_t>(ids.size());
  RETURN_IF_ERROR(Reshape(tokens, checkpoint_.config().hidden_size, backend_, x_));
  RETURN_IF_ERROR(Embed(checkpoint_, ids, Positions(offsets, lengths_), backend_, x_));
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    if (check_) RETURN_IF_ERROR(check_());
    RETURN_IF_ERROR(forward_.RunBlock(blocks_[layer], offsets, x_, caches_[layer], lengths_));
  }
  return absl::OkStatus();
}

absl::StatusOr<MatrixRef> Decoder::Run(std::span<const int32_t> ids,
                                       std::span<const int64_t> offsets) {
  const int64_t sequences = static_cast<int64_t>(lengths_.size());
  RETURN_IF_ERROR(RunBlocks(ids, offsets));
  for (size_t s = 0; s < lengths_.size(); ++s) lengths_[s] += offsets[s + 1] - offsets[s];
  RETURN_IF_ERROR(Reshape(sequences, head_.w.rows(), backend_, logits_));
  if (x_.rows() == sequences) {
    RETURN_IF_ERROR(forward_.Logits(head_, x_, logits_));
    return logits_.ref();
  }
  RETURN_IF_ERROR(Reshape(sequences, x_.cols(), backend_, last_));
  for (int64_t s = 0; s < sequences; ++s) {
    RETURN_IF_ERROR(backend_.Copy(x_.ref().Rows(offsets[static_cast<size_t>(s) + 1] - 1, 1),
                                  last_.ref().Rows(s, 1)));
  }
  RETURN_IF_ERROR(forward_.Logits(head_, last_, logits_));
  return logits_.ref();
}

int32_t GreedyToken(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

int32_t SampleToken(std::span<const float> logits, Random& random) {
  const float max = *std::max_element(logits.begin(), logits.end());
  std::vector<float> weights(logits.size());
  double total = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp(logits[i] - max);
    total += static_cast<double>(weights[i]);
  }
  double left = random.Uniform() * total;
  for (size_t i = 0; i < logits.size(); ++i) {
    left -= static_cast<double>(weights[i]);
    if (left < 0) return static_cast<int32_t>(i);
  }
  return GreedyToken(logits);  // the rounding of the sums has left a rest
}

absl::StatusOr<std::vector<std::vector<int32_t>>> Generate(Decoder& decoder,
                                                           std::span<const int32_t> ids,
                                                           std::span<const int64_t> offsets,
                                                           int64_t count,
                                                           const ChooseToken& choose) {
  const size_t sequences = offsets.size() - 1;
  std::vector<std::vector<int32_t>> generated(sequences);
  if (count < 1 || sequences == 0) return generated;
  int64_t longest = 0;
  for (size_t s = 0; s < sequences; ++s) longest = std::max(longest, offsets[s + 1] - offsets[s]);
  // The last token is chosen, not run.
  ASSIGN_OR_RETURN(MatrixRef logits, decoder.Prefill(ids, offsets, longest + count - 1));
  std::vector<float> host(static_cast<size_t>(logits.size()));
  const size_t vocab = static_cast<size_t>(logits.cols);
  std::vector<int32_t> next(sequences);
  for (int64_t step = 0;; ++step) {
    ASSIGN_OR_RETURN(const bool finite, decoder.backend().AllFinite(logits));
    if (!finite) {
      return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                       "generate: a logit is not finite");
    }
    RETURN_IF_ERROR(decoder.backend().Download(logits, host.data(), DType::kF32));
    for (size_t s = 0; s < sequences; ++s) {
      ASSIGN_OR_RETURN(next[s], choose(s, std::span<const float>(host).subspan(s * vocab, vocab)));
      generated[s].push_back(next[s]);
    }
    if (step + 1 == count) return generated;
    ASSIGN_OR_RETURN(logits, decoder.Step(next));
  }
}

}  // namespace svdllm
