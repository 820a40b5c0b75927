// completion: what a shell needs to complete svdllm's arguments, made of the commands themselves.
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/cli/command_line.h"

namespace svdllm::cli {
namespace {

constexpr char kCompletion[] = "completion";

// Reads what has been typed: the command, the flag whose value is being typed, its beginning.
constexpr char kBash[] = R"sh(_svdllm() {
  local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} cur='' previous command flag value word
  local -a words plain
  read -ra words <<<"$line"
  if [[ $line != *[[:space:]] ]]; then
    cur=${words[-1]}
    unset 'words[-1]'
  fi
  previous=${words[-1]}
  for word in "${words[@]:1}"; do
    [[ $word == -* ]] || plain+=("$word")
  done
  for command in "${plain[0]} ${plain[1]}" "${plain[0]}" ''; do
    [[ -n $(_svdllm_flags "$command") ]] && break
  done
  COMPREPLY=()
  if [[ -z $command ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_svdllm_words "${plain[*]}")" -- "$cur")
    return
  fi
  case $cur in
    --*=*) flag=${cur%%=*} value=${cur##*[=:]} ;;
    -*) flag='' ;;
    *) flag=$previous value=$cur ;;
  esac
  # Where '=' divides words, the shell puts in the part behind it alone.
  local before=${cur%"$value"}
  [[ $COMP_WORDBREAKS == *=* ]] && before=''
  word=$(_svdllm_values "$command" "$flag")
  if [[ $word == FILE ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -P "$before" -f -- "$value")
  elif [[ -n $word ]]; then
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$word" -- "$value")
  else
    mapfile -t COMPREPLY < <(compgen -W "$(_svdllm_flags "$command")" -- "$cur")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  fi
}
complete -F _svdllm svdllm
)sh";

constexpr char kZshEnd[] = R"sh(if [[ $funcstack[1] == _svdllm ]]; then
  _svdllm "$@"
else
  compdef _svdllm svdllm
fi
)sh";

bool IsFile(const DescribedFlag& flag) {
  return absl::StrContains(flag.value, "FILE") || absl::StrContains(flag.value, "DIR");
}

// "svd asvd" of "svd|asvd"; nothing of a value that is no choice.
std::string ChoicesOf(const DescribedFlag& flag) {
  const bool choice =
      absl::StrContains(flag.value, "|") &&
      flag.value.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_|") == std::string::npos;
  return choice ? absl::StrReplaceAll(flag.value, {{"|", " "}}) : "";
}

std::string Written(const DescribedFlag& flag) {
  return absl::StrCat("--", flag.name, flag.value.empty() ? "" : "=");
}

// A word of the shell, whatever is in it.
std::string Quoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// The first word of each command; the second of those of a group.
std::vector<std::string> WordsBehind(const std::vector<DescribedCommand>& commands,
                                     const std::string& group) {
  std::set<std::string> words;
  if (group.empty()) words.insert("help");
  for (const DescribedCommand& command : commands) {
    const std::vector<std::string> parts = absl::StrSplit(command.name, ' ');
    if (group.empty()) words.insert(parts[0]);
    if (parts.size() > 1 && parts[0] == group) words.insert(parts[1]);
  }
  return {words.begin(), words.end()};
}

std::vector<std::string> GroupsOf(const std::vector<DescribedCommand>& commands) {
  std::set<std::string> groups;
  for (const DescribedCommand& command : commands) {
    const size_t blank = command.name.find(' ');
    if (blank != std::string::npos) groups.insert(command.name.substr(0, blank));
  }
  return {groups.begin(), groups.end()};
}

std::string BashScript(const std::vector<DescribedCommand>& commands) {
  std::string words, flags, values;
  for (const std::string& group : GroupsOf(commands)) {
    absl::StrAppend(&words, "    ", Quoted(group), ") echo ",
                    Quoted(absl::StrJoin(WordsBehind(commands, group), " ")), " ;;\n");
  }
  absl::StrAppend(&words, "    ''|help) echo ",
                  Quoted(absl::StrJoin(WordsBehind(commands, ""), " ")), " ;;\n");
  for (const DescribedCommand& command : commands) {
    std::vector<std::string> written;
    if (command.name == kCompletion) written = {"bash", "zsh"};
    for (const DescribedFlag& flag : command.flags) {
      written.push_back(Written(flag));
      const std::string choices = IsFile(flag) ? "FILE" : ChoicesOf(flag);
      if (choices.empty()) continue;
      absl::StrAppend(&values, "    ", Quoted(absl::StrCat(command.name, " --", flag.name)),
                      ") echo ", Quoted(choices), " ;;\n");
    }
    absl::StrAppend(&flags, "    ", Quoted(command.name), ") echo ",
                    Quoted(absl::StrJoin(written, " ")), " ;;\n");
  }
  return absl::StrCat("# Completes svdllm's arguments in bash; made by: svdllm completion bash\n",
                      "_svdllm_words() {\n  case $1 in\n", words, "  esac\n}\n",
                      "_svdllm_flags() {\n  case $1 in\n", flags, "  esac\n}\n",
                      "_svdllm_values() {\n  case \"$1 $2\" in\n", values, "  esac\n}\n", kBash);
}

// A text within a specification of _arguments or _describe, whose parts are divided by colons.
std::string ZshText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\\", "\\\\"}, {":", "\\:"}, {"[", "\\["}, {"]", "\\]"}});
}

std::string ZshFlag(const DescribedFlag& flag) {
  const std::string help = flag.help.substr(0, flag.help.find_first_of(".:;"));
  std::string spec = absl::StrCat("*", Written(flag), "[", ZshText(help), "]");
  if (flag.value.empty()) return spec;
  absl::StrAppend(&spec, ":", ZshText(flag.value), ":");
  const std::string choices = ChoicesOf(flag);
  if (IsFile(flag)) {
    absl::StrAppend(&spec, "_files");
  } else if (!choices.empty()) {
    absl::StrAppend(&spec, "(", choices, ")");
  }
  return spec;
}

std::string ZshScript(const std::vector<DescribedCommand>& commands) {
  std::string text = "#compdef svdllm\n# Made by: svdllm completion zsh\n_svdllm() {\n";
  absl::StrAppend(&text, "  local command=$words[2] skipped=1\n",
                  "  if (( CURRENT == 2 )); then\n    compadd ",
                  absl::StrJoin(WordsBehind(commands, ""), " "), "\n    return\n  fi\n");
  for (const std::string& group : GroupsOf(commands)) {
    absl::StrAppend(
        &text, "  if [[ $command == ", group,
        " ]]; then\n    if (( CURRENT == 3 )); then\n      compadd ",
        absl::StrJoin(WordsBehind(commands, group), " "),
        "\n      return\n    fi\n    command=\"$words[2] $words[3]\" skipped=2\n  fi\n");
  }
  absl::StrAppend(&text,
                  "  shift $skipped words\n  (( CURRENT -= skipped ))\n  case $command in\n");
  for (const DescribedCommand& command : commands) {
    absl::StrAppend(&text, "    (", Quoted(command.name), ")\n      _arguments");
    for (const DescribedFlag& flag : command.flags) {
      absl::StrAppend(&text, " \\\n        ", Quoted(ZshFlag(flag)));
    }
    if (command.name == kCompletion) absl::StrAppend(&text, " \\\n        '1:shell:(bash zsh)'");
    absl::StrAppend(&text, "\n      ;;\n");
  }
  return absl::StrCat(text, "  esac\n}\n", kZshEnd);
}

CommandAction DefineCompletion(FlagSet& flags) {
  const auto shell = std::make_shared<std::string>();
  flags.Argument("SHELL", shell.get());
  return [shell](CommandContext& context) -> absl::StatusOr<int> {
    const std::vector<DescribedCommand> commands = DescribeCommands(AllCommands());
    if (*shell != "bash" && *shell != "zsh") {
      return UsageError(absl::StrCat("completion is for bash and for zsh, not for ", *shell));
    }
    context.environment.out << (*shell == "bash" ? BashScript(commands) : ZshScript(commands))
                            << std::flush;
    return kExitOk;
  };
}

}  // namespace

std::vector<CommandSpec> CompletionCommands() {
  return {
      {kCompletion, "bash|zsh", "Prints what makes a shell complete svdllm's arguments.",
       "Prints what makes bash or zsh complete commands, flags, their values and files. Asks no "
       "server. Examples:\n"
       "  source <(svdllm completion bash)\n"
       "  svdllm completion zsh > \"${fpath[1]}/_svdllm\"",
       &DefineCompletion}};
}

}  // namespace svdllm::cli
