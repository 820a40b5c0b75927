#include "server/flags.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <regex>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "base/address.h"
#include "base/suggest.h"
#include "server/identity.h"
#include "server/unix_socket.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7070",
          "Where gRPC is served: host:port, where port 0 takes a free one and logs it; or "
          "unix:PATH, a socket for this machine's users of the server's group.");
ABSL_FLAG(std::string, http_listen, "127.0.0.1:9464",
          "Where /metrics, /livez and /readyz are served, host:port. Empty: nowhere.");
ABSL_FLAG(std::string, data_dir, "",
          "Directory of the job store and of work in progress. Created where absent. Required; one "
          "server at a time.");
ABSL_FLAG(std::string, role, "all",
          "all: the API and a worker process that it supervises. api: no worker. worker: no API, "
          "jobs from the job store in data_dir.");
ABSL_FLAG(std::vector<std::string>, devices, {"auto"},
          "What workers compute on, comma-separated, one worker process a device: cpu; cuda:N, the "
          "CUDA device N; or auto alone, which chooses and logs why. --role=worker: one device.");
ABSL_FLAG(
    std::string, device_memory_limit, "0",
    "The most memory that jobs may take of a device, in bytes or as 16GiB (KiB, MiB, GiB, "
    "TiB). 0, and at most: all of it, but for 1.25 GiB of a CUDA device, which its driver and "
    "libraries take. On the CPU it bounds the matrices in work, not the whole process; beside CUDA "
    "devices the CPU has no limit.");
ABSL_FLAG(bool, exact_products, false,
          "Weights stored in 16 bits are multiplied in 32 on CUDA devices too: slower, and closer "
          "to the CPU's results.");
ABSL_FLAG(std::vector<std::string>, model_roots, {},
          "Comma-separated directories under which models and texts may be read. Empty: any path "
          "that the server may read.");
ABSL_FLAG(std::string, artifact_root, "",
          "Directory under which artifacts are published. Default: artifacts in data_dir.");
ABSL_FLAG(double, backup_minutes, 60,
          "How often the job store is backed up, to jobs.db.backup beside it. 0: never.");
ABSL_FLAG(bool, restore_backup, false,
          "Where the job store is damaged or gone, its backup takes its place before the server "
          "starts, and the damaged file stays under another name. Jobs that came after the backup "
          "are lost.");
ABSL_FLAG(bool, check_store, false,
          "Look through the job store and its backup, print what is found, and exit: 0 where both "
          "are sound, else 1. A server may be using them.");
ABSL_FLAG(double, keep_jobs_days, 0,
          "How long jobs that have ended are kept, with their events and results; what they "
          "published stays. 0: for good.");
ABSL_FLAG(int64_t, queue_limit, 1000,
          "Jobs that may wait at a time; more are refused with QUEUE_FULL.");
ABSL_FLAG(double, lease_seconds, 30,
          "A worker that is not heard of for this long is dead, and its job runs again.");
ABSL_FLAG(double, drain_seconds, 3,
          "How long RPCs are still served after SIGTERM, not ready any more.");
ABSL_FLAG(double, grace_seconds, 20,
          "How long a stopping worker gets to give its job back before it is killed.");
ABSL_FLAG(int64_t, max_request_bytes, 4 << 20, "The largest message that is accepted.");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning or error.");
ABSL_FLAG(
    std::string, tls_cert, "",
    "File with the server's certificate, in PEM, and those that lead to its CA: both ports then "
    "speak TLS and nothing else. This file and the next two are read again when they change.");
ABSL_FLAG(std::string, tls_key, "", "File with the certificate's private key, in PEM.");
ABSL_FLAG(std::string, tls_client_ca, "",
          "File with certificates of CAs, in PEM: only callers with a certificate from one of them "
          "are let in. Without --tokens all of them may do everything.");
ABSL_FLAG(std::string, tokens, "",
          "File that says who may do what, a line each: NAME ROLE and the SHA-256 of a token, or "
          "cert:NAME for a certificate of --tls_client_ca. The roles are read, submit and admin. "
          "Read again when it changes. Empty: whoever is let in may do everything.");
ABSL_FLAG(int64_t, max_queued_per_owner, 0,
          "Jobs of one caller that may wait at a time; more are refused with QUOTA_EXCEEDED. 0: as "
          "many as --queue_limit.");
ABSL_FLAG(int64_t, max_running_per_owner, 0,
          "Jobs of one caller that may run at a time; its others wait, and let those of others "
          "pass. 0: as many as there are devices.");
ABSL_FLAG(bool, insecure_allow_remote, false,
          "Listen on addresses that other machines can reach, although others can listen there, or "
          "whoever reaches them is let in.");
ABSL_FLAG(std::string, worker_id, "",
          "The worker's name in leases, unique among living workers. Default: host and process.");
ABSL_FLAG(
    double, plan_seconds, 30,
    "How long a submission may take to be checked and planned; a model that cannot be looked at "
    "in that time is refused.");
ABSL_FLAG(double, stall_seconds, 300,
          "A job whose thread neither computes nor gets on for this long, because a file system "
          "hangs, say, loses its worker, which is started again.");
ABSL_FLAG(double, stop_seconds, 60,
          "How long a job that is cancelled or past its timeout may go on with its current step "
          "before its worker is ended.");
ABSL_FLAG(
    std::string, confine, "auto",
    "auto: workers and planners give up what no job needs, as far as the kernel can hold them "
    "to it: other files, the network, programs, new privileges. require: no start where it "
    "cannot. off: they keep it.");
ABSL_FLAG(int64_t, parent_pid, 0,
          "Set by the server for its workers and planners: the process with which they end.");
ABSL_FLAG(int32_t, heartbeat_fd, -1, "Set by the server for its workers: their signs of life.");
ABSL_FLAG(int32_t, planner_fd, -1,
          "Set by the server for its planners: what they are asked through.");

namespace svdllm {
namespace {

constexpr const char* kFlags[] = {"listen",
                                  "http_listen",
                                  "data_dir",
                                  "role",
                                  "devices",
                                  "device_memory_limit",
                                  "exact_products",
                                  "model_roots",
                                  "artifact_root",
                                  "queue_limit",
                                  "lease_seconds",
                                  "drain_seconds",
                                  "grace_seconds",
                                  "plan_seconds",
                                  "stall_seconds",
                                  "stop_seconds",
                                  "log_level",
                                  "max_request_bytes",
                                  "worker_id",
                                  "insecure_allow_remote",
                                  "tls_cert",
                                  "tls_key",
                                  "tls_client_ca",
                                  "tokens",
                                  "max_queued_per_owner",
                                  "max_running_per_owner",
                                  "backup_minutes",
                                  "restore_backup",
                                  "check_store",
                                  "keep_jobs_days",
                                  "confine"};

// Not for people, and not in the environment.
constexpr const char* kChildFlags[] = {"parent_pid", "heartbeat_fd", "planner_fd"};

constexpr int kMostBackupMinutes = 7 * 24 * 60;
constexpr int kMostDays = 36500;

absl::Status Invalid(const std::string& flag, const std::string& why) {
  return absl::InvalidArgumentError("--" + flag + ": " + why);
}

// Variables of the program's that are no flags of the server's: where modules are, the client's.
constexpr const char* kOtherVariables[] = {
    "SVDLLM_MODULE_DIR", "SVDLLM_SERVER",     "SVDLLM_CA",       "SVDLLM_CERT",
    "SVDLLM_KEY",        "SVDLLM_TOKEN_FILE", "SVDLLM_FAILPOINT"};

std::string VariableOf(std::string flag) {
  std::transform(flag.begin(), flag.end(), flag.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return "SVDLLM_" + flag;
}

// What Kubernetes and Docker put into containers beside a service named svdllm or svdllm-…:
// SVDLLM_SERVICE_HOST, SVDLLM_PORT_7070_TCP_ADDR and the like.
bool IsServiceLink(const std::string& variable) {
  static const std::regex links(
      "SVDLLM_([A-Z0-9_]+_)?"
      "(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)");
  return std::regex_match(variable, links);
}

// A setting with a typing error in its name would be one that silently does not hold.
absl::Status CheckVariables() {
  std::vector<std::string> known(std::begin(kOtherVariables), std::end(kOtherVariables));
  for (const char* name : kFlags) known.push_back(VariableOf(name));
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (name.rfind("SVDLLM_", 0) != 0 || IsServiceLink(name) ||
        std::find(known.begin(), known.end(), name) != known.end()) {
      continue;
    }
    return absl::InvalidArgumentError(name + ": the environment variable sets nothing" +
                                      DidYouMean(name, known));
  }
  return absl::OkStatus();
}

absl::Status ApplyEnvironment() {
  RETURN_IF_ERROR(CheckVariables());
  for (const char* name : kFlags) {
    const std::string variable = VariableOf(name);
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) continue;
    std::string error;
    absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    if (flag == nullptr || !flag->ParseFrom(value, &error)) {
      return absl::InvalidArgumentError(variable + ": " + error);
    }
  }
  return absl::OkStatus();
}

// Of the flags above, not of Abseil's own. "nolog" is no name; "noexact_products" means a flag.
absl::CommandLineFlag* FindFlag(std::string name, bool& negated) {
  const auto find = [](const std::string& known) -> absl::CommandLineFlag* {
    const auto is_among = [&known](const auto& flags) {
      return std::find(std::begin(flags), std::end(flags), known) != std::end(flags);
    };
    const bool ours = is_among(kFlags) || is_among(kChildFlags);
    return ours ? absl::FindCommandLineFlag(known) : nullptr;
  };
  negated = false;
  if (absl::CommandLineFlag* const flag = find(name)) return flag;
  if (name.rfind("no", 0) != 0) return nullptr;
  absl::CommandLineFlag* const flag = find(name.substr(2));
  negated = flag != nullptr && flag->IsOfType<bool>();
  return negated ? flag : nullptr;
}

// --name=value, --name value; of switches also --name and --noname. Not Abseil's parser, which ends
// the program with status 1 where a flag is wrong.
absl::Status ApplyArguments(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t start = argument.find_first_not_of('-');
    if (start == 0 || start > 2)
      return absl::InvalidArgumentError("unexpected argument " + argument);
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(start, equals - start);
    bool negated = false;
    absl::CommandLineFlag* const flag = FindFlag(name, negated);
    if (flag == nullptr) {
      return absl::InvalidArgumentError(
          "unknown flag --" + name +
          DidYouMean(name, {std::begin(kFlags), std::end(kFlags)}, "--"));
    }
    std::string value = negated ? "false" : "true";
    if (equals != std::string::npos) {
      if (negated) return Invalid(name, "takes no value");
      value = argument.substr(equals + 1);
    } else if (!flag->IsOfType<bool>()) {
      if (++i == argc) return Invalid(name, "needs a value");
      value = argv[i];
    }
    std::string error;
    if (!flag->ParseFrom(value, &error)) {
      return Invalid(
          name, "\"" + value + "\" is not a value of it" + (error.empty() ? "" : ": " + error));
    }
  }
  return absl::OkStatus();
}

// Not Abseil's, which lists its own flags too and exits with 1.
void PrintHelp() {
  std::printf(
      "svdllm-server: compresses language models as a service.\n\n"
      "  svdllm-server --data_dir=DIR [--listen=127.0.0.1:7070] [--model_roots=DIR,...] ...\n\n"
      "Every flag can also be set in the environment, --data_dir as SVDLLM_DATA_DIR and so on; "
      "the\n"
      "command line wins. Other variables of such a name are refused. Logs are JSON lines on "
      "standard\n"
      "error. SIGTERM drains: the running job is given back to the queue, and the exit status is "
      "0.\n"
      "1: it could not run; 2: bad settings.\n\n");
  for (const char* name : kFlags) {
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    std::printf("  --%s (default: \"%s\")\n      %s\n", name, flag->DefaultValue().c_str(),
                flag->Help().c_str());
  }
}

// guarded: whether callers must show who they are.
absl::Status CheckAddress(const std::string& flag, const std::string& address, bool guarded) {
  const auto parsed = ParseAddress(address);
  if (!parsed.ok()) return Invalid(flag, std::string(parsed.status().message()));
  if (!guarded && !IsLoopback(*parsed) && !absl::GetFlag(FLAGS_insecure_allow_remote)) {
    return Invalid(flag, address +
                             " can be reached from other machines: that needs --tls_cert and "
                             "--tls_key, and --tokens or --tls_client_ca, which say who is let "
                             "in; --insecure_allow_remote does without");
  }
  return absl::OkStatus();
}

// How callers are told apart, and that nobody is let in without it.
absl::Status ReadAccess(ServerOptions& options) {
  options.tls = {absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key),
                 absl::GetFlag(FLAGS_tls_client_ca)};
  options.tokens = absl::GetFlag(FLAGS_tokens);
  RETURN_IF_ERROR(ReadTlsFiles(options.tls).status());
  const absl::Status tokens = Identities::Open(options.tokens).status();
  if (!tokens.ok()) return Invalid("tokens", std::string(tokens.message()));
  const bool encrypted = !options.tls.cert.empty();
  const bool guarded = encrypted && !(options.tls.client_ca.empty() && options.tokens.empty());
  const auto path = UnixPath(options.listen);
  if (!path.ok()) return Invalid("listen", std::string(path.status().message()));
  if (!path->has_value()) RETURN_IF_ERROR(CheckAddress("listen", options.listen, guarded));
  if (options.http_listen.empty()) return absl::OkStatus();
  return CheckAddress("http_listen", options.http_listen, guarded);
}

absl::StatusOr<ConfineMode> ReadConfine() {
  const std::string mode = absl::GetFlag(FLAGS_confine);
  if (mode == "auto") return ConfineMode::kAuto;
  if (mode == "off") return ConfineMode::kOff;
  if (mode == "require") return ConfineMode::kRequire;
  return Invalid("confine", "\"" + mode + "\" is none of auto, require, off");
}

absl::StatusOr<int64_t> Milliseconds(const std::string& flag, double seconds, double least) {
  if (!(seconds >= least) || seconds > 86400) {
    return Invalid(flag, "must be " + std::to_string(least) + " to 86400 seconds");
  }
  return static_cast<int64_t>(seconds * 1000);
}

absl::Status ReadStoreOptions(ServerOptions& options) {
  options.check_store = absl::GetFlag(FLAGS_check_store);
  options.restore_backup = absl::GetFlag(FLAGS_restore_backup);
  const double minutes = absl::GetFlag(FLAGS_backup_minutes);
  if (!(minutes >= 0 && minutes <= kMostBackupMinutes)) {
    return Invalid("backup_minutes", "must be 0 to " + std::to_string(kMostBackupMinutes));
  }
  options.backup_ms = static_cast<int64_t>(minutes * 60'000);
  const double days = absl::GetFlag(FLAGS_keep_jobs_days);
  if (!(days >= 0 && days <= kMostDays)) {
    return Invalid("keep_jobs_days", "must be 0 to " + std::to_string(kMostDays));
  }
  options.keep_jobs_ms = static_cast<int64_t>(days * 86'400'000);
  return absl::OkStatus();
}

absl::Status ReadTimes(ServerOptions& options) {
  ASSIGN_OR_RETURN(options.lease_ms,
                   Milliseconds("lease_seconds", absl::GetFlag(FLAGS_lease_seconds), 0.5));
  ASSIGN_OR_RETURN(options.drain_ms,
                   Milliseconds("drain_seconds", absl::GetFlag(FLAGS_drain_seconds), 0));
  ASSIGN_OR_RETURN(options.grace_ms,
                   Milliseconds("grace_seconds", absl::GetFlag(FLAGS_grace_seconds), 0));
  ASSIGN_OR_RETURN(options.plan_ms,
                   Milliseconds("plan_seconds", absl::GetFlag(FLAGS_plan_seconds), 0.1));
  ASSIGN_OR_RETURN(options.stall_ms,
                   Milliseconds("stall_seconds", absl::GetFlag(FLAGS_stall_seconds), 1));
  ASSIGN_OR_RETURN(options.stop_ms,
                   Milliseconds("stop_seconds", absl::GetFlag(FLAGS_stop_seconds), 0.5));
  return absl::OkStatus();
}

// "16GiB" in bytes.
absl::StatusOr<int64_t> Bytes(const std::string& flag, const std::string& text) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  const std::string unit(parsed.ptr, end);
  const char* const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  const auto found = std::find(std::begin(units), std::end(units), unit);
  const int shift = 10 * static_cast<int>(found - std::begin(units));
  if (parsed.ec != std::errc() || found == std::end(units) || number < 0 ||
      number > std::numeric_limits<int64_t>::max() >> shift) {
    return Invalid(flag, "\"" + text + "\" is no number of bytes, such as 17179869184 or 16GiB");
  }
  return number << shift;
}

std::string DefaultWorkerId() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return std::string("worker-") + host + "-" + std::to_string(getpid());
}

}  // namespace

absl::StatusOr<ServerOptions> ParseServerOptions(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h" || argument == "-help") {
      PrintHelp();
      std::exit(0);
    }
    if (argument == "--version" || argument == "-version") {
      std::printf("svdllm-server %s\n", SVDLLM_VERSION);
      std::exit(0);
    }
  }
  RETURN_IF_ERROR(ApplyEnvironment());
  RETURN_IF_ERROR(ApplyArguments(argc, argv));
  ServerOptions options;
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  if (options.data_dir.empty()) return Invalid("data_dir", "is required");
  std::error_code error;
  options.data_dir = std::filesystem::absolute(options.data_dir, error).string();

  const std::string role = absl::GetFlag(FLAGS_role);
  if (role == "api") {
    options.role = Role::kApi;
    options.devices.jobs_run_here = false;
  } else if (role == "worker") {
    options.role = Role::kWorker;
  } else if (role == "planner" && absl::GetFlag(FLAGS_planner_fd) >= 0) {
    options.role = Role::kPlanner;
  } else if (role != "all") {
    return Invalid("role", "\"" + role + "\" is none of all, api, worker");
  }
  options.listen = absl::GetFlag(FLAGS_listen);
  options.http_listen = absl::GetFlag(FLAGS_http_listen);
  if (options.role == Role::kAll || options.role == Role::kApi) {
    RETURN_IF_ERROR(ReadAccess(options));
  }
  options.devices.names = absl::GetFlag(FLAGS_devices);
  if (options.role == Role::kWorker && options.devices.names.size() > 1) {
    return Invalid("devices", "a worker computes on one device; start one worker for each");
  }
  ASSIGN_OR_RETURN(options.devices.memory_limit,
                   Bytes("device_memory_limit", absl::GetFlag(FLAGS_device_memory_limit)));
  options.devices.exact_products = absl::GetFlag(FLAGS_exact_products);
  options.model_roots = absl::GetFlag(FLAGS_model_roots);
  std::erase(options.model_roots, "");
  options.artifact_root = absl::GetFlag(FLAGS_artifact_root);
  if (options.artifact_root.empty()) options.artifact_root = options.data_dir + "/artifacts";
  options.queue_limit = absl::GetFlag(FLAGS_queue_limit);
  if (options.queue_limit < 1) return Invalid("queue_limit", "must be at least 1");
  options.owner_limits = {absl::GetFlag(FLAGS_max_queued_per_owner),
                          absl::GetFlag(FLAGS_max_running_per_owner)};
  if (options.owner_limits.queued < 0) return Invalid("max_queued_per_owner", "must be at least 0");
  if (options.owner_limits.running < 0) {
    return Invalid("max_running_per_owner", "must be at least 0");
  }
  options.max_request_bytes = absl::GetFlag(FLAGS_max_request_bytes);
  if (options.max_request_bytes < 1024 || options.max_request_bytes > (1 << 30)) {
    return Invalid("max_request_bytes", "must be 1024 to 2^30");
  }
  RETURN_IF_ERROR(ReadTimes(options));
  RETURN_IF_ERROR(ReadStoreOptions(options));
  ASSIGN_OR_RETURN(options.confine, ReadConfine());
  const std::string level = absl::GetFlag(FLAGS_log_level);
  const char* const levels[] = {"debug", "info", "warning", "error"};
  const auto found = std::find(std::begin(levels), std::end(levels), level);
  if (found == std::end(levels)) {
    return Invalid("log_level", "\"" + level + "\" is none of debug, info, warning, error");
  }
  options.log_level = static_cast<LogLevel>(found - std::begin(levels));
  options.worker_id = absl::GetFlag(FLAGS_worker_id);
  if (options.worker_id.empty()) options.worker_id = DefaultWorkerId();
  options.parent_pid = absl::GetFlag(FLAGS_parent_pid);
  options.heartbeat_fd = absl::GetFlag(FLAGS_heartbeat_fd);
  options.planner_fd = absl::GetFlag(FLAGS_planner_fd);
  return options;
}

}  // namespace svdllm
