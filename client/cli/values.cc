#include "client/cli/values.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/suggest.h"

namespace svdllm::cli {
namespace {

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

// Every part of a list is read by parse, and all of them before any is taken.
template <typename T>
ValueReader List(bool (*parse)(absl::string_view, T*), const char* what,
                 std::function<void(T)> take) {
  return [=](const std::string& text) -> absl::Status {
    std::vector<T> values;
    for (absl::string_view part : absl::StrSplit(text, ',')) {
      if (!parse(part, &values.emplace_back())) {
        return Wrong(absl::StrCat("has '", part, "', which is not ", what));
      }
    }
    for (const T value : values) take(value);
    return absl::OkStatus();
  };
}

bool ParseReal(absl::string_view text, double* value) { return absl::SimpleAtod(text, value); }

bool ParseSize(absl::string_view text, int32_t* value) {
  return absl::SimpleAtoi(text, value) && *value >= 1;
}

}  // namespace

ValueReader TextValue(std::string* target) {
  return [target](const std::string& text) {
    *target = text;
    return absl::OkStatus();
  };
}

ValueReader TextValue(std::vector<std::string>* target) {
  return [target](const std::string& text) {
    target->push_back(text);
    return absl::OkStatus();
  };
}

ValueReader WordList(std::vector<std::string>* target) {
  return [target](const std::string& text) {
    const std::vector<std::string> words = absl::StrSplit(text, ',', absl::SkipEmpty());
    target->insert(target->end(), words.begin(), words.end());
    return words.empty() ? Wrong("names nothing") : absl::OkStatus();
  };
}

ValueReader IntegerValue(int64_t least, std::function<void(int64_t)> take, int64_t most) {
  return [=](const std::string& text) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value) || value < least) {
      return Wrong(absl::StrCat("is not an integer of at least ", least));
    }
    if (value > most) return Wrong(absl::StrCat("is above ", most));
    take(value);
    return absl::OkStatus();
  };
}

ValueReader RealValue(std::function<void(double)> take) {
  return [=](const std::string& text) {
    double value = 0;
    if (!ParseReal(text, &value)) return Wrong("is not a number");
    take(value);
    return absl::OkStatus();
  };
}

ValueReader RealList(std::function<void(double)> take) {
  return List<double>(&ParseReal, "a number", std::move(take));
}

ValueReader SizeList(std::function<void(int32_t)> take) {
  const ValueReader list = List<int32_t>(&ParseSize, "an integer of at least 1", std::move(take));
  return [list](const std::string& text) { return text.empty() ? absl::OkStatus() : list(text); };
}

ValueReader DurationValue(std::function<void(double)> take) {
  return [=](const std::string& text) {
    absl::Duration duration;
    if (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration()) {
      return Wrong("is not a duration such as 90s or 1h30m");
    }
    if (duration > LongestDuration()) return Wrong("is longer than 10,000 years");
    take(absl::ToDoubleSeconds(duration));
    return absl::OkStatus();
  };
}

ValueReader LabelValue(std::function<void(const std::string&, const std::string&)> take) {
  return [=](const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) return Wrong("is not of the form key=value");
    take(text.substr(0, equals), text.substr(equals + 1));
    return absl::OkStatus();
  };
}

ValueReader EnumNumber(const google::protobuf::EnumDescriptor& type,
                       std::function<void(int)> take) {
  return [&type, take = std::move(take)](const std::string& text) {
    const auto* const value = FindValue(type, text);
    if (value == nullptr) {
      const std::vector<std::string> names = FlagValues(type);
      return Wrong(absl::StrCat("is not one of ", absl::StrJoin(names, "|"),
                                DidYouMean(WithoutPrefix(type, text), names)));
    }
    take(value->number());
    return absl::OkStatus();
  };
}

}  // namespace svdllm::cli
