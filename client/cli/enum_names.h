// The API's enum values as people write them. In the API a value's name begins with its enum's name
// (JOB_STATE_QUEUED); the command says "QUEUED" and takes "queued".
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/generated_enum_reflection.h>

#include <string>
#include <string_view>
#include <vector>

namespace svdllm::cli {

// "QUEUED" for JOB_STATE_QUEUED. A value that only a newer server knows is its number.
std::string ShortName(const google::protobuf::EnumDescriptor& type, int value);
// What a flag of this type takes, as help and errors list it: "queued", "running" and so on. The
// value of 0, which stands for none, is not among them.
std::vector<std::string> FlagValues(const google::protobuf::EnumDescriptor& type);
// "svd_llm" of "METHOD_svd_llm": the name without what its enum's values begin with.
std::string WithoutPrefix(const google::protobuf::EnumDescriptor& type, std::string_view name);
// The value of this name, written short or in full, in capitals or not; nullptr where there is
// none.
const google::protobuf::EnumValueDescriptor* FindValue(const google::protobuf::EnumDescriptor& type,
                                                       std::string_view name);

template <typename Enum>
std::string ShortName(Enum value) {
  return ShortName(*google::protobuf::GetEnumDescriptor<Enum>(), static_cast<int>(value));
}

}  // namespace svdllm::cli
