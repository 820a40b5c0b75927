#include "server/status_proto.h"

#include "absl/strings/cord.h"
#include "base/utf8.h"
#include "queue/job.h"
#include "rpc/error_details.pb.h"

namespace svdllm {
namespace {

constexpr char kViolationsUrl[] = "svdllm/field_violations";
constexpr int64_t kRetrySeconds = 10;
constexpr size_t kMaxFieldBytes = 128;
constexpr size_t kMaxDescriptionBytes = 512;
constexpr size_t kMoreBytes = 32;  // "; and 12345 more"
constexpr size_t kMaxOffenderBytes = 512;

// A check below the API says "calibration.seq_len: why": the field is what stands before the colon.
void AddViolationFromMessage(const std::string& message, google::rpc::BadRequest& bad_request) {
  const size_t colon = message.find(": ");
  const size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.[]");
  if (colon == std::string::npos || colon == 0 || end != colon) return;
  auto* violation = bad_request.add_field_violations();
  violation->set_field(message.substr(0, colon));
  violation->set_description(message.substr(colon + 2));
}

}  // namespace

std::string ErrorMessage(const absl::Status& status) {
  return Shortened({status.message().data(), status.message().size()}, kMaxMessageBytes);
}

absl::Status InvalidFields(const std::vector<FieldViolation>& violations, absl::StatusCode code) {
  google::rpc::BadRequest bad_request;
  std::string message;
  size_t bytes = 0, named = 0;
  for (const FieldViolation& violation : violations) {
    const std::string field = Shortened(violation.field, kMaxFieldBytes);
    const std::string description = Shortened(violation.description, kMaxDescriptionBytes);
    bytes += field.size() + description.size();
    const bool fits = bytes <= kMaxViolationBytes;
    if (!fits || bad_request.field_violations_size() == static_cast<int>(kMaxViolations)) break;
    auto* added = bad_request.add_field_violations();
    added->set_field(field);
    added->set_description(description);
    const std::string line = (message.empty() ? "" : "; ") + field + ": " + description;
    if (message.size() + line.size() + kMoreBytes > kMaxMessageBytes) continue;
    message += line;
    ++named;
  }
  if (named < violations.size()) {
    message += "; and " + std::to_string(violations.size() - named) + " more";
  }
  absl::Status status = MakeError(code, kInvalidField, message);
  status.SetPayload(kViolationsUrl, absl::Cord(bad_request.SerializeAsString()));
  return status;
}

std::string ErrorDetails(const absl::Status& status) {
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(ErrorMessage(status));
  google::rpc::ErrorInfo info;
  const std::string reason = ErrorReason(status);
  info.set_reason(reason.empty() ? std::string(kInternal) : reason);
  info.set_domain(kErrorDomain);
  for (const auto& [key, name] : OffendersOf(status)) {
    (*info.mutable_metadata())[key] = Shortened(name, kMaxOffenderBytes);
  }
  google::rpc::BadRequest bad_request;
  if (const auto payload = status.GetPayload(kViolationsUrl); payload.has_value()) {
    bad_request.ParseFromString(std::string(*payload));
  } else if (reason == kInvalidField) {
    AddViolationFromMessage(rich.message(), bad_request);
  }
  if (bad_request.field_violations_size() > 0) {
    (*info.mutable_metadata())["field"] = bad_request.field_violations(0).field();
  }
  rich.add_details()->PackFrom(info);
  if (bad_request.field_violations_size() > 0) rich.add_details()->PackFrom(bad_request);
  if (reason == kQueueFull || reason == kQuotaExceeded || reason == kServerBusy) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetrySeconds);
    rich.add_details()->PackFrom(retry);
  }
  return rich.SerializeAsString();
}

}  // namespace svdllm
