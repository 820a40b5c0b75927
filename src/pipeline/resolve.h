// From what is asked to what is done: a request checked against its model, every default filled in,
// with what was opened on the way. Plans and runs take nothing else, so that no model is opened
// twice in a job.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/linears.h"
#include "job/spec.h"

namespace svdllm {

// Made by Resolve only.
struct CompressJob {
  CompressSpec spec;  // every 0 that means "default" filled in; keep ratios decreasing
  Checkpoint checkpoint;
  std::vector<LinearLayer> linears;  // in scope: all of them
};

// Opens the model, checks the request against it and fills in every default. Errors: INVALID_FIELD,
// naming the field; UNSUPPORTED_ARCHITECTURE for a model that is compressed already; those of
// Checkpoint::Open and of CheckTask.
absl::StatusOr<CompressJob> Resolve(const CompressSpec& spec);

// A model, opened, with what is to be measured of it.
struct Subject {
  std::string uri;
  Checkpoint checkpoint;
  MeasureSpec measure;  // resolved for this model
};

// Made by Resolve only.
struct EvaluateJob {
  EvaluateSpec spec;
  std::vector<Subject> models;  // the model and, where there is one, its baseline

  const Subject& model() const { return models[0]; }
  const Subject* baseline() const { return models.size() > 1 ? &models[1] : nullptr; }
};

// Both models are measured on the same windows and timed with the same prompts, as long as the
// shorter of them allows; windows begin as the model, not the baseline, needs it. Errors: those
// above, and DATASET_INVALID for a text that is not there.
absl::StatusOr<EvaluateJob> Resolve(const EvaluateSpec& spec);

}  // namespace svdllm
