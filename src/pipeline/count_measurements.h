// What measuring a model does, gone through on a backend that only counts memory.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"
#include "corpus/windows.h"
#include "job/progress.h"
#include "job/spec.h"
#include "linalg/counting/backend.h"

namespace svdllm {

// count sequences of one length; what is in them does not matter.
Sequences BlankSequences(int64_t count, int64_t length);

// Perplexity on as many windows of a text as are streamed at once.
absl::Status CountWindows(int64_t count, int64_t length, const Checkpoint& checkpoint,
                          Backend& backend, Progress& progress);

// Texts and tasks that stream the model through, of which the files' sizes alone are known.
// measure: resolved.
absl::Status CountStreamedMeasures(const MeasureSpec& measure, const Checkpoint& checkpoint,
                                   Backend& backend, Progress& progress);

// The peak of what needs the whole model in memory, on a backend of its own: its own samples, whose
// cache takes `cache` bytes, generated answers, and speed. 0 where nothing does.
absl::StatusOr<int64_t> CountResident(int64_t cache, const MeasureSpec& measure,
                                      const Checkpoint& checkpoint, const CountingOptions& options);

}  // namespace svdllm
