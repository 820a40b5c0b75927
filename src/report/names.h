// Names of models and files in reports.
#pragma once

#include <string>

namespace svdllm {

// The last part of a path or URI: a report says which model and which text, not where they lay.
std::string BaseName(std::string uri);

}  // namespace svdllm
