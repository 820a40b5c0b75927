// Callers who ask for much, or for the same thing in very many ways.
#include <iostream>

#include "server_fault_fixture.h"

namespace svdllm {
namespace {

class FloodTest : public ServerFaultTest {
 protected:
  int64_t ResidentMb() const {
    std::ifstream statm("/proc/" + std::to_string(server_->pid()) + "/statm");
    int64_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * sysconf(_SC_PAGESIZE) >> 20;
  }
  grpc::StatusCode List(const v1::ListJobsRequest& request) {
    grpc::ClientContext context;
    v1::ListJobsResponse page;
    return stub_->ListJobs(&context, request, &page).error_code();
  }
  // Of states, kinds, an order and labels, another one for each number.
  static v1::ListJobsRequest Filter(int number) {
    v1::ListJobsRequest request;
    for (int state = 1; state <= 6; ++state) {
      if (number >> (state - 1) & 1) request.add_states(static_cast<v1::JobState>(state));
    }
    if (number >> 6 & 1) request.add_kinds(v1::JOB_KIND_EVALUATE);
    if (number >> 7 & 1) request.set_order_by("create_time");
    for (int i = 0; i < (number >> 8); ++i) (*request.mutable_labels())[std::to_string(i)] = "x";
    return request;
  }
};

TEST_F(FloodTest, FiltersThatRepeatThemselvesCostNoMemory) {
  Start({"--role=api"});
  List({});
  const int64_t before = ResidentMb();
  for (int i = 0; i < 20; ++i) {
    v1::ListJobsRequest request;
    for (int n = 0; n < 100'000 + i; ++n) request.add_states(v1::JOB_STATE_QUEUED);
    EXPECT_EQ(List(request), grpc::StatusCode::OK);
  }
  EXPECT_LT(ResidentMb() - before, 40);
}

TEST_F(FloodTest, FiltersOfEveryKindCostNoMemory) {
  Start({"--role=api"});
  for (int i = 0; i < 256; ++i) List(Filter(i));
  const int64_t before = ResidentMb();
  constexpr int kFilters = 256 * 12;
  for (int i = 0; i < kFilters; ++i) EXPECT_EQ(List(Filter(i)), grpc::StatusCode::OK) << i;
  const int64_t grown = ResidentMb() - before;
  std::cout << kFilters << " filters: " << grown << " MB\n";
  EXPECT_LT(grown, 15);
}

// Models that take long to look at, more of them than may have a turn.
class LongChecksTest : public FloodTest {
 protected:
  void Ask(const std::string& trouble, size_t callers) {
    Start({"--role=api", "--plan_seconds=12"});
    const std::string bad = directory_ + "/bad";
    std::filesystem::create_directories(bad);
    std::ofstream(bad + "/config.json") << "{}";
    std::ofstream(bad + "/" + trouble) << "x";
    answers_.resize(callers);
    for (grpc::Status& answer : answers_) {
      callers_.emplace_back([this, bad, &answer] {
        v1::CompressModelRequest request;
        request.set_model(bad);
        request.add_keep_ratios(0.5);
        request.mutable_calibration()->mutable_text()->set_uri(directory_ + "/text.txt");
        grpc::ClientContext context;
        v1::Job job;
        answer = stub_->CompressModel(&context, request, &job);
      });
    }
  }
  // How many of the server's children are stopped.
  int Stopped() const {
    int stopped = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/" + std::to_string(server_->pid()) + "/task")) {
      std::ifstream list(task.path() / "children");
      for (std::string child; list >> child;) {
        std::ifstream file("/proc/" + child + "/stat");
        const std::string stat((std::istreambuf_iterator<char>(file)), {});
        stopped += stat.find(") T ") != std::string::npos;
      }
    }
    return stopped;
  }
  // A model that takes no time is looked at meanwhile.
  void ExpectOthersAreAnswered() {
    for (int i = 0; i < 3; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      v1::Job job;
      EXPECT_TRUE(Submit(1, 2, job).ok());
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
    }
  }
  void Join() {
    for (std::thread& caller : callers_) caller.join();
    for (const grpc::Status& answer : answers_) EXPECT_EQ(ReasonOf(answer), "PLAN_TIMEOUT");
  }

 private:
  std::vector<std::thread> callers_;
  std::vector<grpc::Status> answers_;
};

TEST_F(LongChecksTest, ThatHangKeepNoShortOneWaiting) {
  Ask("hang", 12);
  usleep(1'000'000);
  ExpectOthersAreAnswered();
  EXPECT_EQ(Stopped(), 0) << "they cost nothing";
  Join();
}

TEST_F(LongChecksTest, ThatComputeTakeTurns) {
  Ask("spin", 6);
  for (int i = 0; i < 900 && Stopped() < 2; ++i) usleep(10'000);
  EXPECT_EQ(Stopped(), 2) << "four of six have a turn";
  ExpectOthersAreAnswered();
  Join();
}

}  // namespace
}  // namespace svdllm
