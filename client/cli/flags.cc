#include "client/cli/flags.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/suggest.h"

namespace svdllm::cli {
namespace {

absl::Status Wrong(const FlagSpec& flag, std::string_view value, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag.name, "=", std::string(value), " ", std::string(what)));
}

// The value as it is kept.
absl::StatusOr<std::string> Check(const FlagSpec& flag, const std::string& value) {
  int64_t integer = 0;
  bool on = false;
  double real = 0;
  absl::Duration duration;
  switch (flag.type) {
    case FlagType::kText:
      if (value.empty()) return Wrong(flag, value, "is empty");
      return value;
    case FlagType::kSwitch:
      if (!absl::SimpleAtob(value, &on)) return Wrong(flag, value, "is neither true nor false");
      return std::string(on ? "true" : "false");
    case FlagType::kInteger:
    case FlagType::kPositive: {
      const int64_t least = flag.type == FlagType::kPositive ? 1 : 0;
      if (absl::SimpleAtoi(value, &integer) && integer >= least) return value;
      return Wrong(flag, value, absl::StrCat("is not an integer of at least ", least));
    }
    case FlagType::kReal:
      if (absl::SimpleAtod(value, &real)) return value;
      return Wrong(flag, value, "is not a number");
    case FlagType::kReals:
      for (absl::string_view part : absl::StrSplit(value, ',')) {
        if (!absl::SimpleAtod(part, &real)) {
          return Wrong(flag, value, absl::StrCat("has '", part, "', which is not a number"));
        }
      }
      return value;
    case FlagType::kSizes:
      for (absl::string_view part : absl::StrSplit(value, ',')) {
        int32_t size = 0;
        if (!absl::SimpleAtoi(part, &size) || size < 1) {
          return Wrong(flag, value,
                       absl::StrCat("has '", part, "', which is not an integer of at least 1"));
        }
      }
      return value;
    case FlagType::kDuration:
      if (absl::ParseDuration(value, &duration) && duration > absl::ZeroDuration()) return value;
      return Wrong(flag, value, "is not a duration such as 90s or 1h30m");
    case FlagType::kChoice: {
      const std::vector<std::string> choices = absl::StrSplit(flag.value, '|');
      for (const std::string& choice : choices) {
        if (absl::EqualsIgnoreCase(choice, value)) return choice;
      }
      return Wrong(flag, value,
                   absl::StrCat("is not one of ", flag.value, DidYouMean(value, choices)));
    }
    case FlagType::kLabel:
      if (value.find('=') != std::string::npos && value[0] != '=') return value;
      return Wrong(flag, value, "is not of the form key=value");
  }
  return value;
}

}  // namespace

absl::StatusOr<Flags> Flags::Parse(const FlagTable& table,
                                   const std::vector<std::string>& arguments) {
  std::map<std::string, const FlagSpec*> specs;
  std::vector<std::string> names;
  Flags flags;
  for (const FlagGroup& group : table) {
    for (const FlagSpec& flag : group.flags) {
      specs[flag.name] = &flag;
      names.push_back(flag.name);
      if (!flag.default_value.empty()) flags.defaults_[flag.name] = flag.default_value;
    }
  }
  bool only_arguments = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string argument = arguments[i] == "-h" ? "--help" : arguments[i];
    if (only_arguments || argument.size() < 2 || argument[0] != '-') {
      flags.arguments_.push_back(argument);
      continue;
    }
    if (argument == "--") {
      only_arguments = true;
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string written = argument.substr(0, equals);
    const std::string name =
        absl::StrReplaceAll(absl::StripPrefix(absl::StripPrefix(written, "-"), "-"), {{"-", "_"}});
    const auto found = specs.find(name);
    if (found == specs.end() || !absl::StartsWith(written, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag ", written, DidYouMean(name, names, "--")));
    }
    const FlagSpec& flag = *found->second;
    std::string value;
    bool stands_alone = false;
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (flag.type == FlagType::kSwitch) {
      value = "true";
    } else if (flag.type == FlagType::kSizes) {
      stands_alone = true;
    } else if (i + 1 < arguments.size() && !absl::StartsWith(arguments[i + 1], "--")) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value: ", flag.value));
    }
    if (!stands_alone) {
      ASSIGN_OR_RETURN(value, Check(flag, value));
    }
    std::vector<std::string>& given = flags.given_[name];
    if (!given.empty() && !flag.repeated) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " is given twice"));
    }
    given.push_back(value);
  }
  return flags;
}

bool Flags::Has(std::string_view name) const { return given_.find(name) != given_.end(); }

bool Flags::On(std::string_view name) const { return Text(name) == "true"; }

std::string Flags::Text(std::string_view name) const {
  if (const auto given = given_.find(name); given != given_.end()) return given->second.back();
  const auto value = defaults_.find(name);
  return value == defaults_.end() ? "" : value->second;
}

std::vector<std::string> Flags::Texts(std::string_view name) const {
  const auto given = given_.find(name);
  return given == given_.end() ? std::vector<std::string>() : given->second;
}

int64_t Flags::Integer(std::string_view name) const {
  int64_t value = 0;
  (void)absl::SimpleAtoi(Text(name), &value);
  return value;
}

double Flags::Real(std::string_view name) const {
  double value = 0;
  (void)absl::SimpleAtod(Text(name), &value);
  return value;
}

std::vector<double> Flags::Reals(std::string_view name) const {
  std::vector<double> values;
  for (const std::string& text : Texts(name)) {
    for (absl::string_view part : absl::StrSplit(text, ',')) {
      (void)absl::SimpleAtod(part, &values.emplace_back());
    }
  }
  return values;
}

std::vector<int32_t> Flags::Sizes(std::string_view name) const {
  std::vector<int32_t> sizes;
  for (absl::string_view part : absl::StrSplit(Text(name), ',', absl::SkipEmpty())) {
    (void)absl::SimpleAtoi(part, &sizes.emplace_back());
  }
  return sizes;
}

double Flags::Seconds(std::string_view name) const {
  absl::Duration duration;
  (void)absl::ParseDuration(Text(name), &duration);
  return absl::ToDoubleSeconds(duration);
}

std::map<std::string, std::string> Flags::Labels(std::string_view name) const {
  std::map<std::string, std::string> labels;
  for (const std::string& text : Texts(name)) {
    const size_t equals = text.find('=');
    labels[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return labels;
}

std::string Wrap(std::string_view text, std::string_view indent, size_t width) {
  std::string result;
  size_t column = 0;
  for (absl::string_view word :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ' ', absl::SkipEmpty())) {
    if (column > 0 && column + 1 + word.size() > width) {
      result += "\n";
      column = 0;
    }
    const std::string_view before = column == 0 ? indent : " ";
    absl::StrAppend(&result, std::string(before), word);
    column += before.size() + word.size();
  }
  return result + "\n";
}

std::string FlagHelp(const FlagTable& table) {
  std::string text;
  for (const FlagGroup& group : table) {
    absl::StrAppend(&text, "\n", group.title, ":\n");
    for (const FlagSpec& flag : group.flags) {
      const bool alone = flag.type == FlagType::kSizes;
      absl::StrAppend(&text, "  --", flag.name,
                      alone                ? "[="
                      : flag.value.empty() ? ""
                                           : "=",
                      flag.value, alone ? "]" : "", flag.repeated ? " (may be repeated)" : "",
                      "\n");
      std::string help = flag.help;
      if (!flag.default_value.empty())
        absl::StrAppend(&help, " Default: ", flag.default_value, ".");
      text += Wrap(help, "      ");
    }
  }
  return text;
}

}  // namespace svdllm::cli
