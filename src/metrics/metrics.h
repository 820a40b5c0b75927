// Every metric name in one place. Base units; counters end in _total; no job id, model or URI is
// ever a label.
//
// Workers are processes of their own, so what they count goes through the job store: a counter is a
// row whose key is the metric's name and label value, "svdllm_job_attempts_total|lost". The process
// that serves /metrics reads the rows at each scrape; so the figures also outlive a restart.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

namespace svdllm {

// Measured where they are served.
inline constexpr char kGrpcStarted[] = "grpc_server_started_total";
inline constexpr char kGrpcHandled[] = "grpc_server_handled_total";
inline constexpr char kGrpcHandlingSeconds[] = "grpc_server_handling_seconds";
inline constexpr char kHostMemoryBytes[] = "svdllm_host_memory_bytes";  // {process=api|worker}
inline constexpr char kBuildInfo[] = "svdllm_build_info";               // {version}
inline constexpr char kWatchers[] = "svdllm_watch_streams";
inline constexpr char kWorkerRestarts[] = "svdllm_worker_restarts_total";
inline constexpr char kDeviceInfo[] = "svdllm_device_info";  // {device, driver, model}
inline constexpr char kDeviceMemoryUsed[] = "svdllm_device_memory_used_bytes";    // {device}
inline constexpr char kDeviceMemoryLimit[] = "svdllm_device_memory_limit_bytes";  // {device}
inline constexpr char kDeviceUtilization[] = "svdllm_device_utilization_ratio";   // {device}

// Read from the job store.
inline constexpr char kJobs[] = "svdllm_jobs";  // {state}
inline constexpr char kQueueDepth[] = "svdllm_queue_depth";
inline constexpr char kQueueOldestAge[] = "svdllm_queue_oldest_age_seconds";
inline constexpr char kJobAttempts[] = "svdllm_job_attempts_total";  // {outcome}
inline constexpr char kLeasesLost[] = "svdllm_leases_lost_total";
inline constexpr char kFencedWrites[] = "svdllm_fenced_writes_total";
inline constexpr char kArtifactBytes[] = "svdllm_artifact_bytes_total";
inline constexpr char kStageDuration[] = "svdllm_stage_duration_seconds";  // {stage}

// Upper bounds of the stage histogram in seconds; their order is stored, so only append.
inline constexpr std::array<double, 12> kStageBuckets = {0.1, 0.5,  1,    5,    15,    60,
                                                         300, 1200, 3600, 7200, 21600, 86400};

// The row of a counter with one label.
std::string CounterKey(std::string_view metric, std::string_view label_value);
// Adds one observation of a stage's duration to counters (a histogram kept as rows).
void CountStage(std::string_view stage, double seconds, std::map<std::string, double>& counters);

}  // namespace svdllm
