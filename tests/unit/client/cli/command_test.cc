// The command as a whole: help, exit statuses, JSON, jobs and server-info.
#include "client/cli/command.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

#include "client/cli/commands.h"
#include "tests/support/command_harness.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

TEST_F(CommandTest, HelpListsEveryCommand) {
  for (const std::vector<std::string>& asked :
       std::vector<std::vector<std::string>>{{"help"}, {"--help"}, {"-h"}}) {
    const Ran ran = RunRaw(asked);
    EXPECT_EQ(ran.exit_status, kExitOk);
    for (const CommandSpec& command : AllCommands()) {
      EXPECT_THAT(ran.out, HasSubstr("  " + command.name + " "));
    }
    EXPECT_THAT(ran.err, IsEmpty());
  }
}

TEST_F(CommandTest, VersionAndGroupHelp) {
  EXPECT_EQ(RunRaw({"--version"}).out, "svdllm " SVDLLM_VERSION "\n");
  const Ran group = RunRaw({"jobs", "--help"});
  EXPECT_EQ(group.exit_status, kExitOk);
  EXPECT_THAT(group.out, HasSubstr("jobs watch"));
  EXPECT_THAT(group.out, Not(HasSubstr("compress ")));
}

TEST_F(CommandTest, WrongUsageExitsWithTwoAndSaysWhatIsWrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "Usage"},
      {{"jobs"}, "jobs list"},
      {{"compres"}, "unknown command 'compres', did you mean compress?"},
      {{"jobs", "lst"}, "did you mean jobs list?"},
      {{"jobs", "get"}, "NAME is required"},
      {{"jobs", "get", "a", "b"}, "'b'"},
      {{"jobs", "list", "--stat=x"}, "--stat, did you mean --state?"},
      {{"jobs", "list", "--state=queud"},
       "--state=queud is not one of queued|running|cancelling|succeeded|failed|cancelled, did you "
       "mean queued?"},
      {{"jobs", "list", "--kind=evaluation"}, "did you mean evaluate?"},
      {{"server-info", "--format=xml"}, "text|json"},
      {{"server-info", "--rpc_timeout=0s"}, "--rpc_timeout=0s"},
  };
  for (const auto& [arguments, word] : cases) {
    const Ran ran = RunRaw(arguments);
    EXPECT_EQ(ran.exit_status, kExitUsage);
    EXPECT_THAT(ran.err, HasSubstr(word));
    EXPECT_THAT(ran.out, IsEmpty());
  }
}

TEST_F(CommandTest, UnreachableServerExitsWithThree) {
  server_.Stop();
  const Ran ran = Run({"server-info", "--rpc_timeout=200ms"});
  EXPECT_EQ(ran.exit_status, kExitUnreachable);
  EXPECT_THAT(ran.err, HasSubstr("cannot reach the server at " + server_.address()));
  const Ran json = Run({"jobs", "list", "--rpc_timeout=200ms", "--format", "json"});
  EXPECT_EQ(json.exit_status, kExitUnreachable);
  EXPECT_EQ(json.Json()["error"]["code"], "UNAVAILABLE");
}

TEST_F(CommandTest, RefusalsExitWithFour) {
  const Ran ran = Run({"jobs", "get", "none"});
  EXPECT_EQ(ran.exit_status, kExitRefused);
  EXPECT_THAT(ran.err, HasSubstr("no job jobs/none (JOB_NOT_FOUND)"));
  const nlohmann::json error = Run({"jobs", "watch", "none", "--format=json"}).Json()["error"];
  EXPECT_EQ(error["code"], "NOT_FOUND");
  EXPECT_EQ(error["reason"], "JOB_NOT_FOUND");
  EXPECT_EQ(error["message"], "no job jobs/none");
}

TEST_F(CommandTest, UsageErrorsAreJsonTooWhereAskedFor) {
  const Ran ran = RunRaw({"compress", "--modell=x", "--format=json"});
  EXPECT_EQ(ran.exit_status, kExitUsage);
  EXPECT_EQ(ran.Json()["error"]["reason"], "USAGE");
  EXPECT_THAT(ran.err, HasSubstr("--modell"));
}

TEST_F(CommandTest, ServerComesFromTheEnvironmentUnlessGiven) {
  script().info.set_version("9.9");
  server_from_environment_ = server_.address();
  EXPECT_THAT(RunRaw({"server-info"}).out, HasSubstr("9.9"));
  server_from_environment_ = "127.0.0.1:1";
  EXPECT_THAT(Run({"server-info"}).out, HasSubstr("9.9"));
}

TEST_F(CommandTest, TheTokenComesFromAFileAndGoesWithEveryCall) {
  const std::string path = testing::TempDir() + "token_" + std::to_string(getpid());
  std::ofstream(path) << "s3cret.token\n";
  EXPECT_EQ(Run({"jobs", "list", "--token_file=" + path}).exit_status, 0);
  EXPECT_EQ(script().authorization, "Bearer s3cret.token");
  script().authorization.clear();
  token_file_ = path;
  for (const std::string command : {"get", "watch", "wait", "cancel", "delete"}) {
    Run({"jobs", command, kName});
    EXPECT_EQ(std::exchange(script().authorization, ""), "Bearer s3cret.token") << command;
  }
  token_file_.clear();
  Run({"jobs", "list"});
  EXPECT_EQ(script().authorization, "");
  std::remove(path.c_str());
}

TEST_F(CommandTest, ATokenThatCannotBeSentIsAUsageErrorAndNotRepeated) {
  const std::string path = testing::TempDir() + "token_" + std::to_string(getpid());
  const auto expect = [&](const std::string& content, const std::string& server,
                          const std::string& what) {
    std::ofstream(path) << content;
    const Ran ran = RunRaw({"jobs", "list", "--token_file=" + path, "--server=" + server});
    EXPECT_EQ(ran.exit_status, kExitUsage);
    EXPECT_THAT(ran.err, HasSubstr("--token_file: "));
    EXPECT_THAT(ran.err, HasSubstr(what));
    EXPECT_THAT(ran.err, Not(HasSubstr("s3cret")));
  };
  expect("s3cret\n", "compress.example:7070", "without TLS");
  expect("s3cret\n", "10.0.0.1", "without TLS");
  expect("s3cret\n", "localhost.example:7070", "without TLS");
  expect("s3cret\n", "dns:///127.0.0.1:7070", "without TLS");
  expect(" \n", server_.address(), "is empty");
  expect("s3cret one\n", server_.address(), "printable ASCII");
  expect("s3cret\none", server_.address(), "printable ASCII");
  expect("s3cr\xc3\xa9t", server_.address(), "printable ASCII");
  std::remove(path.c_str());
  const Ran absent = RunRaw({"jobs", "list", "--token_file=" + path});
  EXPECT_EQ(absent.exit_status, kExitUsage);
  EXPECT_THAT(absent.err, HasSubstr("--token_file: "));
  EXPECT_EQ(script().calls, 0);
}

TEST_F(CommandTest, EveryCommandPrintsJson) {
  EXPECT_EQ(Run({"jobs", "get", "0a", "--format=json"}).Json()["name"], kName);
  EXPECT_EQ(Run({"jobs", "cancel", kName, "--format=json"}).Json()["state"],
            "JOB_STATE_CANCELLING");
  EXPECT_EQ(Run({"jobs", "list", "--format=json"}).Json()["jobs"][0]["name"], kName);
  EXPECT_TRUE(Run({"server-info", "--format=json"}).Json().contains("families"));
  EXPECT_EQ(Run({"jobs", "delete", kName, "--format=json"}).Json(), nlohmann::json::object());
  EXPECT_EQ(Run({"jobs", "list", "--format=json"}).Json()["jobs"], nlohmann::json::array());
}

TEST_F(CommandTest, WatchAsJsonIsOneEventALine) {
  script().events_per_stream = 3;
  const Ran ran = Run({"jobs", "watch", kName, "--format=json", "--after_sequence=1"});
  EXPECT_EQ(ran.exit_status, kExitOk);
  std::istringstream lines(ran.out);
  int64_t expected = 2;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(nlohmann::json::parse(line)["sequence"], std::to_string(expected++)) << line;
  }
  EXPECT_EQ(expected, 9);
}

TEST_F(CommandTest, WatchShowsTheHistoryAndTheResult) {
  Ran ran = Run({"jobs", "watch", "0a"});
  EXPECT_EQ(ran.exit_status, kExitOk);
  EXPECT_THAT(ran.err, StartsWith("QUEUED\nRUNNING\n"));
  EXPECT_THAT(ran.out, HasSubstr("jobs/0a succeeded"));
  job().set_state(v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Run({"jobs", "watch", "0a", "--format=json"}).exit_status, kExitJobFailed);
  EXPECT_EQ(Run({"jobs", "get", "0a"}).exit_status, kExitOk);  // it was found
}

TEST_F(CommandTest, WatchSaysWhereInTheQueueAJobStands) {
  script().events[kName].resize(1);  // QUEUED
  job().set_state(v1::JOB_STATE_QUEUED);
  job().set_queue_position(3);
  EXPECT_EQ(Run({"jobs", "watch", "0a"}).err, "QUEUED\nnumber 3 in the queue\n");
}

TEST_F(CommandTest, WaitEndsWithTheJobOrWithItsTime) {
  const Ran ended = Run({"jobs", "wait", "0a"});
  EXPECT_EQ(ended.exit_status, kExitOk);
  EXPECT_THAT(ended.out, HasSubstr("jobs/0a succeeded"));
  EXPECT_EQ(script().wait_requests.at(0).timeout().seconds(), 60) << "a call at a time";
  job().set_state(v1::JOB_STATE_FAILED);
  EXPECT_EQ(Run({"jobs", "wait", "0a"}).exit_status, kExitJobFailed);
  job().mutable_error()->set_reason("REGRESSED");
  EXPECT_EQ(Run({"jobs", "wait", "0a"}).exit_status, kExitRegressed);
  job().clear_error();
  job().set_state(v1::JOB_STATE_RUNNING);
  const Ran running = Run({"jobs", "wait", "0a", "--timeout=5ms"});
  EXPECT_EQ(running.exit_status, kExitNotEnded);
  EXPECT_THAT(running.out, HasSubstr("jobs/0a is RUNNING"));
}

TEST_F(CommandTest, RetrySubmitsTheRequestOfAnEndedJob) {
  v1::CompressModelRequest& request = *job().mutable_compress_model_request();
  request.set_model("file:///m");
  request.set_request_id("old");
  request.set_output_uri("file:///artifacts/0a");
  ASSERT_EQ(Run({"jobs", "retry", "0a", "--detach"}).exit_status, kExitOk);
  v1::CompressModelRequest sent = script().compress_requests.at(0);
  EXPECT_EQ(sent.model(), "file:///m");
  EXPECT_EQ(sent.request_id().size(), 36u);
  EXPECT_EQ(sent.output_uri(), "") << "it was named after the job";
  job().mutable_compress_model_request()->set_output_uri("file:///artifacts/mine");
  job().set_state(v1::JOB_STATE_FAILED);
  ASSERT_EQ(Run({"jobs", "retry", "0a", "--detach", "--request_id=new"}).exit_status, kExitOk);
  EXPECT_EQ(script().compress_requests.at(1).output_uri(), "file:///artifacts/mine");
  EXPECT_EQ(script().compress_requests.at(1).request_id(), "new");
  job().set_state(v1::JOB_STATE_RUNNING);
  const Ran running = Run({"jobs", "retry", "0a"});
  EXPECT_EQ(running.exit_status, kExitRefused);
  EXPECT_THAT(running.err, HasSubstr("jobs/0a has not ended: it is RUNNING (JOB_STATE)"));
  job().set_state(v1::JOB_STATE_CANCELLED);
  job().mutable_evaluate_request()->set_model("file:///e");
  ASSERT_EQ(Run({"jobs", "retry", "0a", "--detach", "--output=o"}).exit_status, kExitOk);
  EXPECT_EQ(script().evaluate_requests.at(0).output_uri(), "o");
}

TEST_F(CommandTest, ListPassesFiltersAndPages) {
  for (int i = 0; i < 450; ++i) {
    const std::string name = "jobs/" + std::to_string(1000 + i);
    script().jobs[name].set_name(name);
  }
  const auto count = [](const Ran& ran) { return ran.Json()["jobs"].size(); };
  const Ran some =
      Run({"jobs", "list", "--format=json", "--state=queued", "--state=FAILED",
           "--state=JOB_STATE_CANCELLED", "--kind=evaluate", "--label=a=b", "--owner=alice"});
  EXPECT_EQ(count(some), 50u);
  EXPECT_EQ(some.Json()["nextPageToken"], "50");
  const v1::ListJobsRequest& request = script().list_requests.at(0);
  EXPECT_EQ(request.states_size(), 3);
  EXPECT_EQ(request.states(1), v1::JOB_STATE_FAILED);
  EXPECT_EQ(request.states(2), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(request.kinds(0), v1::JOB_KIND_EVALUATE);
  EXPECT_EQ(request.labels().at("a"), "b");
  EXPECT_EQ(request.order_by(), "");
  EXPECT_EQ(request.owner(), "alice");
  Run({"jobs", "list", "--oldest_first"});
  EXPECT_EQ(script().list_requests.at(1).order_by(), "create_time");
  EXPECT_EQ(count(Run({"jobs", "list", "--format=json", "--limit=230"})), 230u);
  const Ran all = Run({"jobs", "list", "--format=json", "--limit=0"});
  EXPECT_EQ(count(all), 451u);
  EXPECT_EQ(all.Json()["nextPageToken"], "");
  EXPECT_EQ(count(Run({"jobs", "list", "--format=json", "--page_token=440"})), 11u);
  EXPECT_THAT(Run({"jobs", "list"}).err, HasSubstr("--page_token=50"));
}

TEST_F(CommandTest, NamesFromTheServerDoNotReachTheTerminalAsCommands) {
  const std::string evil = "/m\x1b]0;x\x07\n\u009b2J";
  job().mutable_compress_model_request()->set_model(evil);
  for (const std::vector<std::string>& asked :
       std::vector<std::vector<std::string>>{{"jobs", "list"}, {"jobs", "get", "0a"}}) {
    EXPECT_THAT(Run(asked).out, HasSubstr("/m\\x1b]0;x\\x07\\n\\u009b2J\n"));
  }
  EXPECT_EQ(Run({"jobs", "get", "0a", "--format=json"}).Json()["compressModelRequest"]["model"],
            evil);
  EXPECT_THAT(Run({"jobs", "get", "0a", "--format=json"}).out, testing::Not(HasSubstr("\u009b")));
  script().refusal = Refusal(5, "JOB_NOT_FOUND", "no \x1b[1m");
  EXPECT_THAT(Run({"jobs", "get", "0a"}).err, HasSubstr("no \\x1b[1m"));
}

TEST_F(CommandTest, ALostConnectionIsToldOnce) {
  script().unavailable_calls = 3;
  const Ran ran = Run({"server-info"});
  EXPECT_EQ(ran.exit_status, kExitOk);
  EXPECT_EQ(ran.err,
            "svdllm: no connection to the server at " + server_.address() + "; trying again\n");
}

}  // namespace
}  // namespace svdllm::cli
