// The Python files that make an artifact load in one line; their sources are in assets/.
#pragma once

namespace svdllm {

extern const char kConfigurationPy[];  // configuration_svdllm.py
extern const char kModelingPy[];       // modeling_svdllm.py

}  // namespace svdllm
