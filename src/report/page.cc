#include "report/page.h"

#include "report/assets.h"
#include "report/card_data.h"
#include "report/page_data.h"
#include "report/template.h"

namespace svdllm {

std::string CompressionHtml(const CompressSpec& spec, const CompressResult& job,
                            const ArtifactResult& artifact) {
  return RenderHtml(kReportTemplate, CompressionData(spec, job, artifact));
}

std::string EvaluationHtml(const EvaluateSpec& spec, const EvaluateResult& result) {
  return RenderHtml(kEvaluationTemplate, EvaluationData(spec, result));
}

std::string ModelCard(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
                      const ArtifactResult& artifact) {
  return RenderMarkdown(kCardTemplate, CardData(source, spec, job, artifact));
}

}  // namespace svdllm
