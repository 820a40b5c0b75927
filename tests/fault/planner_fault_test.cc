// Checks of submissions that hang or die, and what the processes that do them are given.
#include <chrono>
#include <iostream>
#include <thread>

#include "server_fault_fixture.h"

namespace svdllm {
namespace {

using std::chrono::steady_clock;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The planner hangs, and is killed; everybody else is answered meanwhile.
TEST_F(ServerFaultTest, CheckThatHangsIsRefusedAndKeepsNobodyWaiting) {
  Start({"--role=api", "--plan_seconds=2"});
  const std::string good = Submit(1, 2);
  std::ofstream(model_ + "/hang") << "x";
  std::vector<std::thread> callers;
  std::vector<grpc::Status> answers(8);
  const auto begin = steady_clock::now();
  for (grpc::Status& answer : answers) {
    callers.emplace_back([this, &answer] {
      v1::Job job;
      answer = Submit(1, 2, job);
    });
  }
  usleep(300'000);
  for (int i = 0; i < 20; ++i) {
    const auto asked = steady_clock::now();
    Get(good);
    EXPECT_THAT(Http("/livez"), HasSubstr("200 OK"));
    EXPECT_LT(steady_clock::now() - asked, std::chrono::seconds(1));
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  for (const grpc::Status& answer : answers) {
    EXPECT_THAT(ReasonOf(answer), AnyOf("PLAN_TIMEOUT", "SERVER_BUSY")) << answer.error_message();
  }
  std::filesystem::remove(model_ + "/hang");
  v1::Job job;
  EXPECT_TRUE(Submit(1, 2, job).ok()) << "on a fresh planner";
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
}

TEST_F(ServerFaultTest, CheckThatKillsItsProcessIsRefused) {
  Start({"--role=api"});
  std::ofstream(model_ + "/crash_check") << "x";
  v1::Job job;
  const grpc::Status status = Submit(1, 2, job);
  EXPECT_EQ(ReasonOf(status), "PLANNER_DIED") << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("signal 7"));
  EXPECT_THAT(status.error_message(), HasSubstr("a file that it read was shortened"));
  std::filesystem::remove(model_ + "/crash_check");
  EXPECT_TRUE(Submit(1, 2, job).ok());
}

TEST_F(ServerFaultTest, StoppingServerDoesNotWaitForAHangingCheck) {
  Start({"--role=api", "--plan_seconds=600"});
  std::ofstream(model_ + "/hang") << "x";
  grpc::Status answer;
  std::thread caller([&] {
    v1::Job job;
    answer = Submit(1, 2, job);
  });
  usleep(500'000);
  const auto told = steady_clock::now();
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
  EXPECT_LT(steady_clock::now() - told, std::chrono::seconds(10));
  caller.join();
  EXPECT_EQ(answer.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerFaultTest, ChildrenGetNoSecretsFromTheEnvironment) {
  setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
  // Confined, it would show its environment to root only.
  Start({"--devices=cpu", "--confine=off"});
  unsetenv("AWS_SECRET_ACCESS_KEY");
  for (int i = 0; i < 500 && server_->worker_pid("cpu") == 0; ++i) usleep(10'000);
  std::ifstream file("/proc/" + std::to_string(server_->worker_pid()) + "/environ");
  const std::string environment(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(environment, HasSubstr("PATH="));
  EXPECT_THAT(environment, Not(HasSubstr("hush")));
}

}  // namespace
}  // namespace svdllm
