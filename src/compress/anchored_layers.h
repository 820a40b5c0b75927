// The anchored method's way through a block (lowrank/anchored.h). There are two kinds of activation
// streams: the dense model's and, per keep ratio, that of the model compressed so far. They follow
// the true order of the block: q, k and v are compressed before o's inputs are looked at, gate and
// up before down's. A block whose inputs were all taken beforehand would make up for the same loss
// twice.
#pragma once

#include <span>
#include <vector>

#include "compress/context.h"
#include "compress/layer_journal.h"
#include "lowrank/anchored.h"
#include "lowrank/factors.h"
#include "model/forward.h"
#include "model/residual_stream.h"

namespace svdllm {

// Call Start, then CompressLayer for layers 0, 1, … Beside the streams, memory holds one H of the
// order of the site's inputs and one drift per keep ratio. Not thread-safe.
class AnchoredLayers {
 public:
  // Both outlive it.
  AnchoredLayers(const CompressRun& run, LayerJournal& journal);

  // Begins at the first layer, or behind those that the journal has restored.
  absl::Status Start();
  absl::Status CompressLayer(int64_t layer);

 private:
  // One compressed model, that is, one keep ratio.
  struct Stream {
    ResidualStream x;
    Block block;   // the current block as far as it is compressed
    Matrix gram;   // H of the current site, F64 [n, n]
    Matrix drift;  // D [n, n], or W D [m, n] of the site's only reader
    bool drift_is_output = false;
    Matrix kept;  // F32 [tokens, n]: the inputs of o or down, where they are kept
  };

  // Returns the linear layers that read a site, by their places in the list.
  std::vector<size_t> Readers(int64_t layer, Site site) const;
  // Gathers H and the drift of every stream at a site. Where the site ends a half of the block, the
  // dense stream is advanced behind that half.
  absl::Status Gather(int64_t layer, Site site);
  // reader: the one that reads the site alone, where its drift is gathered as an output.
  absl::Status GatherBatch(const Batch& batch, Site site, LinearId reader);
  absl::Status Compress(int64_t layer, Site site, Stream& stream, const FactorSink& sink,
                        std::vector<MatrixReport>& reports);
  absl::Status CompressTogether(int64_t layer, std::span<const size_t> readers,
                                const Metric& metric, Stream& stream, const FactorSink& sink,
                                std::vector<MatrixReport>& reports);
  // Takes a compressed stream behind the half that the site ends.
  absl::Status FinishHalf(Site site, Stream& stream);

  const CompressRun& run_;
  LayerJournal& journal_;
  Backend& backend_;
  Forward dense_forward_, forward_;  // two, as their buffers are in use at the same time
  const std::vector<Batch> batches_;
  BlockReader reader_;
  ResidualStream dense_;
  // These two are in use while a site's statistics are gathered.
  Matrix drift_;         // F32 [largest batch, n]: X − X′ of a batch
  Matrix drift_output_;  // F32 [largest batch, m]: W (X − X′) of it
  Block block_;
  std::vector<Stream> streams_;
};

}  // namespace svdllm
