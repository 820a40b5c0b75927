// What an error must say: its code, its reason and the names in its message.
#pragma once

#include <gmock/gmock.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm::testing {

inline absl::Status StatusOf(const absl::Status& status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

inline ::testing::AssertionResult HasError(const absl::Status& status, absl::StatusCode code,
                                           std::string_view reason,
                                           std::initializer_list<std::string_view> parts) {
  bool matches = status.code() == code && ErrorReason(status) == reason;
  const std::string message(status.message().data(), status.message().size());
  for (const std::string_view part : parts) {
    matches = matches && message.find(part) != std::string::npos;
  }
  if (matches) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure();
  failure << "got [" << status.ToString() << "] with reason [" << ErrorReason(status)
          << "], expected code " << absl::StatusCodeToString(code) << ", reason [" << reason
          << "] and in the message:";
  for (const std::string_view part : parts) failure << " [" << part << "]";
  return failure;
}

}  // namespace svdllm::testing

// EXPECT_STATUS(expr, kNotFound, reason, {"name", "what"}): expr is a Status or StatusOr.
#define EXPECT_STATUS(expr, code, reason, ...)                               \
  EXPECT_TRUE(::svdllm::testing::HasError(::svdllm::testing::StatusOf(expr), \
                                          absl::StatusCode::code, (reason), __VA_ARGS__))
#define ASSERT_OK(expr)                                                \
  do {                                                                 \
    const absl::Status status_of_ = ::svdllm::testing::StatusOf(expr); \
    ASSERT_TRUE(status_of_.ok()) << status_of_.ToString();             \
  } while (false)
#define EXPECT_OK(expr)                                                \
  do {                                                                 \
    const absl::Status status_of_ = ::svdllm::testing::StatusOf(expr); \
    EXPECT_TRUE(status_of_.ok()) << status_of_.ToString();             \
  } while (false)
