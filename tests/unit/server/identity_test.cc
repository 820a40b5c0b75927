#include "server/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "base/digest.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class IdentityTest : public ::testing::Test {
 protected:
  void SetUp() override { Write("alice submit " + Sha256("secret a") + "\n"); }
  void TearDown() override { std::remove(path_.c_str()); }
  void Write(const std::string& content) { std::ofstream(path_) << content; }
  std::unique_ptr<Identities> Open() {
    auto identities = Identities::Open(path_);
    EXPECT_TRUE(identities.ok()) << identities.status();
    return identities.ok() ? *std::move(identities) : nullptr;
  }
  static Credentials Token(const std::string& token) { return {{"Bearer " + token}, {}}; }
  // "alice 1", or the reason.
  static std::string Who(const Identities& identities, const Credentials& credentials) {
    const auto caller = identities.Identify(credentials);
    if (!caller.ok()) {
      EXPECT_EQ(caller.status().code(), absl::StatusCode::kUnauthenticated);
      return ErrorReason(caller.status());
    }
    return caller->name + " " + std::to_string(static_cast<int>(caller->access));
  }

  const std::string path_ = ::testing::TempDir() + "tokens_" + std::to_string(getpid()) + "_" +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(IdentityTest, ATokenIsItsNameAndRole) {
  Write("# Who may do what.\n\n  watcher\tread " + Sha256("secret w") + "\r\n" + "alice submit " +
        Sha256("secret a") + "\nalice submit " + Sha256("secret a, the next") + "\n" +
        "root@here admin " + Sha256("x"));
  const auto identities = Open();
  EXPECT_TRUE(identities->ask_for_tokens());
  EXPECT_EQ(Who(*identities, Token("secret w")), "watcher 0");
  EXPECT_EQ(Who(*identities, Token("secret a")), "alice 1");
  EXPECT_EQ(Who(*identities, Token("secret a, the next")), "alice 1");
  EXPECT_EQ(Who(*identities, Token("x")), "root@here 2");
  EXPECT_EQ(Who(*identities, {{"bEARER x"}, {}}), "root@here 2");
}

TEST_F(IdentityTest, WhatIsNoTokenIsRefused) {
  const auto identities = Open();
  for (const Credentials& credentials :
       {Credentials{}, Token(""), Token("secret"), Token("secret a "), Token(Sha256("secret a")),
        Credentials{{"secret a"}, {}}, Credentials{{"Basic secret a"}, {}}, Credentials{{""}, {}},
        Credentials{{"Bearer secret a", "Bearer secret a"}, {}},
        // A certificate does not make up for a wrong token.
        Credentials{{"Bearer wrong"}, {"alice"}}, Credentials{{}, {"alice"}}}) {
    EXPECT_EQ(Who(*identities, credentials), "UNAUTHENTICATED");
  }
}

TEST_F(IdentityTest, CertificatesAreKnownByOneOfTheirNames) {
  Write("ci admin cert:build host\nalice read cert:alice.example\nalice read " + Sha256("a") +
        "\n");
  const auto identities = Open();
  EXPECT_EQ(Who(*identities, {{}, {"build host"}}), "ci 2");
  EXPECT_EQ(Who(*identities, {{}, {"something", "alice.example"}}), "alice 0");
  EXPECT_EQ(Who(*identities, {{"Bearer a"}, {"build host"}}), "alice 0");
  EXPECT_EQ(Who(*identities, {{}, {"build"}}), "UNAUTHENTICATED");
}

TEST_F(IdentityTest, WithoutAFileEverybodyMayDoEverything) {
  const auto identities = Identities::Open("");
  ASSERT_TRUE(identities.ok());
  EXPECT_FALSE((*identities)->ask_for_tokens());
  EXPECT_EQ(Who(**identities, {}), " 2");
  EXPECT_EQ(Who(**identities, Token("any")), " 2");
  EXPECT_EQ(Who(**identities, {{}, {"alice", "alice.example"}}), "alice 2");
  EXPECT_EQ(Who(**identities, {{}, {"\xff"}}), "\xef\xbf\xbd 2");
  EXPECT_EQ(Who(**identities, {{}, {std::string(257, 'a')}}), "UNAUTHENTICATED");
}

TEST_F(IdentityTest, AFaultyFileIsRefusedByItsLineAndNotRepeated) {
  const std::string digest = Sha256("secret a");
  const std::pair<std::string, std::string> faults[] = {
      {"", "it names nobody"},
      {"# nobody\n", "it names nobody"},
      {"alice\n", "line 1: the role"},
      {"\nalice king " + digest, "line 2: the role"},
      {"alice read secret-a\n", "line 1: needs"},
      {"alice read " + digest.substr(1), "line 1: needs"},
      {"alice read " + digest + " secret-a", "line 1: needs"},
      {"alice read " + Sha256("b") + "\nalice read\n", "line 2: needs"},
      {"alice read AB" + digest.substr(2), "line 1: needs"},
      {"a/secret-a read " + digest, "line 1: a name"},
      {std::string(65, 'a') + " read " + digest, "line 1: a name"},
      {"alice read " + digest + "\nalice admin " + Sha256("b"),
       "line 2: the name has another role"},
      {"alice read " + digest + "\nbob read " + digest, "line 2: the token"},
      {"alice read cert:", "line 1: cert:"},
      {"alice read cert:a b\nbob read cert:a b \n", "line 2: the certificate's name"},
  };
  for (const auto& [content, fault] : faults) {
    Write(content);
    const auto identities = Identities::Open(path_);
    EXPECT_EQ(identities.status().code(), absl::StatusCode::kInvalidArgument) << content;
    EXPECT_THAT(std::string(identities.status().message()), HasSubstr(path_ + ": " + fault));
    EXPECT_THAT(std::string(identities.status().message()), Not(HasSubstr("secret-a")));
  }
}

TEST_F(IdentityTest, WhatIsNoFileIsRefusedAndDoesNotKeepItWaiting) {
  std::remove(path_.c_str());
  EXPECT_EQ(Identities::Open(path_).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(Identities::Open(path_).ok());
  EXPECT_FALSE(Identities::Open(::testing::TempDir()).ok());
  EXPECT_FALSE(Identities::Open("/dev/zero").ok());
  std::remove(path_.c_str());
  Write("#" + std::string(2 << 20, 'x'));
  EXPECT_FALSE(Identities::Open(path_).ok());
}

TEST_F(IdentityTest, AChangedFileHoldsAndAFaultyOneDoesNot) {
  const auto identities = Open();
  const auto reload = [&] {
    ::testing::internal::CaptureStderr();
    identities->Reload();
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(reload(), "");
  Write("bob admin " + Sha256("secret b") + "\n");
  EXPECT_THAT(reload(), HasSubstr("tokens read again"));
  EXPECT_EQ(Who(*identities, Token("secret b")), "bob 2");
  EXPECT_EQ(Who(*identities, Token("secret a")), "UNAUTHENTICATED");
  for (const char* faulty : {"carol admin secret-c\n", ""}) {
    Write(faulty);
    const std::string log = reload();
    EXPECT_THAT(log, HasSubstr("tokens not read again"));
    EXPECT_THAT(log, Not(HasSubstr("secret-c")));
    EXPECT_EQ(reload(), "") << "said once";
    EXPECT_EQ(Who(*identities, Token("secret b")), "bob 2");
  }
  std::remove(path_.c_str());
  EXPECT_THAT(reload(), HasSubstr("tokens not read again"));
  EXPECT_EQ(Who(*identities, Token("secret b")), "bob 2");
  // Back as it was: the fault is over.
  Write("bob admin " + Sha256("secret b") + "\n");
  EXPECT_THAT(reload(), HasSubstr("tokens read again"));
  EXPECT_EQ(reload(), "");
}

}  // namespace
}  // namespace svdllm
