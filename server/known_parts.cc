#include "server/known_parts.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <set>
#include <string>

namespace svdllm {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

class Search {
 public:
  // prefix: in front of the names of the message's fields, "calibration." or nothing.
  void Look(const Message& message, const std::string& prefix) {
    const Reflection& reflection = *message.GetReflection();
    LookAtNumbers(reflection.GetUnknownFields(message), prefix);
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      const std::string path = prefix + field->name();
      if (!field->is_repeated()) {
        LookAtValue(message, *field, -1, path);
        continue;
      }
      const int size = reflection.FieldSize(message, field);
      for (int i = 0; i < size && !IsFull(); ++i) {
        LookAtValue(message, *field, i, path + "[" + std::to_string(i) + "]");
      }
    }
  }

  std::vector<FieldViolation> Take() { return std::move(violations_); }

 private:
  bool IsFull() const { return violations_.size() >= kMaxViolations; }

  void LookAtNumbers(const google::protobuf::UnknownFieldSet& unknown, const std::string& prefix) {
    std::set<int> numbers;  // a repeated field has its number again and again
    for (int i = 0; i < unknown.field_count() && !IsFull(); ++i) {
      const int number = unknown.field(i).number();
      if (!numbers.insert(number).second) continue;
      violations_.push_back({prefix + std::to_string(number),
                             "this server knows no field of the number " + std::to_string(number)});
    }
  }

  // index: of a repeated field's element; else -1.
  void LookAtValue(const Message& message, const FieldDescriptor& field, int index,
                   const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return Look(index < 0 ? reflection.GetMessage(message, &field)
                            : reflection.GetRepeatedMessage(message, &field, index),
                  path + ".");
    }
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM) return;
    const int value = index < 0 ? reflection.GetEnumValue(message, &field)
                                : reflection.GetRepeatedEnumValue(message, &field, index);
    if (field.enum_type()->FindValueByNumber(value) != nullptr) return;
    violations_.push_back({path, std::to_string(value) + " is no " + field.enum_type()->name() +
                                     " that this server knows"});
  }

  std::vector<FieldViolation> violations_;
};

}  // namespace

std::vector<FieldViolation> UnknownParts(const Message& message) {
  Search search;
  search.Look(message, "");
  return search.Take();
}

absl::Status CheckKnown(const Message& message) {
  const std::vector<FieldViolation> unknown = UnknownParts(message);
  return unknown.empty() ? absl::OkStatus() : InvalidFields(unknown);
}

}  // namespace svdllm
