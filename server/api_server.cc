#include "server/api_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <thread>
#include <utility>

#include "base/logging.h"
#include "metrics/device_collector.h"
#include "metrics/metrics.h"
#include "metrics/store_collector.h"
#include "server/compression_service.h"
#include "server/http_server.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLeaseCheck(1000);
constexpr int kReadyChecks = 5;  // lease checks between two readiness checks
constexpr milliseconds kShutdownPatience(2000);

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
  ApiServerImpl(const ApiServerOptions& options, JobStore& store, ArtifactStore& artifacts,
                const Engine& engine)
      : options_(options),
        store_(store),
        api_(store, artifacts, engine,
             {options.queue_limit, options.lease_ms, options.max_request_bytes,
              options.artifact_root, options.model_roots}),
        hub_(store),
        rpc_metrics_(registry_),
        service_(api_, store, hub_, rpc_metrics_),
        collector_([this](StoreSample& sample) { return Sample(sample); }),
        device_collector_(Watched(engine.devices), options.nvml_library) {
    memory_ = &prometheus::BuildGauge()
                   .Name(kHostMemoryBytes)
                   .Help("Resident memory of the server's processes.")
                   .Register(registry_);
    watchers_ = &prometheus::BuildGauge()
                     .Name(kWatchers)
                     .Help("Open WatchJob streams.")
                     .Register(registry_)
                     .Add({});
    restarts_ = &prometheus::BuildCounter()
                     .Name(kWorkerRestarts)
                     .Help("Times a worker process was started again.")
                     .Register(registry_)
                     .Add({});
    prometheus::BuildGauge()
        .Name(kBuildInfo)
        .Help("Always 1; the label tells the version.")
        .Register(registry_)
        .Add({{"version", SVDLLM_VERSION}})
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
  std::string Metrics();
  HttpResponse Ready();
  absl::Status CheckReady();
  void SetHealth(const std::string& service, bool serving);
  // Expires leases and keeps the health service's readiness up to date.
  void Maintain();

  const ApiServerOptions options_;
  JobStore& store_;
  prometheus::Registry registry_;
  JobApi api_;
  WatchHub hub_;
  RpcMetrics rpc_metrics_;
  CompressionService service_;
  StoreCollector collector_;
  DeviceCollector device_collector_;
  prometheus::Family<prometheus::Gauge>* memory_ = nullptr;
  prometheus::Gauge* watchers_ = nullptr;
  prometheus::Counter* restarts_ = nullptr;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<HttpServer> http_;
  int port_ = 0;
  std::atomic<bool> draining_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread maintenance_;
};

absl::Status ApiServerImpl::Listen() {
  gpr_set_log_function(LogFromGrpc);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options_.max_request_bytes));
  builder.SetMaxSendMessageSize(64 << 20);
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
  if (!options_.http_listen.empty()) {
    ASSIGN_OR_RETURN(
        http_,
        HttpServer::Start(
            options_.http_listen,
            {{"/metrics",
              [this] {
                return HttpResponse{200, "text/plain; version=0.0.4; charset=utf-8", Metrics()};
              }},
             {"/livez",
              [] {
                return HttpResponse{200, "text/plain", "ok\n"};
              }},
             {"/readyz", [this] { return Ready(); }}}));
  }
  SetHealth("liveness", true);
  SetHealth("readiness", CheckReady().ok());
  maintenance_ = std::thread([this] { Maintain(); });
  return absl::OkStatus();
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
  return true;
}

std::string ApiServerImpl::Metrics() {
  memory_->Add({{"process", "api"}}).Set(ResidentBytes("self"));
  if (options_.worker_pids) {
    double bytes = 0;
    for (const int64_t pid : options_.worker_pids()) bytes += ResidentBytes(std::to_string(pid));
    memory_->Add({{"process", "worker"}}).Set(bytes);
  }
  if (options_.worker_restarts) {
    restarts_->Increment(static_cast<double>(options_.worker_restarts()) - restarts_->Value());
  }
  watchers_->Set(static_cast<double>(hub_.size()));
  auto families = registry_.Collect();
  for (auto& family : collector_.Collect()) families.push_back(std::move(family));
  for (auto& family : device_collector_.Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

void ApiServerImpl::Maintain() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (int round = 1; !wake_.wait_for(lock, kLeaseCheck, [this] { return stop_; }); ++round) {
    lock.unlock();
    const auto expired = store_.ExpireLeases();
    if (!expired.ok()) {
      Log(LogLevel::kWarning, "leases not checked", {{"error", expired.status().ToString()}});
    } else if (*expired > 0) {
      Log(LogLevel::kWarning, "leases ran out", {{"count", std::to_string(*expired)}});
    }
    if (round % kReadyChecks == 0) SetHealth("readiness", CheckReady().ok());
    lock.lock();
  }
}

void ApiServerImpl::SetNotReady() {
  draining_ = true;
  SetHealth("readiness", false);
  SetHealth("", false);
}

void ApiServerImpl::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return;
    stop_ = true;
  }
  wake_.notify_all();
  if (maintenance_.joinable()) maintenance_.join();
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
  auto server = std::make_unique<ApiServerImpl>(options, store, artifacts, engine);
  RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace svdllm
