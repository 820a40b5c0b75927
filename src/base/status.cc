#include "base/status.h"

#include "absl/strings/cord.h"
#include "base/utf8.h"

namespace svdllm {
namespace {
constexpr char kReasonUrl[] = "svdllm/reason";
constexpr std::string_view kOffenderUrl = "svdllm/offender/";
// Whatever a file says is quoted in errors, and they go to people, logs and other programs.
constexpr size_t kMaxErrorBytes = 4096;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }
}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view reason, std::string_view message) {
  absl::Status status(code, Shortened(message, kMaxErrorBytes));
  status.SetPayload(kReasonUrl, absl::Cord(View(reason)));
  return status;
}

absl::Status InvalidField(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, message);
}

std::string ErrorReason(const absl::Status& status) {
  auto payload = status.GetPayload(kReasonUrl);
  return payload.has_value() ? std::string(*payload) : std::string();
}

absl::Status WithOffender(absl::Status status, std::string_view key, std::string_view name) {
  const std::string url = std::string(kOffenderUrl).append(key);
  if (!status.ok()) status.SetPayload(url, absl::Cord(View(name)));
  return status;
}

std::map<std::string, std::string> OffendersOf(const absl::Status& status) {
  std::map<std::string, std::string> names;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& name) {
    const std::string key(url.data(), url.size());
    if (key.starts_with(kOffenderUrl)) names[key.substr(kOffenderUrl.size())] = std::string(name);
  });
  return names;
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  std::string message(context);
  message.append(": ").append(status.message().data(), status.message().size());
  absl::Status annotated(status.code(), Shortened(message, kMaxErrorBytes));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

}  // namespace svdllm
