// How reports look and what they say; the sources are in assets/.
#pragma once

namespace svdllm {

extern const char kReportCss[];           // report.css
extern const char kReportTemplate[];      // report.html.mustache
extern const char kEvaluationTemplate[];  // evaluation.html.mustache
extern const char kHeadPartial[];         // head.html.mustache: {{> head}}
extern const char kConclusionPartial[];   // conclusion.html.mustache: {{> conclusion}}
extern const char kMeasuredPartial[];     // measured.html.mustache: {{> measured}}
extern const char kSourcesPartial[];      // sources.html.mustache: {{> sources}}
extern const char kCardTemplate[];        // model_card.md.mustache

}  // namespace svdllm
