#include "client/cli/commands.h"

#include "client/error.h"

namespace svdllm::cli {
namespace {

constexpr char kUsageReason[] = "USAGE";

}  // namespace

std::vector<CommandSpec> AllCommands() {
  std::vector<CommandSpec> commands = SubmitCommands();
  for (CommandSpec& command : JobCommands()) commands.push_back(std::move(command));
  for (CommandSpec& command : CompletionCommands()) commands.push_back(std::move(command));
  return commands;
}

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kUsageReason, message);
}

bool IsUsageError(const absl::Status& error) { return ErrorReason(error) == kUsageReason; }

}  // namespace svdllm::cli
