// Command line flags as tables: a row is a flag, a command has a list of groups of rows. The same
// rows parse the arguments and print the help.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm::cli {

enum class FlagType {
  kSwitch,  // --name, --name=true, --name=false
  kText,
  kInteger,   // at least 0
  kPositive,  // an integer, at least 1
  kReal,
  kReals,     // one or several, separated by commas
  kSizes,     // integers of at least 1, likewise; the flag may stand without any
  kDuration,  // 90s, 1h30m
  kChoice,  // one of the names in FlagSpec::value, which are separated by '|'; case does not matter
  kLabel,   // key=value
};

struct FlagSpec {
  std::string name;
  FlagType type = FlagType::kText;
  std::string value;          // what help calls the value: "DIR", "text|json"
  std::string default_value;  // for help, and what Text() answers; empty: none
  std::string help;
  bool repeated = false;
};

struct FlagGroup {
  std::string title;
  std::vector<FlagSpec> flags;
};
using FlagTable = std::vector<FlagGroup>;

// The parsed arguments of one command. Values are checked against their types when parsed, so the
// readers do not fail.
class Flags {
 public:
  // Errors are INVALID_ARGUMENT and name the flag, with a suggestion where one is close. '-' in a
  // flag's name counts as '_'; "--" ends the flags; -h counts as --help.
  static absl::StatusOr<Flags> Parse(const FlagTable& table,
                                     const std::vector<std::string>& arguments);

  bool Has(std::string_view name) const;
  bool On(std::string_view name) const;           // kSwitch
  std::string Text(std::string_view name) const;  // the last one given, or the default
  std::vector<std::string> Texts(std::string_view name) const;  // all that were given
  int64_t Integer(std::string_view name) const;  // kInteger, kPositive, given or with a default
  double Real(std::string_view name) const;      // kReal, given or with a default
  std::vector<double> Reals(std::string_view name) const;
  std::vector<int32_t> Sizes(std::string_view name) const;  // empty also where it stands alone
  double Seconds(std::string_view name) const;              // kDuration, given or with a default
  std::map<std::string, std::string> Labels(std::string_view name) const;
  // What is not a flag.
  const std::vector<std::string>& arguments() const { return arguments_; }

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> given_;
  std::map<std::string, std::string, std::less<>> defaults_;
  std::vector<std::string> arguments_;
};

// One paragraph a flag, under its group's title.
std::string FlagHelp(const FlagTable& table);
// Words of text in lines of at most width columns, each behind indent.
std::string Wrap(std::string_view text, std::string_view indent, size_t width = 90);

}  // namespace svdllm::cli
