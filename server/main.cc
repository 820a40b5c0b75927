// svdllm-server: the API, a supervised worker, or both.
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/files.h"
#include "base/logging.h"
#include "base/machine.h"
#include "base/map_guard.h"
#include "pipeline/estimate.h"
#include "queue/job_store.h"
#include "queue/worker.h"
#include "server/api_server.h"
#include "server/child_process.h"
#include "server/confine.h"
#include "server/data_dir.h"
#include "server/engine.h"
#include "server/flags.h"
#include "server/heartbeat.h"
#include "server/periodic.h"
#include "server/planner_pool.h"
#include "server/retention.h"
#include "server/run_job.h"
#include "server/store_care.h"
#include "server/supervisor.h"
#include "server/understood.h"

namespace svdllm {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Blocks until SIGTERM or SIGINT, or for timeout_ms; whether there was one.
bool AwaitStopSignal(int64_t timeout_ms) {
  const sigset_t signals = StopSignals();
  const timespec timeout{timeout_ms / 1000, (timeout_ms % 1000) * 1000000};
  return sigtimedwait(&signals, nullptr, &timeout) > 0;
}

constexpr int64_t kCollectMs = 10'000;  // between two looks for what is kept no longer
constexpr int kAbandonedStatus = 75;    // EX_TEMPFAIL

// What the roles need, in the order of construction.
struct World {
  std::unique_ptr<JobStore> store;
  std::unique_ptr<ArtifactStore> artifacts;
  Engine engine;
};

absl::Status OpenPipeline(const ServerOptions& options, World& world) {
  ASSIGN_OR_RETURN(world.artifacts, NewFileStore({options.model_roots, options.artifact_root}));
  ASSIGN_OR_RETURN(world.engine, PipelineEngine(options.devices));
  return absl::OkStatus();
}

// heartbeat: of a worker that has one; it outlives the world.
absl::Status OpenStore(const ServerOptions& options, World& world, Heartbeat* heartbeat) {
  SqliteStoreOptions store;
  store.path = StorePath(options.data_dir);
  store.owner_limits = options.owner_limits;
  if (heartbeat != nullptr) {
    store.writing = [heartbeat](bool writing) { heartbeat->SetWriting(writing); };
  }
  // Who waits for others' changes longer than a lease would lose it.
  store.busy_timeout_ms = static_cast<int>(std::min<int64_t>(5000, options.lease_ms / 2));
  ASSIGN_OR_RETURN(world.store, OpenSqliteJobStore(store));
  return absl::OkStatus();
}

void LogDevices(const Engine& engine) {
  for (const DeviceInfo& device : engine.devices) {
    Log(LogLevel::kInfo, "computing on",
        {{"device", device.name},
         {"is", device.description},
         {"memory_limit_bytes", device.memory_limit_bytes}});
  }
  if (!engine.device_note.empty()) {
    Log(LogLevel::kInfo, "no CUDA device is used", {{"why", engine.device_note}});
  }
}

std::string WorkRoot(const ServerOptions& options) { return options.data_dir + "/work"; }

JobVolumes VolumesOf(const ServerOptions& options) {
  return {WorkRoot(options), options.artifact_root};
}

// What a server has started ends with it.
absl::Status TieToServer(const ServerOptions& options) {
  if (options.parent_pid == 0) return absl::OkStatus();
  RETURN_IF_ERROR(TieToParent(options.parent_pid));
  // Where memory runs out, it is a child that should go: that ends one attempt, not the API.
  std::ofstream("/proc/self/oom_score_adj") << "500";
  return absl::OkStatus();
}

// What a planner or a worker may still do from now on: read the model roots, write what it
// publishes and `own`, which has to be there. A planner tries outputs by making a directory.
absl::Status ConfineProcess(const ServerOptions& options, const std::vector<std::string>& own) {
  if (options.confine == ConfineMode::kOff) return absl::OkStatus();
  std::error_code error;  // who needs the directory says what is wrong with it
  std::filesystem::create_directories(options.artifact_root, error);
  Confinement confinement;
  confinement.read = PathsOfProgram();
  confinement.read.push_back(options.artifact_root);
  const std::vector<std::string>& roots = options.model_roots;
  confinement.read.insert(confinement.read.end(), roots.begin(), roots.end());
  if (roots.empty()) confinement.read.emplace_back("/");
  if (options.role == Role::kPlanner) {
    confinement.make_directories = {options.artifact_root};
  } else {
    confinement.write = own;
    confinement.write.push_back(options.artifact_root);
  }
  const std::vector<std::string>& devices = options.devices.names;
  confinement.cuda =
      HasCudaDevices() &&
      std::any_of(devices.begin(), devices.end(), [](const auto& name) { return name != "cpu"; });
  const absl::Status confined = Confine(confinement);
  if (confined.ok() || options.confine == ConfineMode::kRequire) return confined;
  Log(LogLevel::kWarning, "jobs are not fully confined", {{"why", confined.ToString()}});
  return absl::OkStatus();
}

// What is swapped for a link after it was checked leads out of the model roots no more.
absl::Status ConfineInputs(const ServerOptions& options, const std::string& own) {
  if (options.model_roots.empty()) return absl::OkStatus();
  std::vector<std::string> roots = options.model_roots;
  roots.push_back(options.artifact_root);
  if (!own.empty()) roots.push_back(own);
  const absl::Status confined = ConfineReads(roots);
  return absl::IsUnimplemented(confined) ? absl::OkStatus() : confined;  // the server has said it
}

// Says once what of its confinement the server, or a worker by itself, goes without.
absl::Status CheckConfinement(const ServerOptions& options) {
  const bool off = options.confine == ConfineMode::kOff;
  std::string missing = off ? "--confine=off" : NotConfined();
  if (!options.model_roots.empty() && !CanConfineReads()) {
    missing += (missing.empty() ? "" : "; ") +
               std::string(
                   "the kernel has no openat2: links out of the model roots are looked "
                   "for, but not held back");
  }
  if (missing.empty()) return absl::OkStatus();
  if (options.confine == ConfineMode::kRequire) {
    return absl::FailedPreconditionError("--confine=require: " + missing);
  }
  Log(LogLevel::kWarning, "jobs are not fully confined", {{"why", missing}});
  return absl::OkStatus();
}

// The most that a planner's own memory may grow to; files that it maps do not count.
constexpr int64_t kPlannerBytes = int64_t{4} << 30;

absl::Status RunPlanner(const ServerOptions& options) {
  SetLogContext({{"role", "planner"}});
  InstallMapGuard();
  RETURN_IF_ERROR(TieToServer(options));
  const auto bytes = static_cast<rlim_t>(std::min(kPlannerBytes, UsableMemoryBytes()));
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_DATA, &limit);
  RETURN_IF_ERROR(ConfineProcess(options, {}));
  World world;
  RETURN_IF_ERROR(OpenPipeline(options, world));
  RETURN_IF_ERROR(ConfineInputs(options, ""));
  return ServeChecks(options.planner_fd,
                     CheckHere(world.engine, *world.artifacts, VolumesOf(options)));
}

absl::Status RunWorker(const ServerOptions& options) {
  SetLogContext({{"role", "worker"}, {"worker", options.worker_id}});
  InstallMapGuard();
  RETURN_IF_ERROR(TieToServer(options));
  std::optional<Heartbeat> heartbeat;
  if (options.heartbeat_fd >= 0) {
    ASSIGN_OR_RETURN(Heartbeat attached, Heartbeat::Attach(options.heartbeat_fd));
    heartbeat.emplace(std::move(attached));
  }
  if (options.parent_pid == 0) {
    RETURN_IF_ERROR(Annotate(PrepareDataDir(options.data_dir), "--data_dir"));
    RETURN_IF_ERROR(PrepareStoreFile(options.data_dir));
    RETURN_IF_ERROR(CheckConfinement(options));
  }
  World world;
  RETURN_IF_ERROR(OpenStore(options, world, heartbeat.has_value() ? &*heartbeat : nullptr));
  ASSIGN_OR_RETURN(const std::string work, PrepareWorkDir(options.data_dir));
  setenv("SQLITE_TMPDIR", work.c_str(), /*overwrite=*/1);  // where a large sort spills
  // The store's files stay there as long as this process has them open.
  const std::string store = StorePath(options.data_dir);
  RETURN_IF_ERROR(ConfineProcess(options, {work, store, store + "-wal", store + "-shm"}));
  RETURN_IF_ERROR(OpenPipeline(options, world));
  RETURN_IF_ERROR(ConfineInputs(options, work));
  world.engine.devices.resize(1);                         // auto: a worker takes the first
  if (options.parent_pid == 0) LogDevices(world.engine);  // else the server has said it
  WorkerOptions worker_options;
  worker_options.id = options.worker_id;
  worker_options.lease_ms = options.lease_ms;
  worker_options.stop_ms = options.stop_ms;
  worker_options.stall_ms = options.stall_ms;
  // Less than the server waits for this process, which has to give the job back besides.
  worker_options.keep_ms = options.grace_ms * 3 / 4;
  worker_options.ended = [root = WorkRoot(options)](const std::string& id) {
    RemoveJournal(root, id);
  };
  if (heartbeat.has_value()) worker_options.beat = [&heartbeat] { heartbeat->Beat(); };
  // At once: a thread that hangs would keep every orderly end waiting.
  worker_options.abandon = [](const std::string&) { _exit(kAbandonedStatus); };
  worker_options.can_run = UnderstoodJobs();
  worker_options.prepare = world.engine.open_device;
  worker_options.check_after_failure = world.engine.check_device;
  Worker worker(*world.store, MakeJobHandler(world.engine, *world.artifacts, VolumesOf(options)),
                worker_options);
  absl::Status ended;
  std::thread thread([&] {
    ended = worker.Run();
    kill(getpid(), SIGTERM);  // wakes this process where the worker ended by itself
  });
  while (!AwaitStopSignal(3'600'000)) {
  }
  worker.Stop();
  thread.join();
  return ended;
}

// Held for the life of the process. Two servers in one data_dir would take each other's jobs for
// orphans.
absl::Status LockDataDir(const ServerOptions& options) {
  RETURN_IF_ERROR(Annotate(PrepareDataDir(options.data_dir), "--data_dir"));
  const std::string path = options.data_dir + "/server.lock";
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return ErrnoToStatus(errno, "open", path);
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    close(file);
    return absl::FailedPreconditionError("--data_dir: another server runs in " + options.data_dir);
  }
  return absl::OkStatus();
}

// malloc gives threads arenas of their own, up to eight per core, and each keeps the most that it
// ever held: after hours every one of them has had its large answer. Two, which give back what is
// past a megabyte, are enough for threads that mostly wait.
void BoundMalloc() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
}

// Takes the data directory, and opens all that a server needs.
absl::Status OpenServer(const ServerOptions& options, World& world) {
  // Its workers and planners are started from there: it could answer, and never do anything.
  if (access("/proc/self/exe", X_OK) != 0) {
    return absl::FailedPreconditionError(
        "there is no /proc/self/exe, from which workers and planners are started: mount /proc "
        "(mount -t proc proc /proc)");
  }
  RETURN_IF_ERROR(LockDataDir(options));
  RETURN_IF_ERROR(PrepareStore(options.data_dir, options.restore_backup));
  RETURN_IF_ERROR(PrepareStoreFile(options.data_dir));
  RETURN_IF_ERROR(CheckConfinement(options));
  RETURN_IF_ERROR(OpenStore(options, world, nullptr));
  RETURN_IF_ERROR(OpenPipeline(options, world));
  LogDevices(world.engine);
  return absl::OkStatus();
}

ApiServerOptions ApiOptions(const ServerOptions& options) {
  ApiServerOptions api;
  api.listen = options.listen;
  api.http_listen = options.http_listen;
  api.tls = options.tls;
  api.tokens = options.tokens;
  api.artifact_root = options.artifact_root;
  api.data_dir = options.data_dir;
  api.work_root = WorkRoot(options);
  api.model_roots = options.model_roots;
  api.queue_limit = options.queue_limit;
  api.lease_ms = options.lease_ms;
  api.max_request_bytes = options.max_request_bytes;
  return api;
}

absl::Status RunServer(const ServerOptions& options, const std::vector<std::string>& arguments) {
  BoundMalloc();
  SetLogContext({{"role", "api"}});
  World world;
  RETURN_IF_ERROR(OpenServer(options, world));
  std::optional<PeriodicThread> backups;
  if (options.backup_ms > 0) {
    backups.emplace(UntilBackupMs(options.data_dir, options.backup_ms), [&options] {
      BackUp(options.data_dir);
      return options.backup_ms;
    });
  }
  const PeriodicThread collection(kCollectMs, [&options, &world] {
    const bool more = Collect(*world.store, *world.artifacts, options.keep_jobs_ms);
    return more ? kCollectMs / 10 : kCollectMs;
  });
  PlannerPool planners(arguments, PlannerOptions{.deadline_ms = options.plan_ms});
  MeasureRate();  // for plans, before a worker computes: the machine is hardly idler later
  std::vector<std::unique_ptr<Supervisor>> supervisors;  // one a device
  ApiServerOptions api = ApiOptions(options);
  api.checker = planners.checker();
  if (options.role == Role::kAll) {
    // Workers of a predecessor died with it: no need to wait for their leases.
    RETURN_IF_ERROR(
        world.store->ReleaseWorkers(kChildWorkerPrefix, "the server was restarted").status());
    for (const DeviceInfo& device : world.engine.devices) {
      std::vector<std::string> own = arguments;
      // The limit is for the CUDA devices beside it.
      if (device.name == "cpu" && world.engine.devices.size() > 1) {
        own.push_back("--device_memory_limit=0");
      }
      supervisors.push_back(
          std::make_unique<Supervisor>(own, device.name, options.lease_ms, *world.store));
    }
    api.workers = [&supervisors] {
      std::vector<WorkerProcess> workers;
      for (const auto& supervisor : supervisors) workers.push_back(supervisor->Worker());
      return workers;
    };
  }
  ASSIGN_OR_RETURN(const auto server,
                   ApiServer::Start(api, *world.store, *world.artifacts, world.engine));
  // Ports are texts: parts of addresses, which is what scripts put them into.
  Log(LogLevel::kInfo, "serving",
      {{"version", SVDLLM_VERSION},
       {"listen", options.listen},
       {"grpc_port", std::to_string(server->port())},
       {"http_port", std::to_string(server->http_port())},
       {"data_dir", options.data_dir}});
  while (!AwaitStopSignal(3'600'000)) {
  }
  Log(LogLevel::kInfo, "draining");
  server->SetNotReady();
  for (const auto& supervisor : supervisors) supervisor->RequestStop();
  AwaitStopSignal(options.drain_ms);  // a second signal shortens it
  planners.Stop();
  server->Shutdown();
  // They were all told to stop above; whoever has not by now gets grace_ms, not each its own.
  std::vector<std::thread> joins;
  for (const auto& supervisor : supervisors) {
    joins.emplace_back([&supervisor, &options] { supervisor->Join(options.grace_ms); });
  }
  for (std::thread& join : joins) join.join();
  Log(LogLevel::kInfo, "stopped");
  return absl::OkStatus();
}

// OpenMP reads its settings when the program is loaded, so they are made before it is loaded anew.
// Threads: as many as a container's quota pays for, not as its host has; more would wait for each
// other. Waiting ones sleep: on cores that are shared, spinning keeps those from working that have
// something to do. What the environment says goes before.
void SetThreads(char** argv) {
  constexpr char kPolicy[] = "OMP_WAIT_POLICY", kThreads[] = "OMP_NUM_THREADS";
  if (getenv(kPolicy) != nullptr && getenv(kThreads) != nullptr) return;
  setenv(kPolicy, "passive", /*overwrite=*/0);
  setenv(kThreads, std::to_string(UsableCores()).c_str(), /*overwrite=*/0);
  execv("/proc/self/exe", argv);
  // Without /proc it goes on as it was: RunServer says what is missing.
}

int Main(int argc, char** argv) {
  SetThreads(argv);
  // Before any thread: all inherit it, and only AwaitStopSignal takes these signals.
  const sigset_t signals = StopSignals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  const auto options = ParseServerOptions(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "svdllm-server: %s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  if (options->check_store) return PrintStoreCheck(options->data_dir);
  SetLogLevel(options->log_level);
  absl::Status status;
  switch (options->role) {
    case Role::kPlanner:
      status = RunPlanner(*options);
      break;
    case Role::kWorker:
      status = RunWorker(*options);
      break;
    case Role::kAll:
    case Role::kApi:
      status = RunServer(*options, std::vector<std::string>(argv + 1, argv + argc));
  }
  if (status.ok()) return 0;
  Log(LogLevel::kError, "cannot run", {{"error", status.ToString()}});
  return absl::IsInvalidArgument(status) ? 2 : 1;  // 2: a setting names what is not there
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
