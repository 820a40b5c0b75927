// Runs the command against the scripted service and keeps what it printed.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "client/cli/command.h"
#include "tests/support/fake_service.h"

namespace svdllm::cli {

inline constexpr char kName[] = "jobs/0a";

struct Ran {
  int exit_status = -1;
  std::string out;
  std::string err;
  // Of out; a failed expectation and null where it is not JSON.
  nlohmann::json Json() const {
    const nlohmann::json json = nlohmann::json::parse(out, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << out;
    return json.is_discarded() ? nlohmann::json() : json;
  }
};

class CommandTest : public testing::Test {
 protected:
  CommandTest() {
    v1::Job& job = server_.script().jobs[kName];
    job.set_name(kName);
    job.set_state(v1::JOB_STATE_SUCCEEDED);
    job.set_kind(v1::JOB_KIND_COMPRESS_MODEL);
    server_.script().submitted = job;
    server_.script().events[kName] = SampleEvents(8);
  }

  FakeScript& script() { return server_.script(); }
  v1::Job& job() { return server_.script().jobs[kName]; }

  Ran RunRaw(const std::vector<std::string>& arguments) {
    std::ostringstream out, err;
    Ran ran;
    ran.exit_status = RunCommand(arguments, CommandEnvironment{.out = out,
                                                               .err = err,
                                                               .out_is_terminal = terminal_,
                                                               .err_is_terminal = terminal_,
                                                               .directory = directory_,
                                                               .server = server_from_environment_,
                                                               .token_file = token_file_,
                                                               .stop = stop_.get_token()});
    ran.out = out.str();
    ran.err = err.str();
    return ran;
  }
  // With --server.
  Ran Run(std::vector<std::string> arguments) {
    arguments.push_back("--server=" + server_.address());
    return RunRaw(arguments);
  }

  FakeServer server_;
  std::stop_source stop_;
  bool terminal_ = false;
  std::string directory_ = "/here";
  std::string server_from_environment_, token_file_;
};

}  // namespace svdllm::cli
