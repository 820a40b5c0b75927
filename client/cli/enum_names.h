// The API's enum values as people write them. In the API a value's name begins with its enum's name
// (JOB_STATE_QUEUED); the command says "QUEUED" and takes "queued".
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/generated_enum_reflection.h>

#include <string>
#include <string_view>

namespace svdllm::cli {

// "QUEUED" for JOB_STATE_QUEUED. A value that only a newer server knows is its number.
std::string ShortName(const google::protobuf::EnumDescriptor& type, int value);
// The value whose short name this is, in capitals or not; nullptr where there is none.
const google::protobuf::EnumValueDescriptor* FindShortName(
    const google::protobuf::EnumDescriptor& type, std::string_view name);

template <typename Enum>
std::string ShortName(Enum value) {
  return ShortName(*google::protobuf::GetEnumDescriptor<Enum>(), static_cast<int>(value));
}

// The enum's value of 0, which stands for none, where the name is no value's.
template <typename Enum>
Enum FromShortName(std::string_view name) {
  const auto* const value = FindShortName(*google::protobuf::GetEnumDescriptor<Enum>(), name);
  return static_cast<Enum>(value == nullptr ? 0 : value->number());
}

}  // namespace svdllm::cli
