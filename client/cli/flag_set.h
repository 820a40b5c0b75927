// The flags of one command: what each is called, says, and does with its value. CLI11 parses the
// arguments; its headers are seen by this room's source and command_line.cc alone.
#pragma once

#include <map>
#include <string>

#include "absl/strings/str_join.h"
#include "client/cli/values.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace svdllm::cli {

struct FlagText {
  std::string name;   // "keep_ratio"
  std::string value;  // what help calls the value: "R[,R...]"
  std::string help;   // what it does, and what holds where it is not given
};

class FlagSet {
 public:
  explicit FlagSet(CLI::App& command) : command_(command) {}

  // Flags that are added from now on stand under this title.
  void Group(const std::string& title) { group_ = title; }
  // --name, --name=true, --name=false
  void Switch(const std::string& name, bool* on, const std::string& help);
  // A flag that is given at most once; as often as one likes; with or without a value. Readers run
  // in the order in which flags were added.
  void Add(const FlagText& flag, ValueReader read);
  void AddRepeated(const FlagText& flag, ValueReader read);
  void AddOptional(const FlagText& flag, ValueReader read);
  // A flag whose values are those of the API's enum, and which help lists.
  template <typename Enum>
  void AddEnum(const std::string& name, const std::string& help, std::function<void(Enum)> take) {
    Add({name, Choices<Enum>(), help}, EnumValue<Enum>(std::move(take)));
  }
  template <typename Enum>
  void AddEnums(const std::string& name, const std::string& help, std::function<void(Enum)> take) {
    AddRepeated({name, Choices<Enum>(), help}, EnumValue<Enum>(std::move(take)));
  }
  // The one argument that is no flag.
  void Argument(const std::string& name, std::string* target);

  // Of flags that are there already.
  void Require(const std::string& name);
  // From within a reader: what takes the required flags' place has been given.
  void RequireNone();
  void Exclude(const std::string& name, const std::string& other);
  void Need(const std::string& name, const std::string& other);
  // Another spelling, which excludes the first.
  void Alias(const std::string& alias, const std::string& name);

 private:
  enum class Times { kOnce, kRepeated, kOptional };
  struct Row {
    FlagText text;
    Times times = Times::kOnce;
    ValueReader read;
    CLI::Option* option = nullptr;
  };

  template <typename Enum>
  static std::string Choices() {
    return absl::StrJoin(FlagValues(*google::protobuf::GetEnumDescriptor<Enum>()), "|");
  }
  void AddRow(const FlagText& flag, Times times, ValueReader read);
  CLI::Option* Find(const std::string& name) const;

  CLI::App& command_;
  std::string group_;
  std::map<std::string, Row> rows_;
};

}  // namespace svdllm::cli
