// The process that a command runs in, and how it ends.
#pragma once

#include <ostream>
#include <stop_token>
#include <string>

namespace svdllm::cli {

// Exit statuses.
inline constexpr int kExitOk = 0;
inline constexpr int kExitJobFailed = 1;  // or was cancelled
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;
inline constexpr int kExitRefused = 4;
inline constexpr int kExitRegressed = 5;  // more was lost than a threshold allows
inline constexpr int kExitNotEnded = 6;   // jobs wait: its time was up
inline constexpr int kExitInterrupted = 130;

// What a command sees of the process that it runs in.
struct CommandEnvironment {
  std::ostream& out;  // results
  std::ostream& err;  // progress and errors
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  int columns = 80;             // of the terminal that err is
  int out_columns = 0;          // of the terminal that out is; 0: it is none
  std::string directory = "/";  // what relative paths are relative to; absolute
  std::string server = {};      // SVDLLM_SERVER; empty: the default
  // SVDLLM_CA, SVDLLM_CERT, SVDLLM_KEY and SVDLLM_TOKEN_FILE; empty: not set.
  std::string ca = {}, cert = {}, key = {}, token_file = {};
  std::stop_token stop = {};  // Ctrl-C
};

}  // namespace svdllm::cli
