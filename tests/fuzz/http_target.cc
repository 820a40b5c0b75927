// What comes over a connection of the HTTP server, and that the next request is answered.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/http_server.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

constexpr size_t kMaxReply = 16384;

HttpServer& Server() {
  static const std::unique_ptr<HttpServer> server = [] {
    const auto answer = [] { return HttpResponse{200, "text/plain", "here\n"}; };
    return std::move(*HttpServer::Start(
        "127.0.0.1:0", {{"/livez", {answer, /*may_wait=*/false}}, {"/metrics", {answer}}}));
  }();
  return *server;
}

std::string Ask(std::string_view request) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{20, 0};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const linger at_once{1, 0};  // so that thousands of connections leave no ports behind
  setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(Server().port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  ssize_t size = -1;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    // It may answer and close before it has read everything.
    (void)send(connection, request.data(), request.size(), MSG_NOSIGNAL);
    shutdown(connection, SHUT_WR);
    char buffer[4096];
    while ((size = recv(connection, buffer, sizeof(buffer), 0)) > 0) {
      reply.append(buffer, static_cast<size_t>(size));
    }
  }
  const bool silent = size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  close(connection);
  FUZZ_CHECK(!silent, "no answer and no end in 20 s");
  return reply;
}

void Run(std::string_view bytes) {
  const std::string reply = Ask(bytes);
  FUZZ_CHECK(reply.empty() || reply.starts_with("HTTP/1."), reply);
  FUZZ_CHECK(reply.size() <= kMaxReply, std::to_string(reply.size()));
  const std::string next = Ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
  FUZZ_CHECK(next.find(" 200 ") != next.npos && next.ends_with("here\n"), next);
}

}  // namespace

FuzzTarget HttpTarget() {
  return {"http",
          Run,
          {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /metrics HTTP/1.0\r\n\r\n",
           "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
           "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
           "GET /livez?a=%41&b HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nExpect: "
           "100-continue\r\n\r\n"},
          {"GET ",
           "HEAD ",
           "POST ",
           "/livez",
           "/metrics",
           "%00",
           "%",
           "?",
           " HTTP/1.1",
           " HTTP/9.9",
           "\r\n",
           "\n",
           "\r\n\r\n",
           "Host: ",
           "Content-Length: ",
           "18446744073709551616",
           "-1",
           "Transfer-Encoding: chunked\r\n",
           "Cookie: a=b",
           "Authorization: Digest ",
           ": ",
           std::string(1, '\0'),
           "\xff"},
          2048};
}

}  // namespace svdllm::testing
