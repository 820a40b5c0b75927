#include "metrics/host_collector.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "metrics/families.h"
#include "metrics/metrics.h"

namespace svdllm {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// What the kernel says of a process: proc(5), /proc/pid/stat.
struct ProcessStat {
  double cpu_seconds = 0;
  double start_seconds = 0;  // since the machine was started
  double threads = 0;
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

std::optional<ProcessStat> ReadOwnStat() {
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The second field is the program's name in brackets, which may hold blanks and brackets itself.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::vector<std::string> values(std::istream_iterator<std::string>(fields), {});
  const auto field = [&values](size_t number) {  // as proc(5) counts them
    return std::strtod(values[number - 3].c_str(), nullptr);
  };
  if (values.size() < 22) return std::nullopt;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  ProcessStat stat;
  stat.cpu_seconds = (field(14) + field(15)) / ticks;
  stat.threads = field(20);
  stat.start_seconds = field(22) / ticks;
  stat.virtual_bytes = field(23);
  stat.resident_bytes = field(24) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return stat;
}

// When the machine was started, in seconds since 1970.
std::optional<double> BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 6, "btime ") == 0) return std::strtod(line.c_str() + 6, nullptr);
  }
  return std::nullopt;
}

std::optional<double> OpenFiles() {
  std::error_code error;
  double count = -1;  // the folder itself is open while it is read
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  if (error) return std::nullopt;
  return count;
}

void AddValue(std::vector<MetricFamily>& families, const char* name, const char* help,
              std::optional<double> value) {
  if (!value.has_value()) return;
  families.push_back(MakeFamily(name, help, MetricType::Gauge));
  AddGauge(families.back(), *value);
}

void AddProcess(std::vector<MetricFamily>& families) {
  if (const auto stat = ReadOwnStat(); stat.has_value()) {
    families.push_back(MakeFamily(kProcessCpu, "CPU time of this process.", MetricType::Counter));
    AddCounter(families.back(), stat->cpu_seconds);
    std::optional<double> start = BootTime();
    if (start.has_value()) *start += stat->start_seconds;
    AddValue(families, kProcessStart, "When this process was started, since 1970.", start);
    AddValue(families, kProcessResident, "Resident memory of this process.", stat->resident_bytes);
    AddValue(families, kProcessVirtual, "Virtual memory of this process.", stat->virtual_bytes);
    AddValue(families, kProcessThreads, "Threads of this process.", stat->threads);
  }
  AddValue(families, kProcessOpenFiles, "Files that this process has open.", OpenFiles());
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    AddValue(families, kProcessMaxFiles, "Files that this process may have open.",
             static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace

std::vector<MetricFamily> HostCollector::Collect() const {
  std::vector<MetricFamily> families;
  AddProcess(families);
  struct stat backup {};
  if (stat(backup_.c_str(), &backup) == 0) {
    AddValue(families, kBackupTime, "When the job store was last backed up, since 1970.",
             static_cast<double>(backup.st_mtim.tv_sec));
  }
  MetricFamily free =
      MakeFamily(kVolumeFree, "Room that is left for the server on the volume.", MetricType::Gauge);
  MetricFamily size = MakeFamily(kVolumeSize, "Size of the volume.", MetricType::Gauge);
  for (const auto& [volume, path] : volumes_) {
    if (path.empty()) continue;
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(path, error);
    if (error) continue;
    AddGauge(free, static_cast<double>(space.available), {MakeLabel("volume", volume)});
    AddGauge(size, static_cast<double>(space.capacity), {MakeLabel("volume", volume)});
  }
  for (MetricFamily* family : {&free, &size}) {
    if (!family->metric.empty()) families.push_back(std::move(*family));
  }
  return families;
}

}  // namespace svdllm
