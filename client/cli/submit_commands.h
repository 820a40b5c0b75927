// compress and evaluate, each in a source of its own.
#pragma once

#include "client/cli/commands.h"

namespace svdllm::cli {

// The title of flags that are kept for who knows them by an earlier name.
inline constexpr char kEarlierSpellings[] = "Earlier spellings";

CommandAction DefineCompress(FlagSet& flags);
CommandAction DefineEvaluate(FlagSet& flags);

}  // namespace svdllm::cli
