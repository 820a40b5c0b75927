#include "compress/layers.h"

#include "compress/anchored_layers.h"
#include "compress/cost.h"
#include "compress/dense_layers.h"
#include "compress/layer_journal.h"

namespace svdllm {
namespace {

template <typename Layers>
absl::StatusOr<MatrixReports> ForLayers(const CompressRun& run, std::span<const FactorSink> sinks) {
  const int64_t layers_total = run.checkpoint.config().num_layers;
  const double work =
      WayOf(run.spec.method).flops(run.spec, run.checkpoint, WorkloadOf(run.calibration));
  LayerJournal journal(run, sinks, work / static_cast<double>(layers_total));
  ASSIGN_OR_RETURN(const int64_t done, journal.Restore());
  if (done == layers_total) return std::move(journal.reports());
  Layers layers(run, journal);
  RETURN_IF_ERROR(layers.Start());
  for (int64_t layer = done; layer < layers_total; ++layer) {
    RETURN_IF_ERROR(layers.CompressLayer(layer));
  }
  return std::move(journal.reports());
}

constexpr LayerWay kWays[] = {
    {Prefix::kNone, ForLayers<DenseLayers>, DenseLayersFlops, 0},
    {Prefix::kRefit, ForLayers<DenseLayers>, DenseLayersFlops, 1},
    {Prefix::kTarget, ForLayers<AnchoredLayers>, AnchoredLayersFlops, 1},
};

}  // namespace

const LayerWay& WayOf(Method method) {
  for (const LayerWay& way : kWays) {
    if (way.prefix == RowOf(method).prefix) return way;
  }
  return kWays[0];
}

absl::StatusOr<MatrixReports> CompressLayers(const CompressRun& run,
                                             std::span<const FactorSink> sinks) {
  return WayOf(run.spec.method).run(run, sinks);
}

}  // namespace svdllm
