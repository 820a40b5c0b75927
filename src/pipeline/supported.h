// What this build knows, by name: for GetServerInfo.
#pragma once

#include <string>
#include <vector>

namespace svdllm {

std::vector<std::string> SupportedFamilies();
std::vector<std::string> SupportedTasks();

}  // namespace svdllm
