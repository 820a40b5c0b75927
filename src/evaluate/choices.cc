#include "evaluate/choices.h"

#include <algorithm>
#include <cmath>

#include "evaluate/perplexity.h"
#include "model/residual_stream.h"

namespace svdllm {
namespace {

// Rows whose logits are held at once: a vocabulary of 128,000 takes 128 MB.
constexpr int64_t kLogitRows = 256;

double Flops(const Checkpoint& checkpoint, const ChoiceLayout& layout) {
  const Workload work = WorkloadOf(layout.sequences);
  const ModelConfig& config = checkpoint.config();
  return static_cast<double>(config.num_layers) *
             BlockFlops(config, checkpoint.arch(), work.tokens, work.positions) +
         HeadFlops(config, static_cast<double>(layout.rows.size()));
}

// The items from first on that are computed together.
ChoiceLayout NextGroup(const TaskData& data, const ModelConfig& config, size_t* first) {
  ChoiceLayout layout;
  const int64_t most = kGroupBytes / (4 * config.hidden_size);
  while (*first < data.choices.size() && layout.sequences.tokens() < most) {
    layout.Append(data.choices[(*first)++], config);
  }
  return layout;
}

// x: the residual stream behind the last block.
absl::StatusOr<std::vector<double>> Sums(const ChoiceLayout& layout, const Head& head, MatrixRef x,
                                         Forward& forward, Backend& backend,
                                         const Progress& progress) {
  std::vector<double> sums(layout.ends.size(), 0.0);
  const auto total = static_cast<int64_t>(layout.rows.size());
  ASSIGN_OR_RETURN(const Matrix rows,
                   backend.New(std::min(kLogitRows, total), x.cols, DType::kF32));
  ASSIGN_OR_RETURN(const Matrix logits, backend.New(rows.rows(), head.w.rows(), DType::kF32));
  const auto row = [&](int64_t i) { return layout.rows[static_cast<size_t>(i)]; };
  size_t choice = 0;
  for (int64_t begin = 0; begin < total;) {
    RETURN_IF_ERROR(progress.Check());
    const int64_t count = std::min(kLogitRows, total - begin);
    for (int64_t i = 0; i < count;) {  // rows that lie behind each other are copied together
      int64_t run = 1;
      while (i + run < count && row(begin + i + run) == row(begin + i) + run) ++run;
      RETURN_IF_ERROR(backend.Copy(x.Rows(row(begin + i), run), rows.ref().Rows(i, run)));
      i += run;
    }
    RETURN_IF_ERROR(forward.Logits(head, rows.ref().Rows(0, count), logits.ref().Rows(0, count)));
    for (int64_t i = 0; i < count;) {
      const int64_t end = std::min(count, static_cast<int64_t>(layout.ends[choice]) - begin);
      ASSIGN_OR_RETURN(const double loss,
                       backend.CrossEntropy(logits.ref().Rows(i, end - i),
                                            std::span<const int32_t>(layout.targets)
                                                .subspan(static_cast<size_t>(begin + i),
                                                         static_cast<size_t>(end - i))));
      sums[choice] -= loss;
      i = end;
      if (begin + end == static_cast<int64_t>(layout.ends[choice])) ++choice;
    }
    begin += count;
  }
  return sums;
}

}  // namespace

void ChoiceLayout::Append(const std::vector<EncodedChoice>& item, const ModelConfig& config) {
  size_t shared = item[0].ids.size();
  for (const EncodedChoice& choice : item) {
    shared = std::min(shared, SharedBeginning(item[0].ids, choice.ids));
  }
  for (const EncodedChoice& choice : item) {
    // Where frequencies depend on the length, a turned key serves one length only.
    if (!SameFrequencies(config, static_cast<int64_t>(shared),
                         static_cast<int64_t>(choice.ids.size()))) {
      shared = 0;
      break;
    }
  }
  int64_t parent = -1, parent_row = sequences.tokens();
  if (shared > 0) {
    parent = sequences.count();
    sequences.Append(std::span(item[0].ids).first(shared));
  }
  const size_t first = computed.size();
  for (size_t c = 0; c < item.size(); ++c) {
    const EncodedChoice& choice = item[c];
    const auto same = std::find_if(item.begin(), item.end(), [&](const EncodedChoice& other) {
      return other.ids == choice.ids && other.targets == choice.targets;
    });
    if (same != item.begin() + static_cast<std::ptrdiff_t>(c)) {
      computed.push_back(computed[first + static_cast<size_t>(same - item.begin())]);
      continue;
    }
    computed.push_back(ends.size());
    const int64_t own_row = sequences.tokens();
    if (choice.ids.size() > shared) {
      sequences.Append(std::span(choice.ids).subspan(shared), parent);
    }
    for (size_t i = 0; i < choice.targets.size(); ++i) {
      const size_t at = choice.ids.size() - choice.targets.size() + i;
      rows.push_back(at < shared ? parent_row + static_cast<int64_t>(at)
                                 : own_row + static_cast<int64_t>(at - shared));
    }
    targets.insert(targets.end(), choice.targets.begin(), choice.targets.end());
    ends.push_back(rows.size());
  }
}

absl::StatusOr<std::vector<std::vector<double>>> LogLikelihoods(const Checkpoint& checkpoint,
                                                                const TaskData& data,
                                                                Backend& backend,
                                                                Progress& progress,
                                                                int64_t* tokens) {
  const ModelConfig& config = checkpoint.config();
  Forward forward(config, checkpoint.arch(), backend);
  ASSIGN_OR_RETURN(const Head head, LoadHead(checkpoint, backend));
  BlockReader reader(checkpoint, backend, /*ahead=*/backend.OnDevice());
  std::vector<std::vector<double>> answers;
  *tokens = 0;
  for (size_t first = 0; first < data.choices.size();) {
    const size_t begin = first;
    const ChoiceLayout layout = NextGroup(data, config, &first);
    const std::string message = data.spec.name + ": questions " + std::to_string(begin + 1) + "–" +
                                std::to_string(first) + " of " +
                                std::to_string(data.choices.size());
    const std::vector<Batch> batches = MakeBatches(layout.sequences);
    const Workload work = WorkloadOf(layout.sequences);
    ASSIGN_OR_RETURN(const Matrix x, EmbedSequences(checkpoint, layout.sequences, backend));
    ResidualStream stream(x, backend);
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      ASSIGN_OR_RETURN(const Block block, reader.Take(layer));
      RETURN_IF_ERROR(
          AdvanceStream(forward, block, batches, stream, /*keep=*/true, {},
                        CheckAndRead([&] { return progress.Check(); }, reader, layer + 1)));
      RETURN_IF_ERROR(reader.ReadAhead(layer + 1));
      RETURN_IF_ERROR(
          progress.Step(BlockFlops(config, checkpoint.arch(), work.tokens, work.positions), "",
                        message + ", layer " + std::to_string(layer + 1) + "/" +
                            std::to_string(config.num_layers)));
    }
    ASSIGN_OR_RETURN(const std::vector<double> sums,
                     Sums(layout, head, x, forward, backend, progress));
    RETURN_IF_ERROR(
        progress.Step(HeadFlops(config, static_cast<double>(layout.rows.size())), "", message));
    auto next = layout.computed.begin();
    for (size_t i = begin; i < first; ++i) {
      std::vector<double>& answer = answers.emplace_back();
      for (size_t c = 0; c < data.choices[i].size(); ++c) answer.push_back(sums[*next++]);
      if (!std::all_of(answer.begin(), answer.end(),
                       [](double sum) { return std::isfinite(sum); })) {
        return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                         data.spec.name + ": question " + std::to_string(i) +
                             ": a progress-likelihood is not finite");
      }
    }
    *tokens += layout.sequences.tokens();
  }
  return answers;
}

double ChoiceFlops(const Checkpoint& checkpoint, const TaskData& data) {
  double flops = 0;
  for (size_t first = 0; first < data.choices.size();) {
    flops += Flops(checkpoint, NextGroup(data, checkpoint.config(), &first));
  }
  return flops;
}

}  // namespace svdllm
