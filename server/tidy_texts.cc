#include "server/tidy_texts.h"

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "base/utf8.h"
#include "queue/job.h"

namespace svdllm {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string Tidied(const FieldDescriptor& field, const std::string& text) {
  const std::string& name = field.name();
  const bool is_uri = name.ends_with("uri") || name.ends_with("uris");
  return is_uri ? ToValidUtf8(text) : Shortened(text, kMaxRecordedBytes);
}

void TidyField(Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  if (!field.is_repeated()) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return TidyTexts(*reflection.MutableMessage(&message, &field));
    }
    const std::string text = reflection.GetString(message, &field);
    return reflection.SetString(&message, &field, Tidied(field, text));
  }
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      TidyTexts(*reflection.MutableRepeatedMessage(&message, &field, i));
    } else {
      const std::string text = reflection.GetRepeatedString(message, &field, i);
      reflection.SetRepeatedString(&message, &field, i, Tidied(field, text));
    }
  }
}

}  // namespace

void TidyTexts(Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->type() == FieldDescriptor::TYPE_STRING ||
        field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      TidyField(message, *field);
    }
  }
}

}  // namespace svdllm
