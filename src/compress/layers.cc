#include "compress/layers.h"

#include "compress/anchored_layers.h"
#include "compress/cost.h"
#include "compress/dense_layers.h"

namespace svdllm {
namespace {

template <typename Layers>
absl::StatusOr<MatrixReports> ForLayers(const CompressRun& run, std::span<const FactorSink> sinks) {
  Layers layers(run);
  RETURN_IF_ERROR(layers.Start(sinks.size()));
  MatrixReports reports(sinks.size());
  for (int64_t layer = 0; layer < run.checkpoint.config().num_layers; ++layer) {
    RETURN_IF_ERROR(layers.CompressLayer(layer, sinks, reports));
  }
  return reports;
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
