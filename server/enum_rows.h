// The API's enum values and the rows of the program's tables, by name: v1::METHOD_SVD_LLM is the
// row "svd_llm" of Methods(). What a new method, allocation or encoding is called stands in its row
// and in the .proto, and here nothing has to be added for it.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/generated_enum_reflection.h>

#include <span>
#include <string>
#include <string_view>

namespace svdllm {

// The value named after a row: METHOD_SVD_LLM for "svd_llm". nullptr where the API has none.
const google::protobuf::EnumValueDescriptor* FindValue(const google::protobuf::EnumDescriptor& type,
                                                       std::string_view row_name);

// The same, as the enum; its 0 where the API has none.
template <typename Enum>
Enum ValueNamed(std::string_view row_name) {
  const auto* const value = FindValue(*google::protobuf::GetEnumDescriptor<Enum>(), row_name);
  return static_cast<Enum>(value == nullptr ? 0 : value->number());
}

// The row of a value; nullptr for 0, which names none, and for a value without a row.
template <typename Enum, typename Row>
const Row* FindRow(std::span<const Row> rows, Enum value) {
  if (static_cast<int>(value) == 0) return nullptr;
  for (const Row& row : rows) {
    if (ValueNamed<Enum>(row.name) == value) return &row;
  }
  return nullptr;
}

// The row of a value that may be left open: that becomes the value of default_name. nullptr where a
// value is given that has no row.
template <typename Enum, typename Row>
const Row* ResolveRow(std::span<const Row> rows, std::string_view default_name, Enum& value) {
  if (static_cast<int>(value) == 0) value = ValueNamed<Enum>(default_name);
  return FindRow(rows, value);
}

}  // namespace svdllm
