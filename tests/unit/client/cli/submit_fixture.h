// Runs compress and evaluate, and compares the requests that they make.
#pragma once

#include <google/protobuf/text_format.h>

#include <string>
#include <vector>

#include "tests/support/command_harness.h"

namespace svdllm::cli {

inline const std::vector<std::string> kCompress = {"compress", "--model=/m", "--keep_ratio=0.8",
                                                   "--calibration=/c"};

inline std::vector<std::string> With(std::vector<std::string> arguments,
                                     const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

class SubmitTest : public CommandTest {
 protected:
  // The request that the arguments made equals the text form, but for its random request_id.
  template <typename Request>
  void ExpectRequest(Request actual, const std::string& text) {
    Request expected;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &expected));
    if (expected.request_id().empty()) actual.clear_request_id();
    EXPECT_EQ(actual.DebugString(), expected.DebugString());
  }
};

}  // namespace svdllm::cli
