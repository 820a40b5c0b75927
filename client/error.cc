#include "client/error.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "rpc/error_details.pb.h"

namespace svdllm {
namespace {
constexpr char kDetailsUrl[] = "svdllm/google.rpc.Status";
}

absl::Status MakeRpcError(int code, std::string_view message, std::string_view details_bin) {
  google::rpc::Status details;
  std::string reason;
  const bool parsed =
      !details_bin.empty() && details.ParseFromArray(details_bin.data(), details_bin.size());
  if (parsed) {
    google::rpc::ErrorInfo info;
    for (const auto& any : details.details()) {
      if (any.UnpackTo(&info)) reason = info.reason();
    }
  }
  absl::Status status = MakeError(static_cast<absl::StatusCode>(code), reason, message);
  if (parsed) {
    status.SetPayload(kDetailsUrl,
                      absl::Cord(absl::string_view(details_bin.data(), details_bin.size())));
  }
  return status;
}

RpcErrorDetails RpcErrorDetailsOf(const absl::Status& status) {
  RpcErrorDetails result;
  result.reason = ErrorReason(status);
  const auto payload = status.GetPayload(kDetailsUrl);
  google::rpc::Status details;
  if (!payload.has_value() || !details.ParseFromString(std::string(*payload))) return result;
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) {
      result.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        result.violations.push_back({violation.field(), violation.description()});
      }
    } else if (any.UnpackTo(&retry)) {
      result.retry_delay_seconds =
          static_cast<double>(retry.retry_delay().seconds()) + retry.retry_delay().nanos() * 1e-9;
    }
  }
  return result;
}

std::string DescribeError(const absl::Status& status) {
  const RpcErrorDetails details = RpcErrorDetailsOf(status);
  std::string text(status.message());
  if (text.empty()) text = absl::StatusCodeToString(status.code());
  const auto is_named = [&](const RpcErrorDetails::Violation& violation) {
    return text.find(violation.description) != std::string::npos;
  };
  // A message that lists the fields already is one long line: a line a field reads better.
  if (details.violations.size() > 1 &&
      std::all_of(details.violations.begin(), details.violations.end(), is_named)) {
    text = "the request is not valid";
  }
  if (!details.reason.empty()) absl::StrAppend(&text, " (", details.reason, ")");
  for (const RpcErrorDetails::Violation& violation : details.violations) {
    if (!is_named(violation)) {
      absl::StrAppend(&text, "\n  ", violation.field, ": ", violation.description);
    }
  }
  for (const auto& [key, value] : details.metadata) {
    if (text.find(value) == std::string::npos) absl::StrAppend(&text, "\n  ", key, " = ", value);
  }
  if (details.retry_delay_seconds >= 0) {
    absl::StrAppendFormat(&text, "\n  try again in %g s", details.retry_delay_seconds);
  }
  return text;
}

}  // namespace svdllm
