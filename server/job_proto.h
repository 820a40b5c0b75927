// Stored jobs, events, plans and results as messages.
#pragma once

#include <string>

#include "base/status.h"
#include "job/plan.h"
#include "job/progress.h"
#include "job/result.h"
#include "queue/job.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

enum class JobView {
  kFull,
  kListed,  // without the per-matrix lists
};

std::string JobName(const std::string& id);  // "jobs/{id}"
// Returns the id in "jobs/{id}". INVALID_ARGUMENT, saying what is wrong with the name.
absl::StatusOr<std::string> ParseJobName(const std::string& name);

v1::Job ToProto(const Job& job, JobView view = JobView::kFull);
v1::JobEvent ToProto(const Event& event);
v1::JobError ToProto(const JobError& error);
v1::Progress ToProto(const ProgressEvent& progress);
v1::CompressModelResult ToProto(const CompressResult& result);
v1::EvaluateResult ToProto(const EvaluateResult& result);
v1::CompressionPlan ToProto(const CompressPlan& plan);
v1::EvaluationPlan ToProto(const EvaluatePlan& plan);
// Absent: documents, whose windows begin by themselves; WINDOW_START_UNSPECIFIED.
v1::WindowStart ToProto(const std::optional<WindowStart>& window_start);
// Sets the plan's times where they are known.
void SetTimes(const CompressPlan& plan, v1::CompressionPlan& message);

}  // namespace svdllm
