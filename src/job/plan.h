// What a job would take, predicted before it runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

// What a worker computes on.
struct DeviceBudget {
  bool on_device = false;    // its memory is another than the host's
  int64_t memory_bytes = 0;  // that a job may take of it; 0: as much as it likes
  bool exact = false;        // weights are held and multiplied as F32, whatever they are stored as
  bool bf16 = true;          // otherwise BF16 ones are, for want of such products
};

struct MatrixPlan {
  std::string name;
  int64_t rows = 0, cols = 0;
  int64_t rank = 0;  // 0: stays dense
};

struct ArtifactPlan {
  double keep_ratio = 0;
  std::vector<MatrixPlan> matrices;  // ranks of a non-uniform allocation are the uniform ones
  int64_t parameters = 0;
  int64_t weight_bytes = 0;
};

// What a compression would do, without doing it.
struct CompressPlan {
  int64_t calibration_seq_len = 0;     // what a seq_len of 0 means for this model
  std::vector<int64_t> text_seq_lens;  // likewise, one per text of the spec
  int64_t prompt_tokens = 0;           // likewise, of the throughput
  int64_t parameters = 0;
  int64_t target_parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<ArtifactPlan> artifacts;
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
  int64_t scratch_bytes = 0;
  double expected_seconds = 0;  // 0: not known
  bool ranks_are_final = true;  // false: the allocation decides them from the spectra
};

// What an evaluation would take.
struct EvaluatePlan {
  int64_t parameters = 0, weight_bytes = 0;                    // of the model
  int64_t baseline_parameters = 0, baseline_weight_bytes = 0;  // where there is one
  int64_t peak_host_bytes = 0;
  int64_t peak_device_bytes = 0;
};

}  // namespace svdllm
