// The Python files that make an artifact load in one line, and the style of report.html; their
// sources are in assets/.
#pragma once

namespace svdllm {

extern const char kConfigurationPy[];  // configuration_svdllm.py
extern const char kModelingPy[];       // modeling_svdllm.py
extern const char kReportCss[];        // report.css

}  // namespace svdllm
