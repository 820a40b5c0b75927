// One matrix: decomposed already, to what is stored of it.
#pragma once

#include "compress/context.h"
#include "lowrank/decomposition.h"
#include "model/block.h"

namespace svdllm {

// The linear computes with these factors from now on, held as what is stored in this type; its bias
// stays.
absl::Status SetFactors(const Factors& factors, DType stored, Linear& linear, Backend& backend);

// Of a matrix that stays as it is.
MatrixReport DenseReport(const LinearLayer& linear);

struct MatrixJob {
  size_t linear = 0;  // index into CompressRun::linears
  int64_t rank = 0;   // > 0
  const Decomposition& decomposition;
  // The metric in which the loss is judged, which is the decomposition's but for methods that
  // refit; and, where it is an output Gram, some inputs, F32 [rows, in], to measure what rounding
  // costs.
  Metric metric;
  MatrixRef sample;
};

// Cuts to the rank, encodes, rounds to the checkpoint's dtype, checks the loss against the
// eigenvalues (NUMERICAL_FAILURE, naming the matrix), and hands the result to the sink. module
// becomes what is stored.
absl::StatusOr<MatrixReport> CompressMatrix(const CompressRun& run, const MatrixJob& job,
                                            const FactorSink& sink, Linear& module);

}  // namespace svdllm
