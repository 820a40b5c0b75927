// What fills in the template of the model card.
#pragma once

#include "checkpoint/checkpoint.h"
#include "job/result.h"
#include "job/spec.h"
#include "report/template.h"

namespace svdllm {

// For kCardTemplate.
Data CardData(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
              const ArtifactResult& artifact);

}  // namespace svdllm
