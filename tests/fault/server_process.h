// A server started as a process of its own, to be signalled and killed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace svdllm::testing {

class ServerProcess {
 public:
  // Runs program with arguments (without argv[0]) and these variables ("NAME=value") in addition;
  // its standard output and error go to the file log. max_file_bytes: no file it writes may grow
  // beyond.
  ServerProcess(const std::string& program, const std::vector<std::string>& arguments,
                const std::string& log, const std::vector<std::string>& environment = {},
                int64_t max_file_bytes = 0);
  // Kills it where it still runs.
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Waits until it serves; false: it ended, or a minute went by.
  bool AwaitServing();
  void Signal(int signal) const;
  // Waits for its end: the exit status, or minus the number of the signal that killed it.
  int Wait();
  // The latest value of "key" in its log.
  std::string FromLog(const std::string& key) const;
  std::string Log() const;
  int grpc_port() const { return std::stoi(FromLog("grpc_port")); }
  int http_port() const { return std::stoi(FromLog("http_port")); }
  pid_t pid() const { return pid_; }
  // Its latest worker, of this device where one is named.
  pid_t worker_pid() const { return std::stoi(FromLog("pid")); }
  pid_t worker_pid(const std::string& device) const;

 private:
  const std::string log_;
  pid_t pid_ = 0;
};

}  // namespace svdllm::testing
