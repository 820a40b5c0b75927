#include "base/address.h"

#include <gtest/gtest.h>

namespace svdllm {
namespace {

TEST(AddressTest, SplitsHostAndPort) {
  const auto v4 = ParseAddress("127.0.0.1:7070");
  ASSERT_TRUE(v4.ok());
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, "7070");
  EXPECT_EQ(ParseAddress("[::1]:0")->host, "::1");
  EXPECT_EQ(ParseAddress("localhost:65535")->host, "localhost");
}

TEST(AddressTest, RefusesWhatIsNoneByName) {
  for (const char* bad : {"", ":", ":80", "host", "host:", "host:x", "host:-1", "host:65536",
                          "host:123456", "::1:80", "[::1:80", "[]:80", "unix:/tmp/x"}) {
    const auto status = ParseAddress(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(std::string(status.message()).find(bad), std::string::npos) << bad;
  }
}

TEST(AddressTest, OnlyLiteralLoopbackIsLoopback) {
  for (const char* yes : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"}) {
    EXPECT_TRUE(IsLoopback(*ParseAddress(yes))) << yes;
  }
  for (const char* no : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "128.0.0.1:1", "example.org:1",
                         "127.0.0.1.example.org:1", "[::ffff:10.0.0.1]:1"}) {
    EXPECT_FALSE(IsLoopback(*ParseAddress(no))) << no;
  }
}

}  // namespace
}  // namespace svdllm
