#include "model/sequences.h"

#include <algorithm>

namespace svdllm {

void Sequences::Append(std::span<const int32_t> sequence, int64_t parent) {
  if (parent >= 0 || !parents.empty()) {
    parents.resize(static_cast<size_t>(count()), -1);
    parents.push_back(parent);
  }
  ids.insert(ids.end(), sequence.begin(), sequence.end());
  offsets.push_back(static_cast<int64_t>(ids.size()));
}

std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens) {
  std::vector<Batch> batches;
  int64_t first = 0;  // sequence of the last batch
  for (int64_t s = 0; s < sequences.count();) {
    int64_t end = s + 1;
    while (end < sequences.count() && sequences.parent(end) >= 0) ++end;
    const int64_t begin = sequences.offsets[static_cast<size_t>(s)];
    const int64_t rows = sequences.offsets[static_cast<size_t>(end)] - begin;
    if (batches.empty() || batches.back().rows + rows > max_tokens) {
      batches.push_back({begin, 0, {0}, {}});
      first = s;
    }
    Batch& batch = batches.back();
    for (; s < end; ++s) {
      batch.rows += sequences.length(s);
      batch.offsets.push_back(batch.rows);
      if (sequences.parents.empty()) continue;
      batch.parents.push_back(sequences.parent(s) < 0 ? -1 : sequences.parent(s) - first);
    }
  }
  return batches;
}

int64_t LargestBatch(const std::vector<Batch>& batches) {
  int64_t rows = 0;
  for (const Batch& batch : batches) rows = std::max(rows, batch.rows);
  return rows;
}

}  // namespace svdllm
