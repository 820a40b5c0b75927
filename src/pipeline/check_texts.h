// What the texts and the tokenizer would end a job with, found before it is stored.
#pragma once

#include "job/plan.h"
#include "pipeline/resolve.h"

namespace svdllm {

// The errors that a run would begin with, as far as a second or so shows them (CheckCalibration,
// CheckWindows). What is only short of what was asked for goes into the plan, as do the sequences
// that calibration will have.
absl::Status CheckTexts(const CompressJob& job, CompressPlan& plan);
absl::Status CheckTexts(const EvaluateJob& job);

}  // namespace svdllm
