#include "evaluate/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "model/residual_stream.h"
#include "tasks/scoring.h"

namespace svdllm {
namespace {

Sequences Slice(const Sequences& all, int64_t first, int64_t last) {
  Sequences part;
  for (int64_t s = first; s < last; ++s) {
    const size_t begin = static_cast<size_t>(all.offsets[static_cast<size_t>(s)]);
    const size_t end = static_cast<size_t>(all.offsets[static_cast<size_t>(s) + 1]);
    part.Append(std::span<const int32_t>(all.ids).subspan(begin, end - begin));
  }
  return part;
}

// FNV-1a over ids and lengths.
uint64_t HashOf(const Sequences& windows) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  for (const int32_t id : windows.ids) add(static_cast<uint64_t>(id));
  for (const int64_t offset : windows.offsets) add(static_cast<uint64_t>(offset));
  return hash;
}

}  // namespace

Workload WorkloadOf(const std::vector<TextWindows>& texts) {
  Workload all;
  double products = 0;  // tokens · positions, which is what attention costs
  for (const TextWindows& text : texts) {
    const Workload one = WorkloadOf(text.windows);
    all.tokens += one.tokens;
    products += one.tokens * one.positions;
  }
  if (all.tokens > 0) all.positions = products / all.tokens;
  return all;
}

absl::StatusOr<PerplexityResult> MeasurePerplexity(const Checkpoint& checkpoint,
                                                   const TextWindows& data, Backend& backend,
                                                   Progress& progress, WindowLosses* losses) {
  const auto start = std::chrono::steady_clock::now();
  const ModelConfig& config = checkpoint.config();
  const Sequences& windows = data.windows;
  Forward forward(config, checkpoint.arch(), backend);
  ASSIGN_OR_RETURN(const Head head, LoadHead(checkpoint, backend));
  BlockReader reader(checkpoint, backend, /*ahead=*/backend.OnDevice());
  *losses = {};
  losses->ids_hash = HashOf(windows);
  for (int64_t first = 0; first < windows.count();) {
    int64_t last = first + 1;
    const auto bytes = [&](int64_t end) {
      return 4 * config.hidden_size *
             (windows.offsets[static_cast<size_t>(end)] -
              windows.offsets[static_cast<size_t>(first)]);
    };
    while (last < windows.count() && bytes(last + 1) <= kGroupBytes) ++last;
    const Sequences group = Slice(windows, first, last);
    const std::vector<Batch> batches = MakeBatches(group);
    const Workload work = WorkloadOf(group);
    ASSIGN_OR_RETURN(ResidualStream x,
                     ResidualStream::Embed(checkpoint, group, /*on_host=*/false, backend));
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      ASSIGN_OR_RETURN(const Block block, reader.Take(layer));
      RETURN_IF_ERROR(
          AdvanceStream(forward, block, batches, x, /*keep=*/true, {},
                        CheckAndRead([&] { return progress.Check(); }, reader, layer + 1)));
      RETURN_IF_ERROR(reader.ReadAhead(layer + 1));
      RETURN_IF_ERROR(progress.Step(
          BlockFlops(config, checkpoint.arch(), work.tokens, work.positions), "",
          data.name + ": windows " + std::to_string(first + 1) + "–" + std::to_string(last) +
              " of " + std::to_string(windows.count()) + ", layer " + std::to_string(layer + 1) +
              "/" + std::to_string(config.num_layers)));
    }
    for (const Batch& batch : batches) {
      ASSIGN_OR_RETURN(const MatrixRef rows, x.Rows(batch));
      ASSIGN_OR_RETURN(const std::vector<double> sums,
                       forward.NegativeLogLikelihoods(head, batch.offsets,
                                                      std::span<const int32_t>(group.ids).subspan(
                                                          static_cast<size_t>(batch.first_row),
                                                          static_cast<size_t>(batch.rows)),
                                                      rows));
      losses->nll.insert(losses->nll.end(), sums.begin(), sums.end());
      RETURN_IF_ERROR(progress.Check());
    }
    RETURN_IF_ERROR(progress.Step(HeadFlops(config, work.tokens)));
    first = last;
  }
  for (int64_t w = 0; w < windows.count(); ++w) {
    losses->predicted.push_back(windows.length(w) - 1);
  }
  const MeanAndError mean = RatioOf(losses->nll, losses->predicted);
  PerplexityResult result;
  result.name = data.name;
  result.held_out = data.held_out;
  result.seq_len = data.seq_len;
  result.window_start = data.window_start;
  result.windows = windows.count();
  result.predicted_tokens = windows.tokens() - windows.count();
  result.leftover_tokens = data.leftover_tokens;
  result.perplexity = std::exp(mean.mean);
  result.log_std_error = mean.std_error;
  result.seq_len = data.seq_len;
  result.data = data.data;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens_per_second = static_cast<double>(windows.tokens()) / result.seconds;
  return result;
}

}  // namespace svdllm
