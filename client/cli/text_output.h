// Jobs, plans and servers as text for people. Every text ends with a newline.
#pragma once

#include <string>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

// A job that has ended: one line how, then the error or the table of results.
std::string JobSummary(const v1::Job& job);
// Everything about a job worth reading, whatever its state.
std::string JobDetails(const v1::Job& job);
// One line a job. "no jobs" where there are none. Lines have at most this many columns, where there
// is a terminal: what matters less goes first; 0: as many as it takes.
std::string JobList(const v1::ListJobsResponse& list, int columns);
// "number 3 in the queue"; empty where the job does not wait.
std::string QueueText(const v1::Job& job);
// The answer to validate_only.
std::string PlanText(const v1::Job& job);
std::string ServerInfoText(const v1::ServerInfo& info);

// A line for each, behind an empty one; empty where there are none.
std::string WarningText(const google::protobuf::RepeatedPtrField<std::string>& warnings);

std::string ModelOf(const v1::Job& job);
// What was asked for, in one line.
std::string RequestText(const v1::Job& job);

}  // namespace svdllm::cli
