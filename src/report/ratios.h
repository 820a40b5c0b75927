// The artifacts of one job beside each other: a table and a curve of size and quality.
#pragma once

#include "job/result.h"
#include "report/template.h"

namespace svdllm {

// ratios, where the job has several artifacts. artifact: the one whose page it is.
void SetRatios(const CompressResult& job, const ArtifactResult& artifact, Data& page);

}  // namespace svdllm
