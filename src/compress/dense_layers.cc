#include "compress/dense_layers.h"

#include <algorithm>
#include <string>

#include "compress/cost.h"
#include "compress/matrix.h"
#include "lowrank/method.h"

namespace svdllm {
namespace {

// Of a group's linear layers those for which a sink wants a rank.
std::vector<size_t> Wanted(const std::vector<size_t>& group, std::span<const FactorSink> sinks) {
  std::vector<size_t> wanted;
  for (const size_t i : group) {
    if (std::any_of(sinks.begin(), sinks.end(),
                    [i](const FactorSink& sink) { return sink.ranks[i] > 0; })) {
      wanted.push_back(i);
    }
  }
  return wanted;
}

}  // namespace

DenseLayers::DenseLayers(const CompressRun& run, LayerJournal& journal)
    : run_(run),
      journal_(journal),
      refits_(RowOf(run.spec.method).prefix == Prefix::kRefit),
      forward_(run.checkpoint.config(), run.checkpoint.arch(), run.backend),
      pass_(run) {}

absl::Status DenseLayers::Start() {
  ASSIGN_OR_RETURN(ResidualStream dense, journal_.DenseStream());
  const bool restored = !dense.empty();
  RETURN_IF_ERROR(pass_.Start(std::move(dense)));
  for (size_t s = 0; s < journal_.sinks().size() && refits_; ++s) {
    ASSIGN_OR_RETURN(ResidualStream compressed,
                     restored ? journal_.CompressedStream(s) : pass_.stream().Copy());
    compressed_.push_back(std::move(compressed));
  }
  return absl::OkStatus();
}

absl::Status DenseLayers::AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                            BlockStatistics* statistics) {
  run_.progress.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(
      forward_, block, pass_.batches(), compressed_[stream], /*keep=*/!observe_only,
      statistics != nullptr ? statistics->Observer(block.precision()) : BlockObserver{},
      [this] { return run_.progress.Check(); }));
  const Workload work = WorkloadOf(run_.calibration);
  return run_.progress.Step(
      BlockFlops(run_.checkpoint.config(), run_.checkpoint.arch(), work.tokens, work.positions));
}

absl::StatusOr<std::vector<DenseLayers::Half>> DenseLayers::StartHalves(const Calibrated& layer) {
  std::vector<Half> halves;
  for (size_t s = 0; s < journal_.sinks().size(); ++s) {
    Half& half = halves.emplace_back(Half{layer.block, {}});  // shares what stays
    // In the first block both models see the same inputs.
    if (!refits_ || layer.block.layer == 0) continue;
    ASSIGN_OR_RETURN(half.own, pass_.NewStatistics());
    RETURN_IF_ERROR(AdvanceCompressed(s, layer.block, /*observe_only=*/true, &*half.own));
    RETURN_IF_ERROR(
        half.own->Finish("layer " + std::to_string(layer.block.layer) + " behind the compressed",
                         run_.spec.asvd_alpha));
  }
  return halves;
}

absl::Status DenseLayers::CompressLinear(const Calibrated& layer, size_t linear,
                                         const Decomposition* decomposition, size_t sink,
                                         Half& half) {
  const FactorSink& to = journal_.sinks()[sink];
  std::vector<MatrixReport>& reports = journal_.reports()[sink];
  const int64_t rank = to.ranks[linear];
  if (rank == 0) {
    reports.push_back(DenseReport(run_.linears[linear]));
    return SkipWork(run_, kFactorShare);
  }
  const LinearId id = run_.linears[linear].id;
  const BlockStatistics& judge = half.own ? *half.own : layer.statistics;
  const MatrixJob job{linear, rank, *decomposition, judge.MetricOf(id), judge.SampleOf(id)};
  ASSIGN_OR_RETURN(MatrixReport report, CompressMatrix(run_, job, to, half.block.linear(id)));
  reports.push_back(std::move(report));
  return absl::OkStatus();
}

absl::Status DenseLayers::FinishLayer(Calibrated& layer) {
  const std::span<const FactorSink> sinks = journal_.sinks();
  const int64_t number = layer.block.layer;
  ASSIGN_OR_RETURN(std::vector<Half> halves, StartHalves(layer));
  for (const std::vector<size_t>& group : DecompositionGroups(run_, number)) {
    const std::vector<size_t> wanted = Wanted(group, sinks);
    if (!layer.pending) {
      ASSIGN_OR_RETURN(layer.pending, StartDecompositions(run_, layer.block, layer.statistics,
                                                          /*values_only=*/false, wanted));
    }
    run_.progress.Enter("factorise");
    absl::StatusOr<std::vector<Decomposition>> decompositions = layer.pending->Finish();
    layer.pending.reset();
    if (!decompositions.ok()) return LayerError(decompositions.status(), number);
    RETURN_IF_ERROR(SkipWork(run_, static_cast<double>(group.size() - wanted.size())));
    size_t next = 0;
    for (const size_t i : group) {
      const bool decomposed = next < wanted.size() && wanted[next] == i;
      const Decomposition* d = decomposed ? &(*decompositions)[next++] : nullptr;
      for (size_t s = 0; s < sinks.size(); ++s) {
        RETURN_IF_ERROR(CompressLinear(layer, i, d, s, halves[s]));
      }
    }
  }
  const bool last = number + 1 == run_.checkpoint.config().num_layers;
  for (size_t s = 0; s < sinks.size() && refits_ && !last; ++s) {
    RETURN_IF_ERROR(AdvanceCompressed(s, halves[s].block, /*observe_only=*/false, nullptr));
    RETURN_IF_ERROR(journal_.KeepCompressed(number, s, compressed_[s]));
  }
  return journal_.LayerDone(number);
}

absl::Status DenseLayers::CompressLayer(int64_t layer) {
  RETURN_IF_ERROR(pass_.Calibrate(layer));
  // Now: with overlap the streams are another layer's when this one is finished.
  RETURN_IF_ERROR(journal_.KeepDense(layer, pass_.stream()));
  Calibrated now{pass_.block(), pass_.TakeStatistics(), {}};
  if (!run_.placement.overlap) return FinishLayer(now);
  // While this layer's eigenproblems are solved, the one before is factorised and written, and then
  // the next one calibrated.
  const std::vector<size_t> wanted = Wanted(DecompositionGroups(run_, layer)[0], journal_.sinks());
  ASSIGN_OR_RETURN(now.pending, StartDecompositions(run_, now.block, now.statistics,
                                                    /*values_only=*/false, wanted));
  if (previous_) RETURN_IF_ERROR(FinishLayer(*previous_));
  previous_ = std::move(now);
  if (layer + 1 < run_.checkpoint.config().num_layers) return absl::OkStatus();
  return FinishLayer(*previous_);
}

}  // namespace svdllm
