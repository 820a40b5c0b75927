// What people write for the command: recipes, and its arguments.
#include <google/protobuf/util/field_comparator.h>
#include <google/protobuf/util/message_differencer.h>

#include "client/cli/command_line.h"
#include "client/cli/recipe.h"
#include "svdllm/v1/compression.pb.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

template <typename Request>
void ReadAs(const std::string& text) {
  Request request;
  const absl::Status status = cli::ReadRecipe(text, &request);
  if (!status.ok()) return CheckErrorText({status.message().data(), status.message().size()});
  const auto written = cli::ToRecipe(request);
  FUZZ_CHECK(written.ok(), written.status().ToString());
  Request again;
  const absl::Status reread = cli::ReadRecipe(*written, &again);
  FUZZ_CHECK(reread.ok(), *written + reread.ToString());
  google::protobuf::util::DefaultFieldComparator numbers;
  numbers.set_treat_nan_as_equal(true);
  google::protobuf::util::MessageDifferencer differencer;
  differencer.set_field_comparator(&numbers);
  FUZZ_CHECK(differencer.Compare(request, again), *written);
}

void RunRecipe(std::string_view bytes) {
  ReadAs<v1::CompressModelRequest>(std::string(bytes));
  ReadAs<v1::EvaluateRequest>(std::string(bytes));
}

// An argument per line.
void RunArguments(std::string_view bytes) {
  std::vector<std::string> arguments;
  while (!bytes.empty()) {
    const size_t line = std::min(bytes.find('\n'), bytes.size());
    arguments.emplace_back(bytes.substr(0, line));
    bytes.remove_prefix(std::min(line + 1, bytes.size()));
  }
  static const std::vector<cli::CommandSpec> commands = cli::AllCommands();
  const cli::CommandLine line = cli::ParseCommandLine(commands, arguments);
  FUZZ_CHECK(line.run != nullptr || !line.text.empty() || !line.error.empty(), "nothing to do");
  FUZZ_CHECK(line.run == nullptr || line.error.empty(), line.error);
}

}  // namespace

FuzzTarget RecipeTarget() {
  return {"recipe",
          RunRecipe,
          {"model: /m\nkeep_ratios: [0.8, 0.5]\nmethod: svd_llm\ncalibration:\n  text: {uri: /t}\n"
           "  samples: 256\ntimeout: 2h30m\nlabels: {a: \"b\"}\n",
           "{\"model\": \"/m\", \"keepRatios\": [0.5], \"validateOnly\": true}",
           "model: /m\nbaseline: /b\ntasks:\n- name: piqa\n  dataset: {uri: /d}\n  limit: 10\n"
           "- {name: perplexity, seqLen: 128}\nthreshold: {max_perplexity_increase: 0.1}\n",
           "a: &x [1]\nb: *x\n", "--- !!map\n"},
          {"model: ",
           "keep_ratios: ",
           "calibration:",
           "\n  ",
           "- ",
           "tasks:",
           "{",
           "}",
           "[",
           "]",
           ": ",
           ", ",
           "\"",
           "'",
           "|\n",
           ">\n",
           "&a ",
           "*a",
           "!!str ",
           "? ",
           "---\n",
           "...\n",
           "%YAML 1.1\n",
           "null",
           "~",
           "1e400",
           "-1",
           "METHOD_SVD",
           "svd_llm",
           "1h30m",
           "timeout: ",
           "\t",
           "\xff",
           "\xef\xbb\xbf",
           "\\ud800",
           "1099511627776h",
           "nan"},
          2048};
}

FuzzTarget ArgumentsTarget() {
  return {"arguments",
          RunArguments,
          {"compress\n--model=/m\n--keep_ratio=0.5,0.8\n--calibration=0.3:/a\n--label=a=b",
           "evaluate\n--model\n/m\n--task=piqa=/d\n--format=json", "jobs\nget\njobs/a",
           "jobs\nlist\n--state=running\n--server=x:1", "--help", "compress\n--help", "--version",
           "completion\nbash", "server-info\n--tls\n--ca=/c\n--rpc_timeout=1h30m"},
          {"--model=",
           "--keep_ratio=",
           "--calibration=",
           "--task=",
           "--text=",
           "--label=",
           "--timeout=",
           "--seq_len=",
           "--server=",
           "--format=json",
           "--",
           "-",
           "=",
           ",",
           "1e400",
           "-1",
           "0x7f",
           "nan",
           "\n",
           "compress",
           "evaluate",
           "jobs",
           "list",
           "watch",
           "99999999999999999999",
           "\xff",
           "%s",
           std::string(1, '\0')},
          512};
}

}  // namespace svdllm::testing
