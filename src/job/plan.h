// What a job would take, predicted before it runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "job/spec.h"

namespace svdllm {

// What a text's settings that were left open mean for the model.
struct TextPlan {
  int64_t seq_len = 0;
  std::optional<WindowStart> window_start = {};  // absent: of documents
};

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
  TextPlan calibration;
  // What the calibration texts give, of the samples that were asked for. A large text is not read
  // to its end, and the number is then expected.
  int64_t calibration_sequences = 0;
  std::vector<TextPlan> texts = {};  // of the spec's texts: texts[1] is that of measure.texts[1]
  int64_t prompt_tokens = 0;         // what 0 prompt tokens of the throughput mean
  int64_t parameters = 0;
  int64_t target_parameters = 0;
  int64_t weight_bytes = 0;
  std::vector<ArtifactPlan> artifacts;
  HostMemory host;
  int64_t peak_device_bytes = 0;
  int64_t scratch_bytes = 0;
  double work = 0;  // floating-point operations
  // How long it takes, running alone: between least and most, with the expected time in their
  // middle (of their logarithms). 0: not known. Who knows the processor's rate fills them in
  // (pipeline/estimate.h).
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
  std::vector<TextPlan> texts = {};        // as in CompressPlan, for both models
  int64_t prompt_tokens = 0;               // likewise
  std::vector<std::string> warnings = {};  // for people
};

}  // namespace svdllm
