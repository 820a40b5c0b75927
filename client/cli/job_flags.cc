#include "client/cli/job_flags.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "client/cli/recipe.h"
#include "client/cli/request_inputs.h"

namespace svdllm::cli {
namespace {

constexpr size_t kLargestRecipe = 1 << 20;

// Of a pipe too.
absl::StatusOr<std::string> ReadAll(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kLargestRecipe + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.eof() && in.gcount() == 0) return absl::InvalidArgumentError("cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kLargestRecipe) return absl::InvalidArgumentError("is larger than a request");
  return text;
}

template <typename Request>
absl::Status Load(const std::string& file, Request* request) {
  ASSIGN_OR_RETURN(const std::string text, ReadAll(file));
  RETURN_IF_ERROR(ReadRecipe(text, request));
  std::error_code ignored;
  const std::string directory = std::filesystem::absolute(file, ignored).parent_path().string();
  for (std::string* input : InputsOf(*request)) *input = Located(directory, *input);
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadRequest(const std::string& file, v1::CompressModelRequest* request) {
  return Load(file, request);
}

absl::Status LoadRequest(const std::string& file, v1::EvaluateRequest* request) {
  return Load(file, request);
}

void AddModelFlag(FlagSet& flags, JobFlags* given) {
  flags.Add(
      {"model", "DIR|URI",
       "The model: a Hugging Face directory with config.json and safetensors, a .gguf file, or "
       "an artifact. Read by the server; a relative path is taken from here and made absolute."},
      TextValue(&given->model));
  flags.Require("model");
}

void AddOutputFlag(FlagSet& flags, JobFlags* given) {
  flags.Add({"output", "DIR|URI",
             "Where the results go, the artifact or the evaluation's report: on the server, below "
             "its artifact root; a relative path is taken from there. Default: the job's id."},
            TextValue(&given->output));
}

void AddFollowFlags(FlagSet& flags, JobFlags* given) {
  flags.Switch("watch", &given->watch,
               "Shows progress on standard error until the job has ended, then prints its result. "
               "The default where standard output and error are a terminal.");
  flags.Switch("detach", &given->detach,
               "Prints the job's name and does not wait. The default elsewhere.");
  flags.Exclude("watch", "detach");
  flags.Add({"request_id", "UUID",
             "Makes a repeated submission harmless: the same id with the same request is the same "
             "job. Default: a new random one."},
            TextValue(&given->request_id));
}

void AddJobFlags(FlagSet& flags, JobFlags* given) {
  flags.Group("Job");
  flags.Switch(
      "validate_only", &given->validate_only,
      "Starts nothing: checks the request and prints what it would do and cost, with every "
      "default filled in.");
  flags.Switch("print_request", &given->print_request,
               "Asks no server: prints the request as JSON, a file for --request.");
  flags.Exclude("validate_only", "print_request");
  AddFollowFlags(flags, given);
  flags.Add(
      {"display_name", "TEXT",
       "What the job is called where people read of it, at most 256 bytes. Default: nothing."},
      TextValue(&given->display_name));
  flags.AddRepeated({"label", "KEY=VALUE", "Your own mark, to filter lists by. Default: none."},
                    LabelValue([given](const std::string& key, const std::string& value) {
                      given->labels[key] = value;
                    }));
  flags.Add({"timeout", "DURATION",
             "The job fails when it has not ended this long after it was started, e.g. 2h30m. "
             "Default: none."},
            DurationValue([given](double seconds) { given->timeout_seconds = seconds; }));
  flags.Add({"artifact_ttl", "DURATION",
             "The server removes what the job publishes this long after the job has ended, e.g. "
             "720h. Default: never."},
            DurationValue([given](double seconds) { given->ttl_seconds = seconds; }));
}

google::protobuf::Duration ToDuration(double seconds) {
  google::protobuf::Duration duration;
  const double whole = std::floor(seconds);
  duration.set_seconds(static_cast<int64_t>(whole));
  duration.set_nanos(static_cast<int32_t>((seconds - whole) * 1e9));
  return duration;
}

}  // namespace svdllm::cli
