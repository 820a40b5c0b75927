// What fills in the templates of report.html.
#pragma once

#include "job/result.h"
#include "job/spec.h"
#include "report/template.h"

namespace svdllm {

// For kReportTemplate and for kEvaluationTemplate.
Data CompressionData(const CompressSpec& spec, const CompressResult& job,
                     const ArtifactResult& artifact);
Data EvaluationData(const EvaluateSpec& spec, const EvaluateResult& result);

}  // namespace svdllm
