#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <vector>

#include "tests/support/http.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGet[] = "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n";

std::unique_ptr<HttpServer> Serve(HttpServer::Handlers handlers) {
  auto server = HttpServer::Start("127.0.0.1:0", std::move(handlers));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? std::move(*server) : nullptr;
}

HttpHandler Quick() {
  return {[] {
            return HttpResponse{200, "text/plain", "here\n"};
          },
          /*may_wait=*/false};
}

// A connection on which something was sent.
int Send(int port, const std::string& bytes) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
  return connection;
}

TEST(HttpServerTest, GuardedPathsAskWhoCalls) {
  std::vector<std::string> shown;
  const HttpServer::Guard guard = [&shown](const Credentials& credentials) {
    shown = credentials.authorization;
    EXPECT_TRUE(credentials.certificate_names.empty());
    const bool known = shown == std::vector<std::string>{"Bearer right"};
    return known ? absl::OkStatus() : absl::UnauthenticatedError("who are you?");
  };
  const auto server = HttpServer::Start(
      "127.0.0.1:0",
      {{"/quick", Quick()}, {"/secret", {Quick().answer, /*may_wait=*/true, /*guarded=*/true}}}, {},
      guard);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto get = [&](const std::string& path, const std::string& headers) {
    return HttpGet((*server)->port(),
                   "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  };
  EXPECT_THAT(get("/quick", ""), HasSubstr(" 200 "));
  EXPECT_THAT(get("/secret", "AUTHORIZATION: Bearer right\r\n"), HasSubstr("here\n"));
  for (const char* wrong : {"", "Authorization: Bearer wrong\r\n", "Authorization:\r\n",
                            "Authorization: Bearer right\r\nAuthorization: Bearer wrong\r\n"}) {
    const std::string reply = get("/secret", wrong);
    EXPECT_THAT(reply, HasSubstr(" 401 ")) << wrong;
    EXPECT_THAT(reply, HasSubstr("WWW-Authenticate: Bearer")) << wrong;
    EXPECT_THAT(reply, HasSubstr("who are you?\n")) << wrong;
    EXPECT_THAT(reply, Not(HasSubstr("here"))) << wrong;
  }
  EXPECT_EQ(shown.size(), 2u);
}

TEST(HttpServerTest, AnswersGetAndHeadOfItsPaths) {
  const auto server = Serve({{"/quick", Quick()}, {"/waits", {Quick().answer}}});
  for (const std::string path : {"/quick", "/waits", "/quick?with=query"}) {
    const std::string reply = HttpGet(server->port(), "GET " + path + " HTTP/1.1\r\n\r\n");
    EXPECT_THAT(reply, HasSubstr(" 200 ")) << path;
    EXPECT_THAT(reply, HasSubstr("Content-Type: text/plain")) << path;
    EXPECT_THAT(reply, HasSubstr("here\n")) << path;
  }
  const std::string head = HttpGet(server->port(), "HEAD /quick HTTP/1.1\r\n\r\n");
  EXPECT_THAT(head, HasSubstr(" 200 "));
  EXPECT_THAT(head, Not(HasSubstr("here")));
}

TEST(HttpServerTest, RefusesWhatElseThereIs) {
  const auto server = Serve({{"/quick", Quick()}});
  const auto reply = [&](const std::string& request) { return HttpGet(server->port(), request); };
  EXPECT_THAT(reply("GET /other HTTP/1.1\r\n\r\n"), HasSubstr(" 404 "));
  EXPECT_THAT(reply("POST /quick HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), HasSubstr(" 405 "));
  EXPECT_THAT(reply("\x16\x03\x01 not http\r\n\r\n"), Not(HasSubstr(" 200 ")));
  EXPECT_THAT(reply(kGet), HasSubstr(" 200 ")) << "still there";
}

TEST(HttpServerTest, PeersThatSendNothingMoreKeepNobodyWaiting) {
  const auto server = Serve({{"/quick", Quick()}, {"/waits", {Quick().answer}}});
  std::vector<int> half;
  for (int i = 0; i < 900; ++i) half.push_back(Send(server->port(), "GET /quick HTTP/1.1\r\nX: "));
  for (const std::string path : {"/quick", "/waits"}) {
    const auto begin = steady_clock::now();
    EXPECT_THAT(HttpGet(server->port(), "GET " + path + " HTTP/1.1\r\n\r\n"), HasSubstr(" 200 "));
    EXPECT_LT(steady_clock::now() - begin, milliseconds(1000)) << path;
  }
  for (const int connection : half) close(connection);
}

TEST(HttpServerTest, HandlersThatWaitKeepOnlyTheirKindWaiting) {
  std::promise<void> go;
  std::shared_future<void> let_go = go.get_future().share();
  const auto server = Serve({{"/quick", Quick()}, {"/waits", {[let_go] {
                                                     let_go.wait();
                                                     return HttpResponse{200, "text/plain", "late"};
                                                   }}}});
  std::vector<int> waiting;
  for (int i = 0; i < 40; ++i) {
    waiting.push_back(Send(server->port(), "GET /waits HTTP/1.1\r\n\r\n"));
  }
  const auto begin = steady_clock::now();
  EXPECT_THAT(HttpGet(server->port(), kGet), HasSubstr(" 200 "));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1000));
  go.set_value();
  char buffer[256] = "";
  EXPECT_GT(recv(waiting.back(), buffer, sizeof(buffer) - 1, 0), 0);
  EXPECT_THAT(buffer, HasSubstr(" 200 "));
  for (const int connection : waiting) close(connection);
}

TEST(HttpServerTest, TakenAddressIsAnError) {
  const auto server = Serve({{"/quick", Quick()}});
  const std::string address = "127.0.0.1:" + std::to_string(server->port());
  const auto second = HttpServer::Start(address, {});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

}  // namespace
}  // namespace svdllm
