#include "report/names.h"

namespace svdllm {

std::string BaseName(std::string uri) {
  while (!uri.empty() && uri.back() == '/') uri.pop_back();
  return uri.substr(uri.rfind('/') + 1);  // npos + 1 is 0
}

std::string HubId(const std::string& uri) {
  constexpr std::string_view kSnapshots = "/snapshots/", kModels = "models--";
  const size_t end = uri.rfind(kSnapshots);
  if (end == std::string::npos || uri.size() == end + kSnapshots.size()) return "";
  const size_t begin = uri.rfind('/', end - 1) + 1;  // npos + 1 is 0
  if (end == 0 || uri.compare(begin, kModels.size(), kModels) != 0) return "";
  const std::string name = uri.substr(begin + kModels.size(), end - begin - kModels.size());
  const size_t dashes = name.find("--");
  if (dashes == std::string::npos) return name;
  return name.substr(0, dashes) + "/" + name.substr(dashes + 2);
}

std::string ModelName(const std::string& uri) {
  std::string name = HubId(uri);
  if (!name.empty()) return name;
  name = BaseName(uri);
  if (name.rfind("keep-", 0) != 0) return name;
  const size_t end = uri.rfind(name);
  const std::string all = end > 0 ? BaseName(uri.substr(0, end)) : "";
  return all.empty() ? name : all + "/" + name;
}

int64_t UsedSamples(const CompressSpec& spec, const CompressResult& job) {
  return job.calibration.sequences > 0 ? job.calibration.sequences : spec.calibration.samples;
}

}  // namespace svdllm
