// What every job has, whatever it computes: its model, its output, its marks, and how it is waited
// for. The flags are those of compress and of evaluate.
#pragma once

#include <cmath>
#include <map>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/inputs.h"

namespace svdllm::cli {

struct JobFlags {
  std::string model;
  std::string output;
  std::string request_id;
  std::map<std::string, std::string> labels;
  double timeout_seconds = 0;  // 0: none
  bool validate_only = false;
  bool watch = false;
  bool detach = false;
};

// Each in the group that is open.
void AddModelFlag(FlagSet& flags, JobFlags* given);
void AddOutputFlag(FlagSet& flags, JobFlags* given);
// All others, under a title of their own.
void AddJobFlags(FlagSet& flags, JobFlags* given);

// What is not given stays unset, so that the server's defaults count, not ours; only request_id is
// always there.
template <typename Request>
void FillJob(const JobFlags& given, const std::string& directory, Request* request) {
  request->set_model(Located(directory, given.model));
  request->set_output_uri(given.output);
  request->set_request_id(given.request_id.empty() ? NewRequestId() : given.request_id);
  request->set_validate_only(given.validate_only);
  for (const auto& [key, value] : given.labels) (*request->mutable_labels())[key] = value;
  if (given.timeout_seconds > 0) {
    const double whole = std::floor(given.timeout_seconds);
    request->mutable_timeout()->set_seconds(static_cast<int64_t>(whole));
    request->mutable_timeout()->set_nanos(
        static_cast<int32_t>((given.timeout_seconds - whole) * 1e9));
  }
}

}  // namespace svdllm::cli
