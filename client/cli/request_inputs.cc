#include "client/cli/request_inputs.h"

namespace svdllm::cli {
namespace {

void Add(std::string* input, std::vector<std::string*>& inputs) {
  if (!input->empty()) inputs.push_back(input);
}

template <typename Tasks>
void AddTasks(Tasks* tasks, std::vector<std::string*>& inputs) {
  for (v1::EvaluationTask& task : *tasks) {
    if (task.has_dataset()) Add(task.mutable_dataset()->mutable_uri(), inputs);
    Add(task.mutable_labels_uri(), inputs);
    Add(task.mutable_fewshot_uri(), inputs);
  }
}

}  // namespace

std::vector<std::string*> InputsOf(v1::CompressModelRequest& request) {
  std::vector<std::string*> inputs;
  Add(request.mutable_model(), inputs);
  if (request.has_calibration()) {
    v1::Calibration& calibration = *request.mutable_calibration();
    if (calibration.has_text()) Add(calibration.mutable_text()->mutable_uri(), inputs);
    for (v1::CalibrationSource& source : *calibration.mutable_sources()) {
      if (source.has_text()) Add(source.mutable_text()->mutable_uri(), inputs);
    }
  }
  if (request.has_evaluation()) AddTasks(request.mutable_evaluation()->mutable_tasks(), inputs);
  return inputs;
}

std::vector<std::string*> InputsOf(v1::EvaluateRequest& request) {
  std::vector<std::string*> inputs;
  Add(request.mutable_model(), inputs);
  Add(request.mutable_baseline(), inputs);
  AddTasks(request.mutable_tasks(), inputs);
  return inputs;
}

}  // namespace svdllm::cli
