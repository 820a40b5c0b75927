// How reports look; the sources are in assets/.
#pragma once

namespace svdllm {

extern const char kReportCss[];  // report.css

}  // namespace svdllm
