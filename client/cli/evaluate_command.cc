// evaluate: its flags and the request that they make.
#include <memory>

#include "client/cli/measure_flags.h"
#include "client/cli/submit.h"
#include "client/cli/submit_commands.h"

namespace svdllm::cli {
namespace {

struct EvaluateFlags {
  JobFlags job;
  MeasureFlags measure;
  v1::EvaluateRequest request;  // of --request, and what flags set as it is
  std::string baseline;
};

void AddComparisonFlags(FlagSet& flags, EvaluateFlags* given) {
  flags.Group("Comparison");
  flags.Add({"baseline", "DIR|URI",
             "A second checkpoint, measured in the same job: the model before compression, say. "
             "Default: none."},
            TextValue(&given->baseline));
  AddThresholdFlags(flags, given->request.mutable_threshold());
}

absl::StatusOr<v1::EvaluateRequest> RequestOf(const EvaluateFlags& given,
                                              const std::string& directory) {
  v1::EvaluateRequest request = given.request;
  FillJob(given.job, directory, &request);
  ASSIGN_OR_RETURN(std::vector<v1::EvaluationTask> tasks, MeasuredTasks(given.measure, directory));
  if (tasks.empty()) {
    tasks.assign(request.tasks().begin(), request.tasks().end());
    ChangeTasks(given.measure, &tasks);
  }
  if (tasks.empty()) {
    // Speed needs no text.
    if (!given.measure.wants_throughput && !request.has_throughput())
      return UsageError("--dataset is missing: the text to measure perplexity on");
    RETURN_IF_ERROR(CheckNoTextFlags(given.measure, /*other_texts=*/false));
  }
  RETURN_IF_ERROR(AddTaskFiles(given.measure, directory, &tasks));
  request.mutable_tasks()->Assign(tasks.begin(), tasks.end());
  if (given.measure.wants_throughput) *request.mutable_throughput() = given.measure.throughput;
  if (!given.baseline.empty()) request.set_baseline(Located(directory, given.baseline));
  if (request.threshold().ByteSizeLong() == 0) request.clear_threshold();
  return request;
}

}  // namespace

CommandAction DefineEvaluate(FlagSet& flags) {
  const auto given = std::make_shared<EvaluateFlags>();
  flags.Group("What");
  AddRequestFlag(flags, &given->request);
  AddModelFlag(flags, &given->job);
  AddTextAndTaskFlags(flags, "Texts and tasks", &given->measure);
  AddThroughputFlags(flags, "Speed", &given->measure);
  AddComparisonFlags(flags, given.get());
  flags.Group("Output");
  AddOutputFlag(flags, &given->job);
  AddJobFlags(flags, &given->job);
  flags.Group(kEarlierSpellings);
  flags.Alias("packing", "dataset_packing");
  return [given](CommandContext& context) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const v1::EvaluateRequest request,
                     RequestOf(*given, context.environment.directory));
    return Submit(context, given->job, request);
  };
}

}  // namespace svdllm::cli
