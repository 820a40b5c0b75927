// The promises that concern dying: bounded recovery, fencing, poison bound, graceful stop, full
// disks.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "rpc/error_details.pb.h"
#include "server_process.h"
#include "svdllm/v1/compression.grpc.pb.h"
#include "tests/support/http.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class ServerFaultTest : public ::testing::Test {
 protected:
  void FreezeWorker();
  void SetUp() override {
    directory_ = ::testing::TempDir() + "server_fault_" + std::to_string(std::random_device()());
    model_ = directory_ + "/model";
    std::filesystem::create_directories(model_);
    std::ofstream(model_ + "/config.json") << "{}";
    std::ofstream(directory_ + "/text.txt") << "some text";
  }
  void TearDown() override {
    if (HasFailure() && server_ != nullptr) std::cerr << server_->Log();
    stub_.reset();
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::vector<std::string> Arguments(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
                                          "--data_dir=" + directory_ + "/data",
                                          "--drain_seconds=0.5"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void Start(std::vector<std::string> more = {}, int64_t max_file_bytes = 0) {
    server_.reset();
    server_ = std::make_unique<testing::ServerProcess>(FAKE_SERVER, Arguments(std::move(more)),
                                                       directory_ + "/log",
                                                       std::vector<std::string>{}, max_file_bytes);
    ASSERT_TRUE(server_->AwaitServing()) << server_->Log();
    stub_ = v1::CompressionService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_->grpc_port()), grpc::InsecureChannelCredentials()));
  }
  // What a program that ends by itself says and its exit status.
  std::pair<int, std::string> RunToEnd(const std::vector<std::string>& arguments,
                                       const std::vector<std::string>& environment = {}) {
    testing::ServerProcess process(FAKE_SERVER, arguments, directory_ + "/other_log", environment);
    const int status = process.Wait();
    return {status, process.Log()};
  }

  grpc::Status Submit(int64_t steps, int64_t step_ms, v1::Job& job) {
    v1::CompressModelRequest request;
    request.set_model(model_);
    request.add_keep_ratios(0.5);
    request.mutable_calibration()->mutable_text()->set_uri(directory_ + "/text.txt");
    request.mutable_calibration()->set_samples(steps);
    request.mutable_calibration()->set_seq_len(step_ms);
    grpc::ClientContext context;
    return stub_->CompressModel(&context, request, &job);
  }
  std::string Submit(int64_t steps, int64_t step_ms) {
    v1::Job job;
    const grpc::Status status = Submit(steps, step_ms, job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.name();
  }
  v1::Job Get(const std::string& name) {
    v1::GetJobRequest request;
    request.set_name(name);
    grpc::ClientContext context;
    v1::Job job;
    const grpc::Status status = stub_->GetJob(&context, request, &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job;
  }
  // Polls; a minute at most.
  v1::Job Await(const std::string& name, const std::function<bool(const v1::Job&)>& condition) {
    v1::Job job;
    for (int i = 0; i < 6000; ++i) {
      job = Get(name);
      if (condition(job) || HasFailure()) return job;
      usleep(10'000);
    }
    ADD_FAILURE() << "did not get there: " << job.ShortDebugString();
    return job;
  }
  v1::Job AwaitEnd(const std::string& name) {
    return Await(name, [](const v1::Job& job) { return job.state() >= v1::JOB_STATE_SUCCEEDED; });
  }
  v1::Job AwaitProgress(const std::string& name) {
    return Await(name, [](const v1::Job& job) {
      return job.state() == v1::JOB_STATE_RUNNING && job.progress().layers_done() > 0;
    });
  }
  std::string Http(const std::string& path) {
    return HttpGet(server_->http_port(), "GET " + path + " HTTP/1.1\r\n\r\n");
  }
  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status rich;
    google::rpc::ErrorInfo info;
    rich.ParseFromString(status.error_details());
    for (const auto& any : rich.details()) any.UnpackTo(&info);
    return info.reason();
  }

  std::string directory_, model_;
  std::unique_ptr<testing::ServerProcess> server_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
};

TEST_F(ServerFaultTest, KilledWorkersJobRunsAgainAtOnce) {
  Start();
  const std::string name = Submit(10, 50);
  AwaitProgress(name);
  const auto killed = steady_clock::now();
  kill(server_->worker_pid(), SIGKILL);
  Await(name, [](const v1::Job& job) { return job.attempt() == 2; });
  const auto recovery = steady_clock::now() - killed;
  EXPECT_LT(recovery, std::chrono::seconds(35));
  std::cout << "runs again after " << std::chrono::duration_cast<milliseconds>(recovery).count()
            << " ms\n";
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  ASSERT_EQ(job.attempts_size(), 2);
  EXPECT_EQ(job.attempts(0).outcome(), "lost");
  EXPECT_EQ(job.attempts(0).error().reason(), "WORKER_DIED");
  EXPECT_THAT(job.attempts(0).error().message(), HasSubstr("signal 9"));
  EXPECT_THAT(Http("/metrics"), HasSubstr("svdllm_leases_lost_total 1"));
  EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/data/work") ||
              !std::filesystem::exists(std::filesystem::path(directory_) / "data" / "work" /
                                       name.substr(5)));
}

TEST_F(ServerFaultTest, DeviceWhoseWorkerDiesTouchesNoOtherDevicesJob) {
  Start({"--devices=cuda:1,cuda:10"});  // the name of one begins that of the other
  for (int i = 0; i < 500 && server_->worker_pid("cuda:10") == 0; ++i) usleep(10'000);
  const std::vector<std::string> names = {Submit(40, 50), Submit(40, 50)};
  for (const std::string& name : names) AwaitProgress(name);  // both at a time
  const pid_t other = server_->worker_pid("cuda:10");
  kill(server_->worker_pid("cuda:1"), SIGKILL);
  std::vector<v1::Job> jobs;
  for (const std::string& name : names) jobs.push_back(AwaitEnd(name));
  if (jobs[0].attempt() != 2) std::swap(jobs[0], jobs[1]);
  EXPECT_EQ(jobs[0].state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(jobs[0].attempts(0).outcome(), "lost");
  EXPECT_EQ(jobs[1].state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(jobs[1].attempt(), 1);
  EXPECT_THAT(jobs[1].attempts(), SizeIs(1));
  EXPECT_EQ(server_->worker_pid("cuda:10"), other) << "never restarted";
  const std::string metrics = Http("/metrics");
  EXPECT_THAT(metrics, HasSubstr("svdllm_worker_restarts_total 1"));
  EXPECT_THAT(metrics, HasSubstr("svdllm_leases_lost_total 1"));
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->Log();
  EXPECT_NE(kill(other, 0), 0) << "all workers end with the server";
}

TEST_F(ServerFaultTest, JobThatKillsItsWorkerFailsAfterThreeAttemptsAndTheNextRuns) {
  Start();
  std::ofstream(model_ + "/crash") << "x";
  const v1::Job job = AwaitEnd(Submit(2, 2));
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(job.error().reason(), "ATTEMPTS_EXHAUSTED");
  EXPECT_THAT(job.attempts(), SizeIs(3));
  std::filesystem::remove(model_ + "/crash");
  EXPECT_EQ(AwaitEnd(Submit(2, 2)).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ServerFaultTest, WorkerWhoseDeviceIsPoisonedIsReplaced) {
  Start();
  for (int i = 0; i < 500 && server_->worker_pid("auto") == 0; ++i) usleep(10'000);
  const pid_t first = server_->worker_pid();
  std::ofstream(model_ + "/poison_once") << "x";
  const v1::Job job = AwaitEnd(Submit(2, 2));
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED) << "on the replacement";
  ASSERT_THAT(job.attempts(), SizeIs(2));
  EXPECT_EQ(job.attempts(0).outcome(), "failed") << "stored before the worker ends";
  EXPECT_THAT(job.attempts(0).error().message(), HasSubstr("the device failed"));
  EXPECT_THAT(job.attempts(0).error().message(), HasSubstr("the device is poisoned"));
  EXPECT_NE(server_->worker_pid(), first);
  EXPECT_THAT(server_->Log(), HasSubstr("exited with status 1"));
  EXPECT_THAT(Http("/metrics"), HasSubstr("svdllm_leases_lost_total 0"));
}

TEST_F(ServerFaultTest, DeviceThatCannotBeOpenedCostsNoJobAnAttempt) {
  const std::string gone = directory_ + "/gone";
  std::ofstream(gone) << "x";
  setenv("FAKE_DEVICE_GONE", gone.c_str(), 1);
  Start();
  unsetenv("FAKE_DEVICE_GONE");
  const std::string name = Submit(2, 2);
  for (int i = 0; i < 500 && server_->Log().find("exited with status 1") == std::string::npos; ++i)
    usleep(10'000);
  EXPECT_THAT(server_->Log(), HasSubstr("the device is gone"));
  EXPECT_EQ(Get(name).state(), v1::JOB_STATE_QUEUED);
  std::filesystem::remove(gone);
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempt(), 1);
}

TEST_F(ServerFaultTest, CpuBesideACudaDeviceGetsNoneOfItsLimit) {
  const auto arguments = [this](const std::string& device) {
    for (int i = 0; i < 500 && server_->worker_pid(device) == 0; ++i) usleep(10'000);
    std::ifstream line("/proc/" + std::to_string(server_->worker_pid(device)) + "/cmdline");
    return std::string(std::istreambuf_iterator<char>(line), {});
  };
  Start({"--devices=cuda:0,cpu", "--device_memory_limit=1GiB"});
  EXPECT_THAT(arguments("cpu"), HasSubstr("--device_memory_limit=0"));
  EXPECT_THAT(arguments("cuda:0"), Not(HasSubstr("--device_memory_limit=0")));
  Start({"--devices=cpu", "--device_memory_limit=1GiB"});
  EXPECT_THAT(arguments("cpu"), Not(HasSubstr("--device_memory_limit=0")));
}

TEST_F(ServerFaultTest, KilledServerTakesItsWorkerAlongAndItsSuccessorResumesAtOnce) {
  Start();
  const std::string running = Submit(20, 50);
  const std::string waiting = Submit(2, 2);
  AwaitProgress(running);
  const pid_t worker = server_->worker_pid();
  server_->Signal(SIGKILL);
  EXPECT_EQ(server_->Wait(), -SIGKILL);
  for (int i = 0; i < 500 && kill(worker, 0) == 0; ++i) usleep(10'000);
  EXPECT_NE(kill(worker, 0), 0) << "an orphan goes on";
  Start();
  const auto started = steady_clock::now();
  Await(running, [](const v1::Job& job) { return job.attempt() == 2; });
  EXPECT_LT(steady_clock::now() - started, std::chrono::seconds(10)) << "long before the lease";
  EXPECT_EQ(AwaitEnd(running).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(AwaitEnd(waiting).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ServerFaultTest, EverySubmissionAnsweredWithOkSurvivesKillingTheServer) {
  std::vector<std::string> accepted;
  for (int round = 0; round < 3; ++round) {
    Start({"--role=api"});
    v1::Job job;
    ASSERT_TRUE(Submit(1, 2, job).ok());  // a slow machine must not be killed before the first
    accepted.push_back(job.name());
    std::thread killer([&] {
      usleep(static_cast<useconds_t>(100'000 + 70'000 * round));
      server_->Signal(SIGKILL);
    });
    while (Submit(1, 2, job).ok()) accepted.push_back(job.name());
    killer.join();
    EXPECT_EQ(server_->Wait(), -SIGKILL);
  }
  Start({"--role=api"});
  EXPECT_GT(accepted.size(), 0u);
  std::cout << accepted.size() << " accepted\n";
  for (const std::string& name : accepted)
    EXPECT_EQ(Get(name).state(), v1::JOB_STATE_QUEUED) << name;
}

TEST_F(ServerFaultTest, SigtermDrainsGivesTheJobBackAndExitsZero) {
  Start();
  const std::string name = Submit(20, 50);
  AwaitProgress(name);
  grpc::Status watched;
  std::vector<v1::JobEvent> events;
  std::thread watcher([&] {
    grpc::ClientContext context;
    v1::WatchJobRequest request;
    request.set_name(name);
    const auto reader = stub_->WatchJob(&context, request);
    for (v1::JobEvent event; reader->Read(&event);) events.push_back(event);
    watched = reader->Finish();
  });
  usleep(100'000);
  const auto told = steady_clock::now();
  server_->Signal(SIGTERM);
  std::string ready;
  for (int i = 0; i < 30 && ready.find("503") == std::string::npos; ++i) {
    ready = Http("/readyz");
    usleep(5'000);
  }
  EXPECT_THAT(ready, HasSubstr("503"));
  EXPECT_EQ(Get(name).name(), name) << "still serving";
  EXPECT_EQ(server_->Wait(), 0) << server_->Log();
  std::cout << "drained in "
            << std::chrono::duration_cast<milliseconds>(steady_clock::now() - told).count()
            << " ms\n";
  watcher.join();
  EXPECT_EQ(watched.error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().state_change().state(), v1::JOB_STATE_QUEUED) << "the stream tells of it";

  Start({"--role=api"});
  v1::Job job = Get(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(job.attempt(), 0) << "not counted";
  EXPECT_EQ(job.attempts(0).outcome(), "released");
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
  Start();
  job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempt(), 1);
}

// Stops the worker between two of its writes: within one it would hold the store's lock for as long
// as it is stopped.
void ServerFaultTest::FreezeWorker() {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((directory_ + "/data/jobs.db").c_str(), &db), SQLITE_OK);
  for (bool free = false; !free;) {
    kill(server_->worker_pid(), SIGSTOP);
    usleep(5'000);
    for (int i = 0; i < 20 && !free; ++i) {  // the server writes, too
      free = sqlite3_exec(db, "BEGIN IMMEDIATE; ROLLBACK", nullptr, nullptr, nullptr) == SQLITE_OK;
      if (!free) usleep(5'000);
    }
    if (free) break;
    kill(server_->worker_pid(), SIGCONT);
    usleep(7'000);
  }
  sqlite3_close(db);
}

TEST_F(ServerFaultTest, FrozenWorkerLosesItsLeaseAndChangesNothingAfterwards) {
  Start({"--lease_seconds=1"});
  const std::string name = Submit(20, 50);
  AwaitProgress(name);
  FreezeWorker();
  const v1::Job taken =
      Await(name, [](const v1::Job& job) { return job.state() == v1::JOB_STATE_QUEUED; });
  EXPECT_THAT(taken.attempts(0).error().message(), HasSubstr("lease ran out"));
  const int64_t sequence = taken.last_sequence();
  kill(server_->worker_pid(), SIGCONT);
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempt(), 2);
  // The next event after the lease was taken is the next attempt's: the thawed one wrote nothing.
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_after_sequence(sequence);
  const auto reader = stub_->WatchJob(&context, request);
  v1::JobEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.state_change().state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(event.attempt(), 2);
  while (reader->Read(&event)) EXPECT_EQ(event.attempt(), 2);
  EXPECT_TRUE(reader->Finish().ok());
  const std::string metrics = Http("/metrics");
  EXPECT_THAT(metrics, HasSubstr("svdllm_leases_lost_total 1"));
  EXPECT_THAT(metrics, ::testing::Not(HasSubstr("svdllm_fenced_writes_total 0")));
}

TEST_F(ServerFaultTest, WorkerOfItsOwnServesAnApiWithoutOne) {
  Start({"--role=api"});
  const std::string name = Submit(2, 2);
  testing::ServerProcess worker(FAKE_SERVER, Arguments({"--role=worker"}), directory_ + "/w_log");
  EXPECT_EQ(AwaitEnd(name).state(), v1::JOB_STATE_SUCCEEDED);
  worker.Signal(SIGTERM);
  EXPECT_EQ(worker.Wait(), 0);
}

TEST_F(ServerFaultTest, FullDiskRefusesSubmissionsAndLeavesTheServerAnswering) {
  Start({"--role=api"}, /*max_file_bytes=*/400'000);
  const std::string first = Submit(1, 2);
  v1::Job job;
  grpc::Status status;
  for (int i = 0; i < 2000 && status.ok(); ++i) status = Submit(1, 2, job);
  EXPECT_THAT(status.error_code(),
              AnyOf(grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_EQ(ReasonOf(status), "STORE_UNAVAILABLE") << status.error_message();
  EXPECT_EQ(Get(first).state(), v1::JOB_STATE_QUEUED);
  EXPECT_THAT(Http("/livez"), HasSubstr("200 OK"));
}

TEST_F(ServerFaultTest, TwoServersNeverShareADirectory) {
  Start({"--role=api"});
  const auto [status, log] = RunToEnd(Arguments({"--role=api"}));
  EXPECT_EQ(status, 1);
  EXPECT_THAT(log, HasSubstr("another server runs in " + directory_));
}

TEST_F(ServerFaultTest, BadSettingsAreRefusedByName) {
  const auto expect = [&](const std::vector<std::string>& arguments, const std::string& text,
                          const std::vector<std::string>& environment = {}) {
    const auto [status, log] = RunToEnd(arguments, environment);
    EXPECT_EQ(status, 2) << log;
    EXPECT_THAT(log, HasSubstr(text));
  };
  expect({}, "--data_dir: is required");
  expect(Arguments({"--listen=0.0.0.0:7070"}), "--listen: 0.0.0.0:7070 can be reached");
  expect(Arguments({"--http_listen=10.0.0.1:1"}), "--http_listen: 10.0.0.1:1 can be reached");
  expect(Arguments({"--listen=nonsense"}), "nonsense");
  expect(Arguments({"--role=king"}), "\"king\" is none of all, api, worker");
  expect(Arguments({"--lease_seconds=0"}), "--lease_seconds");
  expect(Arguments({"--role=worker", "--devices=cuda:0,cuda:1"}),
         "--devices: a worker computes on one device");
  for (const char* bytes : {"", "much", "16GB", "1.5GiB", "-1", "16 GiB", "9999999TiB"}) {
    expect(Arguments({std::string("--device_memory_limit=") + bytes}),
           "--device_memory_limit: \"" + std::string(bytes) + "\" is no number of bytes");
  }
  expect(Arguments({"extra"}), "unexpected argument extra");
  expect(Arguments({"--data_dirr=x"}), "unknown flag --data_dirr, did you mean --data_dir?");
  expect(Arguments({"--queue_limit=many"}), "--queue_limit: \"many\" is not a value of it");
  expect(Arguments({"--queue_limit"}), "--queue_limit: needs a value");
  expect(Arguments({"--insecure_allow_remote=perhaps"}), "--insecure_allow_remote");
  expect(Arguments({"--nolisten"}), "unknown flag --nolisten");
  expect(Arguments({"--undefok=x"}), "unknown flag --undefok");  // Abseil's own
  expect({}, "SVDLLM_LISTNE: the environment variable sets nothing, did you mean SVDLLM_LISTEN?",
         {"SVDLLM_LISTNE=x", "SVDLLM_DATA_DIR=" + directory_});
  // What Kubernetes says of a service named svdllm, and what is the client's.
  expect({}, "--role: \"queen\"",
         {"SVDLLM_PORT=tcp://10.0.0.1:7070", "SVDLLM_PORT_7070_TCP_ADDR=10.0.0.1",
          "SVDLLM_METRICS_SERVICE_HOST=10.0.0.2", "SVDLLM_SERVICE_PORT_GRPC=7070",
          "SVDLLM_SERVER=host:1", "SVDLLM_ROLE=queen", "SVDLLM_DATA_DIR=" + directory_});
  expect({}, "--role: \"queen\"", {"SVDLLM_ROLE=queen", "SVDLLM_DATA_DIR=" + directory_});
  expect({}, "SVDLLM_QUEUE_LIMIT", {"SVDLLM_QUEUE_LIMIT=many"});
  expect({"--role=king"}, "\"king\"", {"SVDLLM_ROLE=queen", "SVDLLM_DATA_DIR=" + directory_});
  const auto [status, help] = RunToEnd({"--help"});
  EXPECT_EQ(status, 0);
  EXPECT_THAT(help, HasSubstr("--data_dir"));
  EXPECT_THAT(help, HasSubstr("SVDLLM_DATA_DIR"));
}

}  // namespace
}  // namespace svdllm
