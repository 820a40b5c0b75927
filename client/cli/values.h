// What the values of flags may be. A reader is made for one flag: it checks the text that was given
// and hands over what the text says.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "base/status.h"
#include "client/cli/enum_names.h"

namespace svdllm::cli {

// The error says what is wrong, to stand behind "--flag=value ".
using ValueReader = std::function<absl::Status(const std::string& text)>;

// Any text, which becomes *target; or is added to it.
ValueReader TextValue(std::string* target);
ValueReader TextValue(std::vector<std::string>* target);
// One word or several, separated by commas.
ValueReader WordList(std::vector<std::string>* target);
// In decimal digits, from least to most.
ValueReader IntegerValue(int64_t least, std::function<void(int64_t)> take,
                         int64_t most = INT64_MAX);
ValueReader RealValue(std::function<void(double)> take);
// One number or several, separated by commas; take gets each.
ValueReader RealList(std::function<void(double)> take);
// Likewise, of integers of at least 1. An empty text has none: the flag stands alone.
ValueReader SizeList(std::function<void(int32_t)> take);
// The longest duration that messages can say.
constexpr absl::Duration LongestDuration() { return absl::Seconds(315'576'000'000); }
// "90s", "1h30m"; take gets seconds.
ValueReader DurationValue(std::function<void(double)> take);
// "KEY=VALUE"
ValueReader LabelValue(std::function<void(const std::string& key, const std::string& value)> take);
// A value of the API's enum, which take gets the number of.
ValueReader EnumNumber(const google::protobuf::EnumDescriptor& type, std::function<void(int)> take);

template <typename Enum>
ValueReader EnumValue(std::function<void(Enum)> take) {
  return EnumNumber(*google::protobuf::GetEnumDescriptor<Enum>(),
                    [take = std::move(take)](int number) { take(static_cast<Enum>(number)); });
}

}  // namespace svdllm::cli
