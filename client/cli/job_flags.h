// What every job has, whatever it computes: its model, its output, its marks, and how it is waited
// for. The flags are those of compress and of evaluate.
#pragma once

#include <map>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/inputs.h"

namespace svdllm::cli {

struct JobFlags {
  std::string model;
  std::string output;
  std::string request_id;
  std::string display_name;
  std::map<std::string, std::string> labels;
  double timeout_seconds = 0;  // 0: none
  double ttl_seconds = 0;      // 0: none
  bool validate_only = false;
  bool print_request = false;
  bool watch = false;
  bool detach = false;
};

// Adds what the file says to the request, its relative paths made absolute.
absl::Status LoadRequest(const std::string& file, v1::CompressModelRequest* request);
absl::Status LoadRequest(const std::string& file, v1::EvaluateRequest* request);

// Each in the group that is open. --request comes before every other flag: those go on from what
// its file says, which becomes *request.
template <typename Request>
void AddRequestFlag(FlagSet& flags, Request* request) {
  flags.Add(
      {"request", "FILE",
       "Takes the request from a file, YAML or JSON, with the fields of the API as docs/usage.md "
       "shows them; nothing else is then required, and flags beside it go before what it says. "
       "Relative paths in it are taken from where it lies. Default: none."},
      [&flags, request](const std::string& file) {
        flags.RequireNone();
        return LoadRequest(file, request);
      });
}
void AddModelFlag(FlagSet& flags, JobFlags* given);
void AddOutputFlag(FlagSet& flags, JobFlags* given);
// How the job is waited for, and the id of the submission.
void AddFollowFlags(FlagSet& flags, JobFlags* given);
// All others, under a title of their own.
void AddJobFlags(FlagSet& flags, JobFlags* given);

google::protobuf::Duration ToDuration(double seconds);

// What is not given stays as it is, so that the file's values or else the server's defaults count,
// not ours; only request_id is always there.
template <typename Request>
void FillJob(const JobFlags& given, const std::string& directory, Request* request) {
  if (!given.model.empty()) request->set_model(Located(directory, given.model));
  if (!given.output.empty()) request->set_output_uri(given.output);
  if (!given.request_id.empty()) request->set_request_id(given.request_id);
  if (request->request_id().empty()) request->set_request_id(NewRequestId());
  if (given.validate_only) request->set_validate_only(true);
  if (!given.display_name.empty()) request->set_display_name(given.display_name);
  for (const auto& [key, value] : given.labels) (*request->mutable_labels())[key] = value;
  if (given.timeout_seconds > 0) *request->mutable_timeout() = ToDuration(given.timeout_seconds);
  if (given.ttl_seconds > 0) *request->mutable_artifact_ttl() = ToDuration(given.ttl_seconds);
}

}  // namespace svdllm::cli
