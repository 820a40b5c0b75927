// The answer to validate_only, for people.
#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/format.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// "model.layers.3.self_attn.q_proj" → "self_attn.q_proj"; a name without a layer stays whole.
std::string KindOfMatrix(const std::string& name) {
  size_t kind = 0;
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find('.', at), name.size());
    if (end > at && name.find_first_not_of("0123456789", at) >= end && end < name.size())
      kind = end + 1;
    at = end + 1;
  }
  return name.substr(kind);
}

// One row a kind of matrix (of one shape): how many, the shape, and the ranks of each keep ratio.
std::string RankTable(const v1::CompressionPlan& plan) {
  Rows rows = {{"matrices", "number", "rows × cols"}};
  std::vector<std::string> kinds;
  std::map<std::string, size_t> row_of;
  std::map<std::string, std::set<std::string>> names;
  for (const v1::ArtifactPlan& artifact : plan.artifacts()) {
    rows[0].push_back(absl::StrCat("rank at ", artifact.keep_ratio()));
    std::map<std::string, std::set<int64_t>> ranks;
    for (const v1::MatrixPlan& matrix : artifact.matrices()) {
      const std::string shape = absl::StrCat(matrix.rows(), " × ", matrix.cols());
      const std::string key = absl::StrCat(KindOfMatrix(matrix.name()), " ", shape);
      if (row_of.emplace(key, rows.size()).second) {
        rows.push_back({KindOfMatrix(matrix.name()), "", shape});
        kinds.push_back(key);
      }
      ranks[key].insert(matrix.rank());
      names[key].insert(matrix.name());
    }
    for (const std::string& key : kinds) {
      std::vector<std::string>& row = rows[row_of[key]];
      row.resize(rows[0].size() - 1, "-");
      row[1] = Grouped(static_cast<int64_t>(names[key].size()));
      const std::set<int64_t>& of_kind = ranks[key];
      std::string text = of_kind.empty() ? "-" : std::to_string(*of_kind.rbegin());
      if (of_kind.size() > 1) text = absl::StrCat(*of_kind.begin(), "–", text);
      row.push_back(of_kind == std::set<int64_t>{0} ? "dense" : text);
    }
  }
  for (std::vector<std::string>& row : rows) row.resize(rows[0].size(), "-");
  return rows.size() > 1 ? Table(rows) : "";
}

// "about 1m30s (1m10s to 1m50s)"
std::string TimeText(const v1::CompressionPlan& plan) {
  if (!plan.has_expected_time()) return "unknown";
  const std::string about = absl::StrCat("about ", Duration(plan.expected_time()));
  if (!plan.has_least_time() || !plan.has_most_time()) return about;
  return absl::StrCat(about, " (", Duration(plan.least_time()), " to ", Duration(plan.most_time()),
                      ")");
}

// The host's memory, and what it consists of: an older server says the sum only. What it takes of a
// device only where there is one.
template <typename Plan>
void AddMemory(const Plan& plan, Rows& costs) {
  const std::string peak = Bytes(plan.peak_host_bytes());
  costs.push_back(
      {"host memory", plan.host_memory_bytes() == 0
                          ? peak
                          : absl::StrCat("up to ", peak, " of ", Bytes(plan.host_memory_bytes()))});
  if (plan.anonymous_host_bytes() > 0) {
    costs.push_back({"  of its own", Bytes(plan.anonymous_host_bytes())});
    costs.push_back({"  the model's files", Bytes(plan.mapped_host_bytes())});
  }
  if (plan.peak_device_bytes() > 0)
    costs.push_back({"device memory", Bytes(plan.peak_device_bytes())});
}

std::string EvaluationText(const v1::Job& job) {
  const v1::EvaluationPlan& plan = job.evaluation_plan();
  Rows sizes = {{"", "parameters", "bytes"},
                {"model", Grouped(plan.parameters()), Bytes(plan.weight_bytes())}};
  if (plan.baseline_parameters() > 0) {
    sizes.push_back(
        {"baseline", Grouped(plan.baseline_parameters()), Bytes(plan.baseline_weight_bytes())});
  }
  Rows costs;
  AddMemory(plan, costs);
  return absl::StrCat("Plan; nothing was started.\n", ModelOf(job), ": ", RequestText(job), "\n\n",
                      Table(sizes), "\n", Table(costs), WarningText(plan.warnings()));
}

}  // namespace

std::string PlanText(const v1::Job& job) {
  if (job.has_evaluation_plan()) return EvaluationText(job);
  if (!job.has_plan()) {  // an older server's
    return absl::StrCat("The request is valid; nothing was started.\n", ModelOf(job), ": ",
                        RequestText(job), "\n");
  }
  const v1::CompressionPlan& plan = job.plan();
  Rows sizes = {{"keep ratio", "parameters", "bytes", "artifact"},
                {"dense", Grouped(plan.parameters()), Bytes(plan.weight_bytes()), ""}};
  for (const v1::ArtifactPlan& artifact : plan.artifacts()) {
    sizes.push_back({absl::StrCat(artifact.keep_ratio()),
                     absl::StrCat(Grouped(artifact.parameters()),
                                  ChangeText(plan.parameters(), artifact.parameters())),
                     absl::StrCat(Bytes(artifact.weight_bytes()),
                                  ChangeText(plan.weight_bytes(), artifact.weight_bytes())),
                     artifact.uri().empty() ? "(named after the job)" : artifact.uri()});
  }
  Rows costs = {{"time", TimeText(plan)}};
  AddMemory(plan, costs);
  costs.push_back({"scratch disk", Bytes(plan.scratch_bytes())});
  return absl::StrCat(
      "Plan; nothing was started.\n", ModelOf(job), ": ", RequestText(job), "\n\n", Table(sizes),
      "\n", Grouped(plan.target_parameters()), " parameters are in the matrices to compress:\n",
      RankTable(plan),
      plan.ranks_are_final()
          ? ""
          : "The allocation decides the ranks from the data; these are the uniform ones.\n",
      "\n", Table(costs), WarningText(plan.warnings()));
}

}  // namespace svdllm::cli
