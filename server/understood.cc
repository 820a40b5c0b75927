#include "server/understood.h"

#include <memory>
#include <set>
#include <string>

#include "base/logging.h"
#include "server/job_proto.h"
#include "server/known_parts.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {
namespace {

absl::Status NotUnderstood(const Job& job, const std::string& what) {
  const absl::Status status = MakeError(
      absl::StatusCode::kFailedPrecondition, kRequestNotUnderstood,
      JobName(job.id) + " is left alone: " + what + "; a newer version may have stored it");
  return WithOffender(status, "job", JobName(job.id));
}

template <typename Request>
absl::Status CheckRequest(const Job& job) {
  Request request;
  if (!request.ParseFromString(job.request)) {
    return NotUnderstood(job, "its request cannot be read");
  }
  const absl::Status known = CheckKnown(request);
  return known.ok() ? known : NotUnderstood(job, std::string(known.message()));
}

}  // namespace

absl::Status CheckUnderstood(const Job& job) {
  if (!IsKnown(job.state)) {
    return NotUnderstood(job, "its state is " + std::to_string(static_cast<int>(job.state)) +
                                  ", which this version does not know");
  }
  switch (job.kind) {
    case JobKind::kCompressModel:
      return CheckRequest<v1::CompressModelRequest>(job);
    case JobKind::kEvaluate:
      return CheckRequest<v1::EvaluateRequest>(job);
  }
  return NotUnderstood(job, "its kind is " + std::to_string(static_cast<int>(job.kind)) +
                                ", which this version does not know");
}

JobFilter UnderstoodJobs() {
  return [logged = std::make_shared<std::set<std::string>>()](const Job& job) {
    const absl::Status understood = CheckUnderstood(job);
    if (!understood.ok() && logged->insert(job.id).second) {
      Log(LogLevel::kWarning, "a job is not understood and left alone",
          {{"job", job.id}, {"error", std::string(understood.message())}});
    }
    return understood.ok();
  };
}

}  // namespace svdllm
