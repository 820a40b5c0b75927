// Short texts of callers and of flags, and what a server says of an error.
#include "base/address.h"
#include "client/cli/inputs.h"
#include "client/error.h"
#include "server/job_proto.h"
#include "server/status_proto.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

void CheckText(const absl::Status& status) {
  if (!status.ok()) CheckErrorText(ErrorMessage(status));
}

void RunNames(std::string_view bytes) {
  const std::string text(bytes);
  const auto id = ParseJobName(text);
  CheckText(id.status());
  FUZZ_CHECK(!id.ok() || JobName(*id) == text, text);
  const auto address = ParseAddress(text);
  CheckText(address.status());
  if (address.ok()) (void)IsLoopback(*address);
  FUZZ_CHECK(cli::SplitNamed(text).second.size() <= text.size(), text);
  FUZZ_CHECK(cli::SplitWeighted(text).second.size() <= text.size(), text);
  (void)cli::Located("/here", text);
  (void)cli::StemOf(text);
}

// The code in the first byte, the message up to the first newline, and the details.
void RunRpcError(std::string_view bytes) {
  if (bytes.empty()) return;
  const std::string_view rest = bytes.substr(1);
  const size_t line = std::min(rest.find('\n'), rest.size());
  const absl::Status status = MakeRpcError(static_cast<signed char>(bytes[0]), rest.substr(0, line),
                                           rest.substr(std::min(line + 1, rest.size())));
  const RpcErrorDetails details = RpcErrorDetailsOf(status);
  FUZZ_CHECK(details.violations.size() <= bytes.size(), "violations");
  (void)DescribeError(status);
}

}  // namespace

FuzzTarget NamesTarget() {
  return {"names",
          RunNames,
          {"jobs/0mx46jne8ekubh96aqiv8", "127.0.0.1:7070", "[::1]:9464", "localhost:0",
           "wiki=/data/a.txt.gz", "0.3:/data/a.jsonl", "file:///a%20b"},
          {"jobs/", "..", ":", "[", "]", "=", "./", "-1", "1e400", "nan", "65536", "\xff",
           std::string(1, '\0')},
          256};
}

FuzzTarget RpcErrorTarget() {
  const std::string sound =
      ErrorDetails(InvalidFields({{"model", "is missing"}, {"tasks[0]", "x"}}));
  const std::string reason = ErrorDetails(WithOffender(
      MakeError(absl::StatusCode::kResourceExhausted, kQueueFull, "full"), "limit", "1000"));
  return {"rpc_error",
          RunRpcError,
          {"\x03wrong\n" + sound,
           "\x08"
           "full\n" +
               reason,
           "\x0egone"},
          {"type.googleapis.com/google.rpc.BadRequest", "type.googleapis.com/google.rpc.ErrorInfo",
           "type.googleapis.com/google.rpc.RetryInfo", "\n", "\x1a", "\x0a", "\x12", "svdllm",
           std::string(4, '\xff')},
          1024,
          kProtobufFloor};
}

}  // namespace svdllm::testing
