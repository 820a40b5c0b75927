#include "client/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <list>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/suggest.h"
#include "client/cli/format.h"

namespace svdllm::cli {
namespace {

constexpr char kCommonGroup[] = "Flags of every command";
constexpr char kHelpOfHelp[] = "Explains a command and its flags; so does COMMAND --help.";

constexpr char kExitStatuses[] =
    "Exit status: 0 done, and the job that was waited for succeeded; 1 that job failed or was\n"
    "cancelled; 2 wrong usage; 3 the server could not be reached; 4 the server refused; 5 the job\n"
    "that was waited for found more lost than its threshold allows; 6 the job had not ended when\n"
    "the time of jobs wait was up; 130 Ctrl-C.\n";

// The commands whose names begin with group ("jobs"), or all.
std::string Overview(const std::vector<CommandSpec>& commands, const std::string& group) {
  std::vector<std::vector<std::string>> rows;
  for (const CommandSpec& command : commands) {
    if (group.empty() || absl::StartsWith(command.name, group + " "))
      rows.push_back({"  " + command.name, command.summary});
  }
  rows.push_back({"  help [COMMAND]", kHelpOfHelp});
  return absl::StrCat("svdllm ", SVDLLM_VERSION,
                      ": compresses language models with SVD-LLM, on a server.\n\n",
                      "Usage: svdllm COMMAND [flags]\n\nCommands:\n", Table(rows),
                      "\nThe server is --server=ADDR, $SVDLLM_SERVER, or ", kDefaultServer,
                      ". svdllm --version prints the version.\n\n", kExitStatuses);
}

// One paragraph per flag, under its group's title. CLI11's own layout has two columns and does not
// wrap lines.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(const CommandSpec& command) : command_(command) {}

  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode mode) const override {
    std::string text = absl::StrCat("Usage: svdllm ", command_.name, " ", command_.arguments,
                                    command_.arguments.empty() ? "" : " ", "[flags]\n\n");
    for (absl::string_view paragraph : absl::StrSplit(command_.help, '\n')) {
      // Indented lines are examples, to be copied as they are.
      if (absl::StartsWith(paragraph, "  ")) {
        absl::StrAppend(&text, paragraph, "\n");
      } else {
        text += Wrap(std::string(paragraph), "");
      }
    }
    return absl::StrCat(text, "\n", make_groups(app, mode), "\n", kExitStatuses);
  }

  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    std::string text = group + ":\n";
    for (const CLI::Option* option : options) text += make_option(option, is_positional);
    return text;
  }

  std::string make_option(const CLI::Option* option, bool) const override {
    return absl::StrCat("  ", option->get_name(false, true), option->get_option_text(),
                        option->get_required() ? " (required)" : "", "\n",
                        Wrap(option->get_description(), "      "));
  }

 private:
  const CommandSpec command_;
};

// The tree of commands: each word of a command's name is a subcommand of CLI11's.
class Tree {
 public:
  Tree(const std::vector<CommandSpec>& commands, CommandLine* line)
      : root_("", "svdllm"), commands_(commands), line_(line) {
    root_.set_help_flag("-h,--help", "Prints this help.");
    root_.set_version_flag("--version", absl::StrCat("svdllm ", SVDLLM_VERSION, "\n"));
    for (const CommandSpec& command : commands) Add(command);
  }

  // Fills the line.
  void Parse(std::vector<std::string> arguments);
  std::vector<DescribedCommand> Describe() const;

 private:
  struct Leaf {
    const CommandSpec* spec = nullptr;
    CommandAction run;
    std::vector<std::string> flags;  // for suggestions
  };

  void Add(const CommandSpec& command);
  void AddCommonFlags(CLI::App& app, FlagSet& flags);
  // The innermost command that was named; the root where none was.
  const CLI::App& Named() const;
  // The first argument that has no place.
  std::optional<std::string> Stray() const;
  std::string OverviewOf(const CLI::App& app) const;
  void Fail(const CLI::ParseError& error);

  CLI::App root_;
  std::map<std::pair<const CLI::App*, std::string>, CLI::App*> named_;
  std::list<FlagSet> flag_sets_;
  std::map<const CLI::App*, Leaf> leaves_;
  const std::vector<CommandSpec>& commands_;
  CommandLine* line_;
};

void Tree::Add(const CommandSpec& command) {
  CLI::App* app = &root_;
  for (const absl::string_view word : absl::StrSplit(command.name, ' ')) {
    CLI::App*& known = named_[{app, std::string(word)}];
    app->require_subcommand(1);
    if (known == nullptr) known = app->add_subcommand(std::string(word));
    app = known;
  }
  app->formatter(std::make_shared<HelpFormatter>(command));
  FlagSet& flags = flag_sets_.emplace_back(*app);
  Leaf& leaf = leaves_[app];
  leaf.spec = &command;
  leaf.run = command.define(flags);
  AddCommonFlags(*app, flags);
  for (const CLI::Option* option : app->get_options()) {
    for (const std::string& name : option->get_lnames()) leaf.flags.push_back(name);
  }
}

void Tree::AddCommonFlags(CLI::App& app, FlagSet& flags) {
  flags.Group(kCommonGroup);
  flags.Add(
      {"server", "ADDR",
       absl::StrCat(
           "The server, as host:port or unix:PATH. The environment variable SVDLLM_SERVER sets it "
           "too. Default: ",
           kDefaultServer, ".")},
      TextValue(&line_->server));
  flags.Switch("tls", &line_->tls,
               "Connects with TLS, and trusts the CAs of the system. --ca and --cert do so too.");
  flags.Add({"ca", "FILE",
             "Certificates of the CAs that the server's must come from, in PEM. The environment "
             "variable SVDLLM_CA sets it too. Default: the system's, with --tls or --cert."},
            TextValue(&line_->ca));
  flags.Add({"cert", "FILE",
             "Your own certificate in PEM, where the server asks for one; also SVDLLM_CERT. "
             "Default: none."},
            TextValue(&line_->cert));
  flags.Add({"key", "FILE", "The private key of --cert, in PEM; also SVDLLM_KEY. Default: none."},
            TextValue(&line_->key));
  flags.Add({"token_file", "FILE",
             "File with your token, where the server asks for one; also SVDLLM_TOKEN_FILE. It is "
             "sent with TLS, or to this machine. Default: none."},
            TextValue(&line_->token_file));
  flags.Add(
      {"format", "text|json",
       "json: results and errors on standard output as JSON (protobuf's mapping), and nothing "
       "else there. Default: text."},
      [line = line_](const std::string& text) {
        line->json = text == "json";
        return line->json || text == "text" ? absl::OkStatus()
                                            : absl::InvalidArgumentError("is not one of text|json");
      });
  flags.Add({"rpc_timeout", "DURATION",
             "How long to keep trying to get an answer from the server. Does not limit the job. "
             "Default: 10s."},
            DurationValue([line = line_](double seconds) { line->rpc_timeout_seconds = seconds; }));
  // Inherited from the root, it would stand in front of the command's own.
  app.set_help_flag();
  app.set_help_flag("-h,--help", "Prints this help.")->group(kCommonGroup);
}

const CLI::App& Tree::Named() const {
  const CLI::App* app = &root_;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return *app;
}

std::optional<std::string> Tree::Stray() const {
  // Behind "--" a command without arguments left leaves them to the one around it.
  for (const CLI::App* app = &Named(); app != nullptr; app = app->get_parent()) {
    for (const std::string& argument : app->remaining()) {
      if (argument != "--") return argument;
    }
  }
  return std::nullopt;
}

std::string Tree::OverviewOf(const CLI::App& app) const {
  return Overview(commands_, &app == &root_ ? "" : app.get_name());
}

// An argument that has no place is told before anything else: a mistyped --model is also a missing
// one.
void Tree::Fail(const CLI::ParseError& error) {
  const CLI::App& named = Named();
  const auto leaf = leaves_.find(&named);
  const std::optional<std::string> stray = Stray();
  if (leaf != leaves_.end()) {
    line_->command = leaf->second.spec->name;
  } else if (&named != &root_) {
    line_->command = named.get_name();
  }
  if (leaf == leaves_.end() && !stray.has_value()) {
    line_->text = OverviewOf(named);
    line_->text_is_error = true;
  } else if (leaf == leaves_.end()) {
    const std::string written =
        line_->command.empty() ? *stray : absl::StrCat(line_->command, " ", *stray);
    std::vector<std::string> names;
    for (const CommandSpec& command : commands_) names.push_back(command.name);
    line_->error = absl::StrCat("unknown command '", written, "'", DidYouMean(written, names));
  } else if (!stray.has_value()) {
    line_->error = error.what();
  } else if (stray->size() < 2 || stray->front() != '-') {
    line_->error = absl::StrCat("unexpected argument '", *stray, "'");
  } else {
    const std::string written = stray->substr(0, stray->find('='));
    const std::string name(absl::StripPrefix(absl::StripPrefix(written, "-"), "-"));
    line_->error =
        absl::StrCat("unknown flag ", written, DidYouMean(name, leaf->second.flags, "--"));
  }
}

void Tree::Parse(std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    root_.parse(std::move(arguments));
    const Leaf& leaf = leaves_.at(&Named());
    line_->command = leaf.spec->name;
    line_->run = leaf.run;
  } catch (const CLI::CallForVersion& version) {
    line_->text = version.what();
  } catch (const CLI::CallForHelp& help) {
    const CLI::App& named = Named();
    if (leaves_.count(&named) > 0) {
      line_->text = named.help();
    } else if (Stray().has_value()) {
      Fail(help);
    } else {
      line_->text = OverviewOf(named);
    }
  } catch (const CLI::ParseError& error) {
    Fail(error);
  }
}

std::vector<DescribedCommand> Tree::Describe() const {
  std::vector<DescribedCommand> described;
  for (const CommandSpec& command : commands_) {
    const auto leaf = std::find_if(leaves_.begin(), leaves_.end(), [&](const auto& entry) {
      return entry.second.spec == &command;
    });
    DescribedCommand& added = described.emplace_back();
    added.name = command.name;
    for (const CLI::Option* option : leaf->first->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        const bool is_switch = option->get_expected_max() == 0;
        added.flags.push_back(
            {name, is_switch ? "" : option->get_type_name(), option->get_description()});
      }
    }
  }
  return described;
}

// As CLI11 takes it: '-' in a flag's name counts as '_', and an empty value is an argument of its
// own, since "--flag=" would have the next one for its value.
void AddWords(std::string argument, std::vector<std::string>* words) {
  const size_t equals = argument.find('=');
  const size_t end = std::min(equals, argument.size());
  std::replace(argument.begin() + 2, argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  if (end + 1 == argument.size()) {
    words->push_back(argument.substr(0, end));
    words->emplace_back();
  } else {
    words->push_back(argument);
  }
}

}  // namespace

std::vector<DescribedCommand> DescribeCommands(const std::vector<CommandSpec>& commands) {
  CommandLine unused;
  return Tree(commands, &unused).Describe();
}

CommandLine ParseCommandLine(const std::vector<CommandSpec>& commands,
                             const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  bool flags_end = false;
  for (const std::string& argument : arguments) {
    flags_end = flags_end || argument == "--";
    if (!flags_end && absl::StartsWith(argument, "--")) {
      AddWords(argument, &words);
    } else {
      words.push_back(argument);
    }
  }
  if (!words.empty() && words.front() == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  CommandLine line;
  Tree(commands, &line).Parse(words);
  return line;
}

}  // namespace svdllm::cli
