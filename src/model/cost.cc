#include "model/cost.h"

#include <algorithm>

namespace svdllm {

double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    flops += 2 * Real(shape.rows * shape.cols) * tokens;
  }
  return flops + 4 * tokens * positions * Real(config.num_heads * config.head_dim);
}

double HeadFlops(const ModelConfig& config, double tokens) {
  const int64_t projection =
      config.embedding_size == config.hidden_size ? 0 : config.embedding_size * config.hidden_size;
  return 2 * Real(config.vocab_size * config.embedding_size + projection) * tokens;
}

int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens) {
  return 4 * 2 * config.num_layers * config.num_kv_heads * config.head_dim * tokens;
}

double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  return Real(config.num_layers) *
             BlockFlops(config, checkpoint.arch(), windows.tokens, windows.positions) +
         HeadFlops(config, windows.tokens);
}

Workload WorkloadOf(const Sequences& sequences) {
  Workload work{static_cast<double>(sequences.tokens()), 0};
  for (int64_t s = 0; s < sequences.count(); ++s) {
    const auto length = static_cast<double>(sequences.length(s));
    work.positions += length * (static_cast<double>(sequences.first_position(s)) + length / 2);
  }
  if (work.tokens > 0) work.positions /= work.tokens;
  return work;
}

}  // namespace svdllm
