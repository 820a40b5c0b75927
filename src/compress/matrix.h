// One matrix: decomposed already, to what is stored of it.
#pragma once

#include "artifact/writer.h"
#include "compress/context.h"
#include "lowrank/decomposition.h"
#include "model/block.h"

namespace svdllm {

// The linear computes with these factors from now on, held as what is stored in this type; its bias
// stays.
absl::Status SetFactors(const Factors& factors, DType stored, Linear& linear, Backend& backend);

// Of a matrix that stays as it is.
MatrixReport DenseReport(const Target& target);

struct MatrixJob {
  size_t target = 0;  // index into CompressContext::targets
  int64_t rank = 0;   // > 0
  const Decomposition& decomposition;
  // The metric in which the loss is judged, and, where it is an output Gram, some inputs, F32
  // [rows, in], to measure what rounding costs.
  Metric metric;
  MatrixRef sample;
  // Whether the left factor is refitted in this metric, which is then not the decomposition's.
  bool update = false;
};

// Cuts to the rank, encodes, rounds to the checkpoint's dtype, checks the loss against the
// eigenvalues (NUMERICAL_FAILURE, naming the matrix), and hands the result to the writer. linear
// becomes what is stored.
absl::StatusOr<MatrixReport> CompressMatrix(const CompressContext& context, const MatrixJob& job,
                                            ArtifactWriter& writer, Linear& linear);

}  // namespace svdllm
