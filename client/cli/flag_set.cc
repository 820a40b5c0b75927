#include "client/cli/flag_set.h"

#include <CLI/CLI.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace svdllm::cli {
namespace {

// Stands for the optional value that is not there, which "" would not tell from an empty one.
constexpr char kAlone[] = "\n";

// CLI11 passes errors of a callback on as exceptions; command_line.cc catches them.
[[noreturn]] void Fail(const std::string& message) {
  throw CLI::ValidationError(message, CLI::ExitCodes::ValidationError);
}

}  // namespace

void FlagSet::Switch(const std::string& name, bool* on, const std::string& help) {
  rows_[name] = {
      {name, "", help}, Times::kOnce, {}, command_.add_flag("--" + name, *on, help)->group(group_)};
}

void FlagSet::Add(const FlagText& flag, ValueReader read) {
  AddRow(flag, Times::kOnce, std::move(read));
}

void FlagSet::AddRepeated(const FlagText& flag, ValueReader read) {
  AddRow(flag, Times::kRepeated, std::move(read));
}

void FlagSet::AddOptional(const FlagText& flag, ValueReader read) {
  AddRow(flag, Times::kOptional, std::move(read));
}

void FlagSet::AddRow(const FlagText& flag, Times times, ValueReader read) {
  const std::string written = "--" + flag.name;
  const auto take = [=](const CLI::results_t& values) {
    if (values.size() > 1 && times != Times::kRepeated) Fail(written + " is given twice");
    for (const std::string& given : values) {
      const std::string value = given == kAlone ? "" : given;
      if (given.empty()) Fail(written + "= is empty");
      // CLI11 takes whatever comes next for the value, a flag too.
      if (absl::StartsWith(value, "--")) {
        Fail(absl::StrCat(written, " needs a value, ", flag.value, ", and not ", value));
      }
      const absl::Status status = read(value);
      if (!status.ok()) Fail(absl::StrCat(written, "=", value, " ", status.message()));
    }
    return true;
  };
  CLI::Option* const option = command_.add_option(written, CLI::callback_t(take), flag.help);
  const bool optional = times == Times::kOptional;
  option->group(group_)
      ->type_name(flag.value)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->expected(optional ? 0 : 1, 1)
      ->default_str(optional ? kAlone : "")
      ->option_text(absl::StrCat(optional ? "[=" : "=", flag.value, optional ? "]" : "",
                                 times == Times::kRepeated ? " (may be repeated)" : ""));
  rows_[flag.name] = {flag, times, std::move(read), option};
}

void FlagSet::Argument(const std::string& name, std::string* target) {
  rows_[name] = {{name, "", ""}, Times::kOnce, {}, command_.add_option(name, *target)->required()};
}

CLI::Option* FlagSet::Find(const std::string& name) const { return rows_.at(name).option; }

void FlagSet::Require(const std::string& name) { Find(name)->required(); }

void FlagSet::RequireNone() {
  for (auto& [name, row] : rows_) row.option->required(false);
}

void FlagSet::Exclude(const std::string& name, const std::string& other) {
  Find(name)->excludes(Find(other));
}

void FlagSet::Need(const std::string& name, const std::string& other) {
  Find(name)->needs(Find(other));
}

void FlagSet::Alias(const std::string& alias, const std::string& name) {
  const Row& row = rows_.at(name);
  AddRow({alias, row.text.value, absl::StrCat("The same as --", name, ".")}, row.times, row.read);
  Exclude(alias, name);
}

}  // namespace svdllm::cli
