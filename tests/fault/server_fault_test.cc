// The promises that concern dying: bounded recovery, fencing, poison bound, graceful stop, full
// disks.
#include <chrono>
#include <iostream>
#include <thread>

#include "server_fault_fixture.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

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
  const std::string busy = Http("/metrics");
  EXPECT_THAT(busy, HasSubstr("svdllm_workers{device=\"cuda:1\",state=\"running\"} 1"));
  EXPECT_THAT(busy, HasSubstr("svdllm_workers{device=\"cuda:10\",state=\"running\"} 1"));
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
  EXPECT_THAT(Http("/metrics"), HasSubstr("svdllm_workers{device=\"cuda:10\",state=\"idle\"} 1"));
  const std::string metrics = Http("/metrics");
  EXPECT_THAT(metrics, HasSubstr("svdllm_worker_restarts_total{device=\"cuda:1\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("svdllm_worker_restarts_total{device=\"cuda:10\"} 0"));
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
  Start({"--artifact_root=" + directory_});  // the worker takes the file away that poisons it
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

TEST_F(ServerFaultTest, FrozenWorkerIsReplaced) {
  Start({"--lease_seconds=1"});
  const std::string name = Submit(20, 50);
  AwaitProgress(name);
  const pid_t frozen = server_->worker_pid();
  FreezeWorker();
  const auto begin = steady_clock::now();
  Await(name, [](const v1::Job& job) { return job.attempt() == 2; });
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(6)) << "the lease and 5 s";
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempts(0).error().reason(), "WORKER_DIED");
  EXPECT_NE(server_->worker_pid(), frozen);
  EXPECT_NE(kill(frozen, 0), 0) << "killed";
}

// As soon as it has started, again and again: neither that it has given no sign yet nor that the
// one before it did not live for long delays its replacement.
TEST_F(ServerFaultTest, WorkersFrozenAtTheirStartAreReplaced) {
  Start({"--lease_seconds=0.5", "--devices=cpu"});
  pid_t latest = 0;
  for (int i = 0; i < 8; ++i) {
    const auto begin = steady_clock::now();
    while (server_->worker_pid("cpu") == latest) {
      ASSERT_LT(steady_clock::now() - begin, std::chrono::seconds(5)) << "stop " << i;
      usleep(1'000);
    }
    latest = server_->worker_pid("cpu");
    kill(latest, SIGSTOP);
  }
  EXPECT_EQ(AwaitEnd(Submit(2, 2)).state(), v1::JOB_STATE_SUCCEEDED);
}

// A worker that nobody supervises, and so nobody kills.
TEST_F(ServerFaultTest, FrozenWorkerLosesItsLeaseAndChangesNothingAfterwards) {
  Start({"--lease_seconds=1", "--role=api"});
  testing::ServerProcess frozen(FAKE_SERVER, Arguments({"--role=worker", "--lease_seconds=1"}),
                                directory_ + "/w_log");
  const std::string name = Submit(20, 50);
  AwaitProgress(name);
  Freeze([&](int signal) { frozen.Signal(signal); });
  const v1::Job taken =
      Await(name, [](const v1::Job& job) { return job.state() == v1::JOB_STATE_QUEUED; });
  EXPECT_THAT(taken.attempts(0).error().message(), HasSubstr("lease ran out"));
  const int64_t sequence = taken.last_sequence();
  frozen.Signal(SIGCONT);
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

TEST_F(ServerFaultTest, WorkerFrozenInATransactionKeepsNobodyFromSubmitting) {
  Start({"--lease_seconds=30"});
  std::mt19937 random(1);
  const auto locked = [this] {
    sqlite3* db = nullptr;
    sqlite3_open((directory_ + "/data/jobs.db").c_str(), &db);
    const bool busy = sqlite3_exec(db, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_BUSY;
    sqlite3_close(db);
    return busy;
  };
  for (int i = 0; i < 400; ++i) {
    if (i % 20 == 0) Submit(50, 2);
    kill(server_->worker_pid(), SIGSTOP);
    if (locked()) {
      const auto begin = steady_clock::now();
      v1::Job job;
      EXPECT_TRUE(Submit(1, 2, job).ok());
      EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(3));
      std::cout << "accepted after "
                << std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin).count()
                << " ms (try " << i << ")\n";
      return;
    }
    kill(server_->worker_pid(), SIGCONT);
    usleep(random() % 20'000);
  }
  GTEST_SKIP() << "the lock was never held by a stopped worker";
}

TEST_F(ServerFaultTest, LostAttemptsLeaveNothing) {
  Start();
  const std::string name = Submit(40, 50);
  AwaitProgress(name);
  const std::string work = directory_ + "/data/work";
  EXPECT_FALSE(std::filesystem::is_empty(work)) << "or there would be nothing to leave";
  kill(server_->worker_pid(), SIGKILL);
  Await(name, [](const v1::Job& job) { return job.attempt() == 2; });
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_name(name);
  v1::Job job;
  EXPECT_TRUE(stub_->CancelJob(&context, request, &job).ok());
  AwaitEnd(name);
  for (int i = 0; i < 1500 && !std::filesystem::is_empty(work); ++i) usleep(10'000);
  EXPECT_TRUE(std::filesystem::is_empty(work));
}

TEST_F(ServerFaultTest, DamagedJobStoreIsRefused) {
  Start({"--role=api"});
  for (int i = 0; i < 40; ++i) Submit(1, 2);
  server_->Signal(SIGTERM);
  ASSERT_EQ(server_->Wait(), 0);
  {
    std::fstream file(directory_ + "/data/jobs.db",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 * 5);
    file << std::string(4096, '\x5a');
  }
  const auto [status, log] = RunToEnd(Arguments({"--role=api"}));
  EXPECT_EQ(status, 1);
  EXPECT_THAT(log, HasSubstr("is damaged"));
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
