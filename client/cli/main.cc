// svdllm: the command line client.
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>

#include "client/cli/command.h"

namespace {

// What COLUMNS says, the terminal knows, or most have.
int TerminalColumns(int file) {
  const char* const set = std::getenv("COLUMNS");
  const int columns = set == nullptr ? 0 : std::atoi(set);
  if (columns > 0) return columns;
  winsize size = {};
  return ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  // Ctrl-C is taken by a thread, which may do what a signal handler may not. Blocked before any
  // other thread is started, so that all inherit it.
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
  std::stop_source stop;
  std::thread([interrupt, stop]() mutable {
    int signal_number = 0;
    sigwait(&interrupt, &signal_number);
    stop.request_stop();
    sigwait(&interrupt, &signal_number);
    _exit(svdllm::cli::kExitInterrupted);  // the second one does not wait for anything
  }).detach();

  std::error_code ignored;
  const svdllm::cli::CommandEnvironment environment{
      .out = std::cout,
      .err = std::cerr,
      .out_is_terminal = isatty(STDOUT_FILENO) == 1,
      .err_is_terminal = isatty(STDERR_FILENO) == 1,
      .columns = TerminalColumns(STDERR_FILENO),
      .out_columns = isatty(STDOUT_FILENO) == 1 ? TerminalColumns(STDOUT_FILENO) : 0,
      .directory = std::filesystem::current_path(ignored).string(),
      .server = Variable("SVDLLM_SERVER"),
      .ca = Variable("SVDLLM_CA"),
      .cert = Variable("SVDLLM_CERT"),
      .key = Variable("SVDLLM_KEY"),
      .token_file = Variable("SVDLLM_TOKEN_FILE"),
      .stop = stop.get_token()};
  const int exit_status = svdllm::cli::RunCommand({argv + 1, argv + argc}, environment);
  std::cout.flush();
  // Results that could not be written (a full disk) are not a success.
  return exit_status == 0 && !std::cout ? 1 : exit_status;
}
