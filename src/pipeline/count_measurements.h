// The memory that measuring a model takes: the measurements are gone through on a backend that only
// counts.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"
#include "corpus/windows.h"
#include "job/progress.h"
#include "job/spec.h"
#include "linalg/counting/backend.h"

namespace svdllm {

// Returns `count` sequences of one length. What is in them does not matter to a backend that only
// counts.
Sequences BlankSequences(int64_t count, int64_t length);

// Goes through the perplexity of a text, with as many of its windows as are streamed at once.
absl::Status CountWindows(int64_t count, int64_t length, const Checkpoint& checkpoint,
                          Backend& backend, Progress& progress);

// Goes through the texts and tasks that stream the model a block at a time. Of them only the files'
// sizes are known. `measure` is resolved.
absl::Status CountStreamedMeasures(const MeasureSpec& measure, const Checkpoint& checkpoint,
                                   Backend& backend, Progress& progress);

// Returns the peak of everything that needs the whole model in memory, counted on a backend of its
// own: the model's own samples, whose cache takes `cache` bytes, generated answers, and speed.
// Returns 0 where the job does nothing of that.
absl::StatusOr<int64_t> CountResident(int64_t cache, const MeasureSpec& measure,
                                      const Checkpoint& checkpoint, const CountingOptions& options);

}  // namespace svdllm
