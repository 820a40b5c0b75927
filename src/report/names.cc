#include "report/names.h"

namespace svdllm {

std::string BaseName(std::string uri) {
  while (!uri.empty() && uri.back() == '/') uri.pop_back();
  return uri.substr(uri.rfind('/') + 1);  // npos + 1 is 0
}

int64_t UsedSamples(const CompressSpec& spec, const CompressResult& job) {
  return job.calibration.sequences > 0 ? job.calibration.sequences : spec.calibration.samples;
}

}  // namespace svdllm
