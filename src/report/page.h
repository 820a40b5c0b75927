// What a job measured, for people to look at: report.html and the model card. Texts and layout are
// the templates of assets/.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// report.html of one artifact of a compression, and of an evaluation with or without a baseline.
// One file with style and figures in it: no script, nothing fetched, well-formed XML behind the
// doctype. Every string is escaped.
std::string CompressionHtml(const CompressSpec& spec, const CompressResult& job,
                            const ArtifactResult& artifact);
std::string EvaluationHtml(const EvaluateSpec& spec, const EvaluateResult& result);

// README.md with the YAML header that model hubs read.
std::string ModelCard(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
                      const ArtifactResult& artifact);

}  // namespace svdllm
