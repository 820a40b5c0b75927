#include "client/cli/json_output.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "client/error.h"

namespace svdllm::cli {

std::string ToJson(const google::protobuf::Message& message, JsonLayout layout) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.add_whitespace = layout == JsonLayout::kIndented;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) {  // e.g. a time out of range: the server's fault, but still JSON
    return ErrorToJson(
        absl::InternalError("the server's answer has no JSON form: " + status.ToString()));
  }
  if (text.empty() || text.back() != '\n') text += '\n';
  return text;
}

std::string ErrorToJson(const absl::Status& status) {
  const RpcErrorDetails details = RpcErrorDetailsOf(status);
  nlohmann::ordered_json error = {{"code", std::string(absl::StatusCodeToString(status.code()))},
                                  {"reason", details.reason},
                                  {"message", std::string(status.message())},
                                  {"metadata", details.metadata},
                                  {"violations", nlohmann::ordered_json::array()}};
  for (const RpcErrorDetails::Violation& violation : details.violations) {
    error["violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  if (details.retry_delay_seconds >= 0) error["retryDelaySeconds"] = details.retry_delay_seconds;
  const nlohmann::ordered_json document = {{"error", error}};
  return document.dump(2, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace svdllm::cli
