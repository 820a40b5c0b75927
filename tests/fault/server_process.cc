#include "server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

extern char** environ;

namespace svdllm::testing {

ServerProcess::ServerProcess(const std::string& program, const std::vector<std::string>& arguments,
                             const std::string& log, const std::vector<std::string>& environment,
                             int64_t max_file_bytes)
    : log_(log) {
  std::vector<const char*> argv = {program.c_str()};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  argv.push_back(nullptr);
  std::vector<const char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  for (const std::string& variable : environment) variables.push_back(variable.c_str());
  variables.push_back(nullptr);
  unlink(log.c_str());  // nothing of a predecessor's may be taken for its own
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves nothing behind
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_TRUNC, 0644);
  dup2(file, 1);
  dup2(file, 2);
  if (max_file_bytes > 0) {
    const rlimit limit{static_cast<rlim_t>(max_file_bytes), static_cast<rlim_t>(max_file_bytes)};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  execve(program.c_str(), const_cast<char**>(argv.data()), const_cast<char**>(variables.data()));
  _exit(127);
}

ServerProcess::~ServerProcess() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  kill(pid_, SIGCONT);
  Wait();
}

bool ServerProcess::AwaitServing() {
  for (int i = 0; i < 6000; ++i) {
    if (!FromLog("http_port").empty()) return true;
    siginfo_t ended{};  // left to Wait
    waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == pid_) return false;
    usleep(10'000);
  }
  return false;
}

void ServerProcess::Signal(int signal) const { kill(pid_, signal); }

int ServerProcess::Wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

std::string ServerProcess::Log() const {
  std::ostringstream text;
  text << std::ifstream(log_).rdbuf();
  return text.str();
}

std::string ServerProcess::FromLog(const std::string& key) const {
  const std::string text = Log();
  const std::string quoted = "\"" + key + "\":";
  const size_t at = text.rfind(quoted);
  if (at == std::string::npos) return "";
  const size_t start = at + quoted.size();
  if (text[start] != '"') return text.substr(start, text.find_first_of(",}", start) - start);
  return text.substr(start + 1, text.find('"', start + 1) - start - 1);
}

pid_t ServerProcess::worker_pid(const std::string& device) const {
  std::istringstream lines(Log());
  pid_t pid = 0;
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find("\"pid\":");
    if (at != std::string::npos && line.find("\"worker started\"") != std::string::npos &&
        line.find("-" + device + "-") != std::string::npos) {
      pid = std::stoi(line.substr(at + 6));
    }
  }
  return pid;
}

}  // namespace svdllm::testing
