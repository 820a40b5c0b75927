// report.html: what a job measured, for people to look at. One file with style and figures in it:
// no script, nothing fetched, well-formed XML behind the doctype. Every string is escaped.
#pragma once

#include <string>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// Of one artifact of a compression.
std::string CompressionHtml(const CompressSpec& spec, const CompressResult& job,
                            const ArtifactResult& artifact);
// Of an evaluation, with or without a baseline.
std::string EvaluationHtml(const EvaluateSpec& spec, const EvaluateResult& result);

}  // namespace svdllm
