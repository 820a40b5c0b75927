#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <thread>

#include "client/error.h"
#include "tests/support/fake_service.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kName[] = "jobs/a";
const std::regex kUuid("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}");

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    server_.script().submitted.set_name(kName);
    server_.script().jobs[kName].set_name(kName);
  }

  ClientOptions Impatient() {
    ClientOptions options;
    options.call_timeout = milliseconds(3000);
    options.reconnect_timeout = milliseconds(5000);
    options.stop = stop_.get_token();
    return options;
  }

  // What Watch delivers: the sequence numbers.
  absl::Status Watch(Client& client, int64_t after_sequence) {
    return client.Watch(kName, after_sequence, [&](const v1::JobEvent& event) {
      seen_.push_back(event.sequence());
      if (on_event_) on_event_();
    });
  }
  static std::vector<int64_t> Range(int64_t first, int64_t last) {
    std::vector<int64_t> range;
    for (int64_t i = first; i <= last; ++i) range.push_back(i);
    return range;
  }

  FakeServer server_;
  std::stop_source stop_;
  std::vector<int64_t> seen_;
  std::function<void()> on_event_;
};

TEST_F(ClientTest, RequestIdsAreDistinctRandomUuids) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const std::string id = NewRequestId();
    EXPECT_TRUE(std::regex_match(id, kUuid)) << id;
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 100u);
}

TEST_F(ClientTest, SubmissionsGetARequestIdUnlessTheyHaveOne) {
  Client client(server_.address(), Impatient());
  ASSERT_TRUE(client.CompressModel({}).ok());
  v1::EvaluateRequest evaluate;
  evaluate.set_request_id("mine");
  ASSERT_TRUE(client.Evaluate(evaluate).ok());
  ASSERT_TRUE(client.Evaluate({}).ok());
  const FakeScript& script = server_.script();
  EXPECT_TRUE(std::regex_match(script.compress_requests.at(0).request_id(), kUuid));
  EXPECT_EQ(script.evaluate_requests.at(0).request_id(), "mine");
  EXPECT_TRUE(std::regex_match(script.evaluate_requests.at(1).request_id(), kUuid));
}

TEST_F(ClientTest, RetriesUnderTheSameRequestId) {
  server_.script().unavailable_calls = 1;
  server_.script().lose_next_answer = true;
  std::vector<std::string> told;
  ClientOptions options = Impatient();
  options.on_retry = [&](const absl::Status& status) {
    told.push_back(std::string(status.message()));
  };
  Client client(server_.address(), options);
  const absl::StatusOr<v1::Job> job = client.CompressModel({});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->name(), kName);
  EXPECT_EQ(server_.script().calls, 3);
  ASSERT_EQ(server_.script().compress_requests.size(), 2u);
  EXPECT_EQ(server_.script().compress_requests[0].request_id(),
            server_.script().compress_requests[1].request_id());
  EXPECT_EQ(told.size(), 2u);
}

TEST_F(ClientTest, DeleteIsDoneWhereOnlyItsAnswerWasLost) {
  Client client(server_.address(), Impatient());
  server_.script().lose_next_answer = true;
  EXPECT_TRUE(client.DeleteJob(kName).ok());
  EXPECT_TRUE(absl::IsNotFound(client.DeleteJob(kName)));
}

TEST_F(ClientTest, GivesUpInTimeWhereNothingListens) {
  server_.Stop();
  ClientOptions options = Impatient();
  options.call_timeout = milliseconds(700);
  Client client(server_.address(), options);
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = client.GetJob(kName).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(server_.address()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Connection refused"));
  EXPECT_TRUE(absl::IsUnavailable(Watch(client, 0)));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(5000));
  EXPECT_EQ(RpcErrorDetailsOf(status).reason, "");
}

TEST_F(ClientTest, WaitsForAServerThatComesBack) {
  server_.Stop();
  std::jthread restart([&] {
    std::this_thread::sleep_for(milliseconds(400));
    server_.Start();
  });
  Client client(server_.address(), Impatient());
  EXPECT_TRUE(client.GetJob(kName).ok());
}

TEST_F(ClientTest, SlowAnswerIsDeadlineExceeded) {
  server_.script().delay_ms = 1000;
  ClientOptions options = Impatient();
  options.call_timeout = milliseconds(200);
  Client client(server_.address(), options);
  const absl::Status status = client.GetJob(kName).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(server_.address()));
}

TEST_F(ClientTest, StopEndsACallAndItsRetries) {
  server_.script().delay_ms = 2000;
  Client client(server_.address(), Impatient());
  std::jthread stopper([&] {
    std::this_thread::sleep_for(milliseconds(100));
    stop_.request_stop();
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsCancelled(client.GetJob(kName).status()));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(1500));
}

TEST_F(ClientTest, RefusalsAreDecodedAndNotRetried) {
  google::rpc::Status refusal = Refusal(3, "INVALID_FIELD", "keep_ratios: none given");
  google::rpc::BadRequest bad_request;
  auto* violation = bad_request.add_field_violations();
  violation->set_field("calibration.samples");
  violation->set_description("must be positive");
  refusal.add_details()->PackFrom(bad_request);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(500'000'000);
  refusal.add_details()->PackFrom(retry);
  google::rpc::ErrorInfo info;
  refusal.details(0).UnpackTo(&info);
  (*info.mutable_metadata())["limit"] = "64";
  refusal.mutable_details(0)->PackFrom(info);
  server_.script().refusal = refusal;

  Client client(server_.address(), Impatient());
  const absl::Status status = client.CompressModel({}).status();
  EXPECT_EQ(server_.script().calls, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const RpcErrorDetails details = RpcErrorDetailsOf(status);
  EXPECT_EQ(details.reason, "INVALID_FIELD");
  EXPECT_EQ(details.metadata.at("limit"), "64");
  ASSERT_EQ(details.violations.size(), 1u);
  EXPECT_EQ(details.violations[0].field, "calibration.samples");
  EXPECT_EQ(details.retry_delay_seconds, 0.5);
  EXPECT_EQ(DescribeError(status),
            "keep_ratios: none given (INVALID_FIELD)\n  calibration.samples: must be positive\n"
            "  limit = 64\n  try again in 0.5 s");
}

TEST_F(ClientTest, ErrorsWithoutOrWithBrokenDetailsAreErrorsStill) {
  EXPECT_EQ(DescribeError(MakeRpcError(13, "broken", "\xff\xff")), "broken");
  EXPECT_EQ(DescribeError(MakeRpcError(13, "", "")), "INTERNAL");
  EXPECT_EQ(RpcErrorDetailsOf(absl::InternalError("x")).retry_delay_seconds, -1);
}

TEST_F(ClientTest, WatchDeliversEverythingToTheEnd) {
  server_.script().events[kName] = SampleEvents(9);
  Client client(server_.address(), Impatient());
  EXPECT_TRUE(Watch(client, 0).ok());
  EXPECT_EQ(seen_, Range(1, 9));
  seen_.clear();
  EXPECT_TRUE(Watch(client, 7).ok());
  EXPECT_EQ(seen_, Range(8, 9));
}

TEST_F(ClientTest, WatchResumesABrokenStreamWithoutGapOrDouble) {
  server_.script().events[kName] = SampleEvents(10);
  server_.script().events_per_stream = 3;
  Client client(server_.address(), Impatient());
  EXPECT_TRUE(Watch(client, 0).ok());
  EXPECT_EQ(seen_, Range(1, 10));
  EXPECT_THAT(server_.script().watched_after, ElementsAre(0, 3, 6, 9));
}

TEST_F(ClientTest, WatchDropsWhatAServerSendsTwice) {
  server_.script().events[kName] = SampleEvents(8);
  server_.script().events_per_stream = 4;
  server_.script().overlap = 2;
  Client client(server_.address(), Impatient());
  EXPECT_TRUE(Watch(client, 0).ok());
  EXPECT_EQ(seen_, Range(1, 8));
}

TEST_F(ClientTest, WatchSurvivesAServerThatRestarts) {
  FakeScript& script = server_.script();
  const std::vector<v1::JobEvent> events = SampleEvents(8);
  script.events[kName] = {events.begin(), events.begin() + 5};
  script.streams_hang = true;
  std::jthread restart;
  on_event_ = [&] {
    if (seen_.size() != 5) return;
    restart = std::jthread([&] {
      server_.Stop();
      script.events[kName] = events;
      script.streams_hang = false;
      std::this_thread::sleep_for(milliseconds(300));
      server_.Start();
    });
  };
  Client client(server_.address(), Impatient());
  const absl::Status status = Watch(client, 0);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen_, Range(1, 8));
  EXPECT_THAT(script.watched_after, ElementsAre(0, 5));
}

TEST_F(ClientTest, WatchGivesUpOnAServerThatStaysAway) {
  server_.script().events[kName] = SampleEvents(5);
  server_.script().streams_hang = true;
  std::jthread stopper;
  on_event_ = [&] {
    if (seen_.size() == 5) stopper = std::jthread([&] { server_.Stop(); });
  };
  ClientOptions options = Impatient();
  options.reconnect_timeout = milliseconds(800);
  Client client(server_.address(), options);
  EXPECT_TRUE(absl::IsUnavailable(Watch(client, 0)));
  EXPECT_EQ(seen_, Range(1, 5));
}

TEST_F(ClientTest, WatchEndsWhenStopped) {
  server_.script().events[kName] = SampleEvents(5);
  server_.script().streams_hang = true;
  Client client(server_.address(), Impatient());
  on_event_ = [&] {
    if (seen_.size() == 3) stop_.request_stop();
  };
  EXPECT_TRUE(absl::IsCancelled(Watch(client, 0)));
  EXPECT_EQ(seen_, Range(1, 3));
}

TEST_F(ClientTest, WatchOfNoJobIsAnError) {
  Client client(server_.address(), Impatient());
  const absl::Status status = client.Watch("jobs/none", 0, [](const v1::JobEvent&) { FAIL(); });
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(RpcErrorDetailsOf(status).reason, "JOB_NOT_FOUND");
}

TEST_F(ClientTest, WaitAsksUntilTheJobHasEnded) {
  server_.script().jobs[kName].set_state(v1::JOB_STATE_RUNNING);
  server_.script().delay_ms = 20;
  server_.script().unavailable_calls = 1;  // a server that drains
  Client client(server_.address(), Impatient());
  std::jthread end([&] {
    while (true) {
      std::this_thread::sleep_for(milliseconds(5));
      std::lock_guard lock(server_.script().mutex);
      if (server_.script().wait_requests.size() < 3) continue;
      server_.script().jobs[kName].set_state(v1::JOB_STATE_FAILED);
      return;
    }
  });
  const auto job = client.Wait(kName, milliseconds(20'000));
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::JOB_STATE_FAILED);
  EXPECT_GE(server_.script().wait_requests.size(), 3u);
  EXPECT_LE(server_.script().wait_requests[0].timeout().seconds(), 20);
}

TEST_F(ClientTest, WaitEndsWithItsTime) {
  server_.script().jobs[kName].set_state(v1::JOB_STATE_QUEUED);
  server_.script().delay_ms = 20;
  Client client(server_.address(), Impatient());
  const auto job = client.Wait(kName, milliseconds(100));
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::JOB_STATE_QUEUED);
  EXPECT_FALSE(HasEnded(*job));
  server_.Stop();
  EXPECT_TRUE(absl::IsUnavailable(client.Wait(kName, milliseconds(100)).status()));
  stop_.request_stop();
  EXPECT_TRUE(absl::IsCancelled(client.Wait(kName, milliseconds(100)).status()));
}

TEST_F(ClientTest, AddressWithoutAPortGetsOurs) {
  EXPECT_EQ(Client("host").address(), "host:7070");
  EXPECT_EQ(Client("host:1").address(), "host:1");
  EXPECT_EQ(Client("unix:/tmp/s").address(), "unix:/tmp/s");
}

TEST_F(ClientTest, IsThreadSafe) {
  server_.script().events[kName] = SampleEvents(20);
  server_.script().events_per_stream = 7;
  Client client(server_.address(), Impatient());
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      int events = 0;
      EXPECT_TRUE(client.Watch(kName, 0, [&](const v1::JobEvent&) { ++events; }).ok());
      EXPECT_EQ(events, 20);
      EXPECT_TRUE(client.GetJob(kName).ok());
    });
  }
}

TEST_F(ClientTest, ATokenIsNotSentWhereOthersCouldReadIt) {
  ClientOptions options = Impatient();
  options.token = "secret";
  for (const char* here :
       {"127.0.0.1:7070", "127.0.0.1", "localhost:1", "[::1]:7070", "unix:/run/svdllm/grpc.sock"}) {
    EXPECT_TRUE(CheckClientOptions(here, options).ok()) << here;
  }
  for (const char* elsewhere :
       {"compress.example:7070", "compress.example", "10.0.0.1:7070", "[2001:db8::1]:7070",
        "127.0.0.1.example:7070", "dns:///compress.example", "unix-abstract:name",
        "ipv4:10.0.0.1:1"}) {
    const absl::Status status = CheckClientOptions(elsewhere, options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << elsewhere;
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("secret")));
    // Every way of calling.
    Client client(elsewhere, options);
    EXPECT_EQ(client.GetServerInfo().status(), status);
    EXPECT_EQ(client.DeleteJob(kName), status);
    EXPECT_EQ(client.Wait(kName, milliseconds(1)).status(), status);
    EXPECT_EQ(Watch(client, 0), status);
  }
  options.tls = true;
  EXPECT_TRUE(CheckClientOptions("compress.example:7070", options).ok());
  options.token = "one\r\nx-header: two";
  EXPECT_FALSE(CheckClientOptions("compress.example:7070", options).ok());
}

}  // namespace
}  // namespace svdllm
