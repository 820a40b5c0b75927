// What a model may lose, and what it has lost.
#pragma once

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// Returns whether the model keeps to the threshold beside its baseline. Figures with the same name
// are compared. A figure that is not finite does not keep to it.
Verdict Judge(const AcceptanceThreshold& threshold, const ModelResult& model,
              const ModelResult& baseline);

}  // namespace svdllm
