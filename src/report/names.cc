#include "report/names.h"

namespace svdllm {

std::string BaseName(std::string uri) {
  while (!uri.empty() && uri.back() == '/') uri.pop_back();
  return uri.substr(uri.rfind('/') + 1);  // npos + 1 is 0
}

}  // namespace svdllm
