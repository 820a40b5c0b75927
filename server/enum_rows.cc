#include "server/enum_rows.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace svdllm {

const google::protobuf::EnumValueDescriptor* FindValue(const google::protobuf::EnumDescriptor& type,
                                                       std::string_view row_name) {
  // Every enum of the API begins with its prefix and UNSPECIFIED, as METHOD_UNSPECIFIED.
  const auto prefix = absl::StripSuffix(type.value(0)->name(), "UNSPECIFIED");
  return type.FindValueByName(std::string(prefix) +
                              absl::AsciiStrToUpper({row_name.data(), row_name.size()}));
}

}  // namespace svdllm
