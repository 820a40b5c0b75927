#include "client/cli/job_flags.h"

namespace svdllm::cli {

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

void AddJobFlags(FlagSet& flags, JobFlags* given) {
  flags.Group("Job");
  flags.Switch(
      "validate_only", &given->validate_only,
      "Starts nothing: checks the request and prints what it would do and cost, with every "
      "default filled in.");
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
  flags.AddRepeated({"label", "KEY=VALUE", "Your own mark, to filter lists by. Default: none."},
                    LabelValue([given](const std::string& key, const std::string& value) {
                      given->labels[key] = value;
                    }));
  flags.Add({"timeout", "DURATION",
             "The job fails when it has not ended this long after it was started, e.g. 2h30m. "
             "Default: none."},
            DurationValue([given](double seconds) { given->timeout_seconds = seconds; }));
}

}  // namespace svdllm::cli
