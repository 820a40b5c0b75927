#include "server/api_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "metrics/device_collector.h"
#include "metrics/families.h"
#include "metrics/host_collector.h"
#include "metrics/metrics.h"
#include "metrics/store_collector.h"
#include "server/compression_service.h"
#include "server/grpc_tls.h"
#include "server/http_server.h"
#include "server/identity.h"
#include "server/leftovers.h"
#include "server/reflection.h"
#include "server/store_care.h"
#include "server/unix_socket.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLeaseCheck(1000);
constexpr int kReadyChecks = 5;  // lease checks between two looks at readiness and leftovers
constexpr milliseconds kShutdownPatience(2000);
constexpr int64_t kWatchPollMs = 50;
constexpr size_t kQuotaBytes = size_t{256} << 20;
constexpr unsigned kReloadSeconds = 1;  // between two looks at the files of TLS and tokens
constexpr char kPaths[] = "svdllm-server " SVDLLM_VERSION
                          "\n"
                          "/metrics  for Prometheus\n"
                          "/livez    the server answers\n"
                          "/readyz   the server takes jobs, or why it does not\n";
constexpr char kService[] = "svdllm.v1.CompressionService";

// Resident memory of a process; 0 where it is gone.
double ResidentBytes(const std::string& process) {
  std::ifstream statm("/proc/" + process + "/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE));
}

std::vector<WatchedDevice> Watched(const std::vector<DeviceInfo>& devices) {
  std::vector<WatchedDevice> watched;
  for (const DeviceInfo& device : devices) {
    watched.push_back({device.name, device.model, device.driver, device.pci_bus_id,
                       device.memory_bytes, device.memory_limit_bytes});
  }
  return watched;
}

// gRPC's own lines in the form of ours.
void LogFromGrpc(gpr_log_func_args* line) {
  const LogLevel level =
      line->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  Log(level, line->message, {{"source", "grpc"}});
}

class ApiServerImpl final : public ApiServer {
 public:
  ApiServerImpl(const ApiServerOptions& options, std::unique_ptr<Identities> identities,
                JobStore& store, ArtifactStore& artifacts, const Engine& engine)
      : options_(options),
        identities_(std::move(identities)),
        store_(store),
        artifacts_(artifacts),
        api_(store, engine, options.checker.value_or(CheckHere(engine, artifacts)),
             {options.queue_limit, options.lease_ms, options.max_request_bytes,
              options.artifact_root, options.model_roots, options.max_watchers}),
        hub_(store, kWatchPollMs, options.max_watchers),
        rpc_metrics_(registry_),
        service_(api_, store, hub_, rpc_metrics_, *identities_),
        reflection_({kService, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                     "grpc.reflection.v1alpha.ServerReflection"}),
        collector_([this](StoreSample& sample) { return Sample(sample); }),
        device_collector_(Watched(engine.devices), options.nvml_library),
        host_collector_({{"artifact_root", options.artifact_root}, {"data_dir", options.data_dir}},
                        BackupPath(options.data_dir)) {
    memory_ = &prometheus::BuildGauge()
                   .Name(kHostMemoryBytes)
                   .Help("Resident memory of the server's processes.")
                   .Register(registry_);
    watchers_ = &prometheus::BuildGauge()
                     .Name(kWatchers)
                     .Help("Open WatchJob streams and WaitJob calls.")
                     .Register(registry_)
                     .Add({});
    prometheus::Labels build = {{"version", SVDLLM_VERSION}};
    if (*SVDLLM_COMMIT != '\0') build["commit"] = SVDLLM_COMMIT;
    prometheus::BuildGauge()
        .Name(kBuildInfo)
        .Help("Always 1; the labels tell the version, and the commit where the build was told it.")
        .Register(registry_)
        .Add(build)
        .Set(1);
  }
  ~ApiServerImpl() override { Shutdown(); }

  absl::Status Listen();
  int port() const override { return port_; }
  int http_port() const override { return http_ != nullptr ? http_->port() : 0; }
  void SetNotReady() override;
  void Shutdown() override;

 private:
  bool Sample(StoreSample& sample);
  absl::Status ListenHttp();
  // Whether a caller may see what is not everybody's to see.
  absl::Status Admit(const Credentials& credentials) const;
  void ReloadTls();
  std::string Metrics();
  HttpResponse Ready();
  absl::Status CheckReady();
  void SetHealth(const std::string& service, bool serving);
  // Expires leases and keeps the health service's readiness up to date.
  void Maintain();
  // Reads files of settings again when they change. Apart from Maintain, which may wait for disks.
  void Reload();

  const ApiServerOptions options_;
  const std::unique_ptr<Identities> identities_;
  JobStore& store_;
  ArtifactStore& artifacts_;
  prometheus::Registry registry_;
  JobApi api_;
  WatchHub hub_;
  RpcMetrics rpc_metrics_;
  CompressionService service_;
  ReflectionService reflection_;
  StoreCollector collector_;
  DeviceCollector device_collector_;
  HostCollector host_collector_;
  prometheus::Family<prometheus::Gauge>* memory_ = nullptr;
  prometheus::Gauge* watchers_ = nullptr;
  std::unique_ptr<GrpcTls> grpc_tls_;  // outlives the server
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<HttpServer> http_;
  TlsContents tls_;        // of both ports; of Listen and Reload alone
  std::string tls_fault_;  // of Reload: what was said last
  int port_ = 0;
  std::atomic<bool> draining_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread maintenance_, reload_;
};

absl::Status ApiServerImpl::Listen() {
  gpr_set_log_function(LogFromGrpc);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  ASSIGN_OR_RETURN(const std::optional<std::string> path, UnixPath(options_.listen));
  if (path.has_value()) RETURN_IF_ERROR(CheckUnixSocketFree(*path));
  ASSIGN_OR_RETURN(tls_, ReadTlsFiles(options_.tls));
  if (!tls_.cert.empty() && !path.has_value()) grpc_tls_ = std::make_unique<GrpcTls>(tls_);
  builder.AddListeningPort(
      options_.listen,
      grpc_tls_ != nullptr ? grpc_tls_->Credentials() : grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  builder.RegisterService(&reflection_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_request_bytes));
  builder.SetMaxSendMessageSize(64 << 20);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMostCallsPerConnection);
  // Of what peers have sent and not been answered for; past it, connections are slowed down and
  // refused. A message of the largest size is taken in any case.
  grpc::ResourceQuota quota("server");
  quota.Resize(std::max<size_t>(kQuotaBytes, 4 * static_cast<size_t>(options_.max_request_bytes)));
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port is an error, not shared
  // Clients ping every 10 to 20 s, also when nothing else goes on.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60000);  // frees streams of dead peers
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    server_.reset();
    return absl::UnavailableError("cannot listen on " + options_.listen);
  }
  if (path.has_value()) {
    port_ = 0;
    RETURN_IF_ERROR(ConfineUnixSocket(*path));
  }
  RETURN_IF_ERROR(ListenHttp());
  SetHealth("liveness", true);
  SetHealth(kService, true);
  SetHealth("readiness", CheckReady().ok());
  maintenance_ = std::thread([this] { Maintain(); });
  reload_ = std::thread([this] { Reload(); });
  return absl::OkStatus();
}

absl::Status ApiServerImpl::ListenHttp() {
  if (options_.http_listen.empty()) return absl::OkStatus();
  const auto text = [](std::string body) { return HttpResponse{.body = std::move(body)}; };
  HttpServer::Handlers handlers = {
      {"/", {[text] { return text(kPaths); }, /*may_wait=*/false}},
      {"/metrics",
       {[this] {
          return HttpResponse{200, "text/plain; version=0.0.4; charset=utf-8", Metrics()};
        },
        /*may_wait=*/true, /*guarded=*/true}},
      {"/livez", {[text] { return text("ok\n"); }, /*may_wait=*/false}},
      {"/readyz", {[this] { return Ready(); }}}};
  ASSIGN_OR_RETURN(http_, HttpServer::Start(options_.http_listen, std::move(handlers), tls_,
                                            [this](const Credentials& c) { return Admit(c); }));
  return absl::OkStatus();
}

absl::Status ApiServerImpl::Admit(const Credentials& credentials) const {
  RETURN_IF_ERROR(identities_->Identify(credentials).status());
  // The handshake of this port lets in callers without a certificate, who may ask for health.
  const bool unknown = !identities_->ask_for_tokens() && !options_.tls.client_ca.empty() &&
                       credentials.certificate_names.empty();
  return unknown ? absl::UnauthenticatedError("this server asks for a certificate")
                 : absl::OkStatus();
}

void ApiServerImpl::SetHealth(const std::string& service, bool serving) {
  if (auto* health = server_->GetHealthCheckService(); health != nullptr) {
    health->SetServingStatus(service, serving);
  }
}

absl::Status ApiServerImpl::CheckReady() {
  if (draining_) return absl::UnavailableError("the server is shutting down");
  RETURN_IF_ERROR(store_.CheckWritable());
  if (access(options_.artifact_root.c_str(), W_OK | X_OK) != 0) {
    return absl::UnavailableError("artifact root " + options_.artifact_root + " is not writable");
  }
  return absl::OkStatus();
}

HttpResponse ApiServerImpl::Ready() {
  const absl::Status status = CheckReady();
  if (status.ok()) return {200, "text/plain", "ok\n"};
  return {503, "text/plain", std::string(status.message().data(), status.message().size()) + "\n"};
}

bool ApiServerImpl::Sample(StoreSample& sample) {
  const auto stats = store_.Stats();
  if (!stats.ok()) return false;
  for (const auto& [state, count] : stats->jobs) {
    sample.jobs[std::string(JobStateName(state))] = count;
  }
  sample.queue_depth = stats->jobs.at(JobState::kQueued);
  if (stats->oldest_queued_ms > 0) {
    sample.oldest_age_seconds = static_cast<double>(WallMs() - stats->oldest_queued_ms) / 1000;
  }
  sample.counters = stats->counters;
  if (!options_.workers) return true;
  for (const WorkerProcess& worker : options_.workers()) {
    const auto& busy = stats->busy_workers;
    const bool runs = std::find(busy.begin(), busy.end(), worker.id) != busy.end();
    sample.workers.push_back(
        {worker.device, worker.pid == 0 ? kWorkerDown : (runs ? kWorkerRunning : kWorkerIdle)});
  }
  return true;
}

std::string ApiServerImpl::Metrics() {
  memory_->Add({{"process", "api"}}).Set(ResidentBytes("self"));
  // Made afresh: two scrapes at a time would both add what is new to a counter.
  prometheus::MetricFamily restarts =
      MakeFamily(kWorkerRestarts, "Times a worker process was started again.",
                 prometheus::MetricType::Counter);
  if (options_.workers) {
    double bytes = 0;
    for (const WorkerProcess& worker : options_.workers()) {
      if (worker.pid != 0) bytes += ResidentBytes(std::to_string(worker.pid));
      AddCounter(restarts, static_cast<double>(worker.restarts),
                 {MakeLabel("device", worker.device)});
    }
    memory_->Add({{"process", "worker"}}).Set(bytes);
  }
  watchers_->Set(static_cast<double>(hub_.size()));
  auto families = registry_.Collect();
  if (!restarts.metric.empty()) families.push_back(std::move(restarts));
  for (const prometheus::Collectable* more : std::initializer_list<const prometheus::Collectable*>{
           &collector_, &device_collector_, &host_collector_}) {
    for (auto& family : more->Collect()) families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

void ApiServerImpl::Maintain() {
  std::unique_lock<std::mutex> lock(mutex_);
  bool lost = true;  // of a server before
  int64_t restarts_seen = 0;
  for (int round = 1; !wake_.wait_for(lock, kLeaseCheck, [this] { return stop_; }); ++round) {
    lock.unlock();
    const auto expired = store_.ExpireLeases();
    if (!expired.ok()) {
      Log(LogLevel::kWarning, "leases not checked", {{"error", expired.status().ToString()}});
    } else if (*expired > 0) {
      Log(LogLevel::kWarning, "leases ran out", {{"count", *expired}});
    }
    // Looked for only where an attempt may have ended without a word: it is a walk through all that
    // was ever published. Counted after a dead worker's job was given back.
    int64_t restarts = 0;
    if (options_.workers) {
      for (const WorkerProcess& worker : options_.workers()) restarts += worker.restarts;
    }
    lost = lost || (expired.ok() && *expired > 0) || restarts != restarts_seen;
    restarts_seen = restarts;
    if (round % kReadyChecks == 0) {
      SetHealth("readiness", CheckReady().ok());
      RemoveEndedJournals(store_, options_.work_root);
      if (std::exchange(lost, false)) RemoveLeftovers(store_, artifacts_, options_.work_root);
    }
    lock.lock();
  }
}

void ApiServerImpl::ReloadTls() {
  if (options_.tls.cert.empty()) return;
  absl::StatusOr<TlsContents> contents = ReadTlsFiles(options_.tls);
  if (contents.ok() && *contents == tls_) return tls_fault_.clear();
  absl::Status status = contents.status();
  if (status.ok() && http_ != nullptr) status = http_->SetTls(*contents);
  if (status.ok()) {
    if (grpc_tls_ != nullptr) grpc_tls_->Set(*contents);
    tls_ = *std::move(contents);
    tls_fault_.clear();
    Log(LogLevel::kInfo, "certificate read again", {{"file", options_.tls.cert}});
    return;
  }
  const std::string fault(status.message());
  if (std::exchange(tls_fault_, fault) == fault) return;
  Log(LogLevel::kError, "certificate not read again, the one before holds", {{"error", fault}});
}

void ApiServerImpl::Reload() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::seconds(kReloadSeconds), [this] { return stop_; })) {
    lock.unlock();
    identities_->Reload();
    ReloadTls();
    lock.lock();
  }
}

void ApiServerImpl::SetNotReady() {
  draining_ = true;
  SetHealth("readiness", false);
  SetHealth("", false);
  SetHealth(kService, false);
}

void ApiServerImpl::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return;
    stop_ = true;
  }
  wake_.notify_all();
  if (maintenance_.joinable()) maintenance_.join();
  if (reload_.joinable()) reload_.join();
  hub_.Shutdown();
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now() + kShutdownPatience);
    server_->Wait();
  }
  http_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const ApiServerOptions& options,
                                                            JobStore& store,
                                                            ArtifactStore& artifacts,
                                                            const Engine& engine) {
  auto identities = Identities::Open(options.tokens);
  RETURN_IF_ERROR(Annotate(identities.status(), "--tokens"));
  auto server =
      std::make_unique<ApiServerImpl>(options, *std::move(identities), store, artifacts, engine);
  RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace svdllm
