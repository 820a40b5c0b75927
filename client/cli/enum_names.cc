#include "client/cli/enum_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace svdllm::cli {
namespace {

// "JOB_STATE_", from the value that every enum of the API begins with: JOB_STATE_UNSPECIFIED.
std::string PrefixOf(const google::protobuf::EnumDescriptor& type) {
  const std::string& unspecified = type.value(0)->name();
  return std::string(absl::StripSuffix(unspecified, "UNSPECIFIED"));
}

}  // namespace

std::string ShortName(const google::protobuf::EnumDescriptor& type, int value) {
  const auto* const found = type.FindValueByNumber(value);
  if (found == nullptr) return std::to_string(value);
  return std::string(absl::StripPrefix(found->name(), PrefixOf(type)));
}

const google::protobuf::EnumValueDescriptor* FindShortName(
    const google::protobuf::EnumDescriptor& type, std::string_view name) {
  return type.FindValueByName(PrefixOf(type) + absl::AsciiStrToUpper({name.data(), name.size()}));
}

}  // namespace svdllm::cli
