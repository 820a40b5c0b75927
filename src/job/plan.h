// What a job would take, predicted before it runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svdllm {

// What a worker computes on.
struct DeviceBudget {
  bool on_device = false;    // its memory is not the host's
  int64_t memory_bytes = 0;  // what a job may take of it; 0: as much as it likes
  bool exact = false;  // all weights are held and multiplied as F32, whatever they are stored as
  bool bf16 =
      true;  // false: BF16 weights are held as F32, because the device does not multiply BF16
  int64_t host_memory_bytes = 0;  // what the container or the machine has; 0: it is not looked at
};

// What a job takes of the host's memory.
struct HostMemory {
  int64_t anonymous = 0;  // of its process: it must fit
  int64_t mapped = 0;     // of the models' files, which the system takes back where memory is short
  int64_t total = 0;      // what there is; 0: not looked at
};

// Work that a job was planned to be, and what it took.
struct FinishedWork {
  double work = 0;  // floating-point operations
  double seconds = 0;
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
  int64_t calibration_seq_len = 0;  // what a seq_len of 0 means for this model
  // The same for the texts, one number per text of the spec: text_seq_lens[1] is that of texts[1].
  std::vector<int64_t> text_seq_lens;
  int64_t prompt_tokens = 0;  // what 0 prompt tokens of the throughput mean
  int64_t parameters = 0;
  int64_t target_parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<ArtifactPlan> artifacts;
  HostMemory host;
  int64_t peak_device_bytes = 0;
  int64_t scratch_bytes = 0;
  double work = 0;  // floating-point operations
  // How long it takes, running alone: between least and most, with the expected time in their
  // middle (of their logarithms). 0: not known.
  double least_seconds = 0, expected_seconds = 0, most_seconds = 0;
  double slowdown = 1;                // how many times slower than its best the processor is now
  bool ranks_are_final = true;        // false: the allocation decides them from the spectra
  std::vector<std::string> warnings;  // for people
};

// What an evaluation would take.
struct EvaluatePlan {
  int64_t parameters = 0, weight_bytes = 0;                    // of the model
  int64_t baseline_parameters = 0, baseline_weight_bytes = 0;  // 0 where there is none
  HostMemory host;
  int64_t peak_device_bytes = 0;
  std::vector<std::string> warnings;  // for people
};

}  // namespace svdllm
