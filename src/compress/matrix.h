// The last step for one matrix: from its decomposition to what is stored of it.
#pragma once

#include "compress/context.h"
#include "lowrank/decomposition.h"
#include "model/block.h"

namespace svdllm {

// Lets the linear compute with these factors from now on, held as the backend holds what is stored
// in this type. Its bias stays.
absl::Status SetFactors(const Factors& factors, DType stored, Linear& linear, Backend& backend);

// The report of a matrix that stays as it is.
MatrixReport DenseReport(const LinearLayer& linear);
// Work that was expected of matrices, and is not needed of those that stay dense: so many times a
// matrix's decomposition.
absl::Status SkipWork(const CompressRun& run, double times);

struct MatrixJob {
  size_t linear = 0;  // index into CompressRun::linears
  int64_t rank = 0;   // > 0
  const Decomposition& decomposition;
  // `metric` is the one in which the loss is judged: the decomposition's own, except for methods
  // that refit. Where it is an output Gram, `sample` holds some inputs, F32 [rows, in], to measure
  // what rounding costs.
  Metric metric;
  MatrixRef sample;
};

// Cuts the decomposition to the rank, encodes it, rounds it to the checkpoint's dtype, checks the
// loss against the eigenvalues (NUMERICAL_FAILURE, naming the matrix) and hands the result to the
// sink. `module` then computes with what is stored.
absl::StatusOr<MatrixReport> CompressMatrix(const CompressRun& run, const MatrixJob& job,
                                            const FactorSink& sink, Linear& module);

}  // namespace svdllm
