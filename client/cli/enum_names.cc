#include "client/cli/enum_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace svdllm::cli {
namespace {

// "JOB_STATE_", from the value that every enum of the API begins with: JOB_STATE_UNSPECIFIED.
std::string PrefixOf(const google::protobuf::EnumDescriptor& type) {
  return std::string(absl::StripSuffix(type.value(0)->name(), "UNSPECIFIED"));
}

}  // namespace

std::string ShortName(const google::protobuf::EnumDescriptor& type, int value) {
  const auto* const found = type.FindValueByNumber(value);
  if (found == nullptr) return std::to_string(value);
  return WithoutPrefix(type, found->name());
}

std::vector<std::string> FlagValues(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    const int number = type.value(i)->number();
    if (number != 0) names.push_back(absl::AsciiStrToLower(ShortName(type, number)));
  }
  return names;
}

std::string WithoutPrefix(const google::protobuf::EnumDescriptor& type, std::string_view name) {
  const std::string prefix = PrefixOf(type);
  const bool has_prefix = absl::StartsWithIgnoreCase({name.data(), name.size()}, prefix);
  return std::string(name.substr(has_prefix ? prefix.size() : 0));
}

const google::protobuf::EnumValueDescriptor* FindValue(const google::protobuf::EnumDescriptor& type,
                                                       std::string_view name) {
  const std::string upper = absl::AsciiStrToUpper(WithoutPrefix(type, name));
  const auto* const value = type.FindValueByName(PrefixOf(type) + upper);
  return value == nullptr || value->number() == 0 ? nullptr : value;
}

}  // namespace svdllm::cli
