#include "client/cli/recipe.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/suggest.h"
#include "client/cli/enum_names.h"
#include "client/cli/values.h"
#include "client/cli/yaml.h"

namespace svdllm::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

absl::Status Wrong(const YamlNode& node, const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", node.line, ": ", path, path.empty() ? "" : ": ", what));
}

absl::Status NotA(const YamlNode& node, const std::string& path, const std::string& what) {
  return Wrong(node, path, absl::StrCat("'", node.text, "' is not ", what));
}

const FieldDescriptor* FindField(const Descriptor& type, const std::string& name) {
  const FieldDescriptor* const field = type.FindFieldByName(name);
  return field != nullptr ? field : type.FindFieldByCamelcaseName(name);
}

std::string NoSuchField(const Descriptor& type, const std::string& name) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return absl::StrCat("there is no such field", DidYouMean(name, names));
}

absl::Status FillDuration(const YamlNode& node, const std::string& path, Message* message) {
  absl::Duration duration;
  if (node.kind != YamlNode::Kind::kScalar || !absl::ParseDuration(node.text, &duration)) {
    return NotA(node, path, "a duration such as 90s or 1h30m");
  }
  if (duration > LongestDuration() || duration < -LongestDuration()) {
    return NotA(node, path, "a duration of at most 10,000 years");
  }
  google::protobuf::Duration value;
  value.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  value.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  message->CopyFrom(value);
  return absl::OkStatus();
}

const EnumValueDescriptor* FindEnumValue(const EnumDescriptor& type, const std::string& text) {
  if (const auto* const known = FindValue(type, text)) return known;
  int number = 0;
  return absl::SimpleAtoi(text, &number) ? type.FindValueByNumber(number)
                                         : type.FindValueByName(text);
}

class Filler {
 public:
  absl::Status Fill(const YamlNode& node, const std::string& path, Message* message) {
    if (node.kind != YamlNode::Kind::kMap) return Wrong(node, path, "is not a list of fields");
    const Descriptor& type = *message->GetDescriptor();
    std::set<const FieldDescriptor*> seen;
    for (const auto& [key, value] : node.members) {
      const std::string inner = absl::StrCat(path, path.empty() ? "" : ".", key.text);
      const FieldDescriptor* const field = FindField(type, key.text);
      if (field == nullptr) return Wrong(key, inner, NoSuchField(type, key.text));
      if (!seen.insert(field).second) return Wrong(key, inner, "is given twice");
      if (value.IsNull()) continue;  // as if it were not there
      const auto* const oneof = field->containing_oneof();
      if (oneof != nullptr && message->GetReflection()->HasOneof(*message, oneof)) {
        const auto* const other =
            message->GetReflection()->GetOneofFieldDescriptor(*message, oneof);
        if (other != field) return Wrong(key, inner, "excludes " + other->name());
      }
      RETURN_IF_ERROR(FillField(value, inner, *field, message));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status FillField(const YamlNode& node, const std::string& path,
                         const FieldDescriptor& field, Message* message) {
    if (field.is_map()) return FillMap(node, path, field, message);
    if (!field.is_repeated()) return Put(node, path, field, message);
    if (node.kind != YamlNode::Kind::kList)
      return Wrong(node, path, "is not a list, such as [1, 2]");
    for (size_t i = 0; i < node.items.size(); ++i) {
      RETURN_IF_ERROR(Put(node.items[i], absl::StrCat(path, "[", i, "]"), field, message));
    }
    return absl::OkStatus();
  }

  absl::Status FillMap(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                       Message* message) {
    if (node.kind != YamlNode::Kind::kMap) return Wrong(node, path, "is not a list of keys");
    const Descriptor& entry_type = *field.message_type();
    std::set<std::string> seen;
    for (const auto& [key, value] : node.members) {
      const std::string inner = absl::StrCat(path, ".", key.text);
      if (!seen.insert(key.text).second) return Wrong(key, inner, "is given twice");
      Message* const entry = message->GetReflection()->AddMessage(message, &field);
      RETURN_IF_ERROR(Put(key, inner, *entry_type.map_key(), entry));
      RETURN_IF_ERROR(Put(value, inner, *entry_type.map_value(), entry));
    }
    return absl::OkStatus();
  }

  // One value: of a field, or one more of a repeated one.
  absl::Status Put(const YamlNode& node, const std::string& path, const FieldDescriptor& field,
                   Message* message) {
    const Reflection& in = *message->GetReflection();
    const bool add = field.is_repeated();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* const part =
          add ? in.AddMessage(message, &field) : in.MutableMessage(message, &field);
      return part->GetDescriptor() == google::protobuf::Duration::descriptor()
                 ? FillDuration(node, path, part)
                 : Fill(node, path, part);
    }
    if (node.kind != YamlNode::Kind::kScalar) return Wrong(node, path, "is not a single value");
    const std::string& text = node.text;
    const auto put = [&](auto value, auto adder, auto setter) {
      if (add) {
        (in.*adder)(message, &field, value);
      } else {
        (in.*setter)(message, &field, value);
      }
      return absl::OkStatus();
    };
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        return put(text, &Reflection::AddString, &Reflection::SetString);
      case FieldDescriptor::CPPTYPE_BOOL:
        if (node.quoted || (text != "true" && text != "false")) {
          return NotA(node, path, "true or false");
        }
        return put(text == "true", &Reflection::AddBool, &Reflection::SetBool);
      case FieldDescriptor::CPPTYPE_INT32: {
        int32_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return NotA(node, path, "an integer of 32 bits");
        return put(value, &Reflection::AddInt32, &Reflection::SetInt32);
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return NotA(node, path, "an integer");
        return put(value, &Reflection::AddInt64, &Reflection::SetInt64);
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return NotA(node, path, "an integer of at least 0");
        return put(value, &Reflection::AddUInt64, &Reflection::SetUInt64);
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double value = 0;
        if (!absl::SimpleAtod(text, &value)) return NotA(node, path, "a number");
        return put(value, &Reflection::AddDouble, &Reflection::SetDouble);
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const EnumDescriptor& type = *field.enum_type();
        const EnumValueDescriptor* const value = FindEnumValue(type, text);
        if (value != nullptr) return put(value, &Reflection::AddEnum, &Reflection::SetEnum);
        const std::vector<std::string> names = FlagValues(type);
        return NotA(node, path,
                    absl::StrCat("one of ", absl::StrJoin(names, "|"),
                                 DidYouMean(WithoutPrefix(type, text), names)));
      }
      default:
        return Wrong(node, path, "is of a type that recipes do not have");
    }
  }
};

}  // namespace

absl::Status ReadRecipe(const std::string& text, Message* request) {
  ASSIGN_OR_RETURN(const YamlNode root, ParseYaml(text));
  return Filler().Fill(root, "", request);
}

absl::StatusOr<std::string> ToRecipe(const Message& request) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(request, &text, options);
  if (!status.ok()) {  // a time out of range
    return absl::InvalidArgumentError(absl::StrCat("has no JSON form: ", status.ToString()));
  }
  if (text.empty() || text.back() != '\n') text += '\n';
  return text;
}

}  // namespace svdllm::cli
