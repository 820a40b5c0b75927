#include "server/http_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "server/address.h"

namespace svdllm {
namespace {

constexpr int kThreads = 4;  // so that one slow peer does not keep a probe waiting
constexpr size_t kMaxRequestBytes = 16384;
constexpr std::chrono::seconds kPatience(5);

bool WaitFor(int socket, short what, int timeout_ms) {
  pollfd entry{socket, what, 0};
  return poll(&entry, 1, timeout_ms) > 0;
}

// The request's head, or what came of it.
std::string ReadHead(int connection) {
  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (text.find("\r\n\r\n") == std::string::npos && text.size() < kMaxRequestBytes) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !WaitFor(connection, POLLIN, static_cast<int>(left.count()))) break;
    char buffer[2048];
    const ssize_t size = recv(connection, buffer, sizeof(buffer), 0);
    if (size <= 0) break;
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

void SendAll(int connection, std::string_view bytes) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!bytes.empty() && std::chrono::steady_clock::now() < deadline) {
    const ssize_t size = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size > 0) {
      bytes.remove_prefix(static_cast<size_t>(size));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      WaitFor(connection, POLLOUT, 1000);
    } else {
      return;
    }
  }
}

const char* Phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

absl::StatusOr<int> Listen(const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort target, ParseAddress(address));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int code = getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list);
  if (code != 0) return absl::InvalidArgumentError(address + ": " + gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
  const int listener = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return absl::InternalError(address + ": " + strerror(errno));
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener, list->ai_addr, list->ai_addrlen) != 0 || listen(listener, 64) != 0) {
    const int error = errno;
    close(listener);
    return absl::UnavailableError("cannot listen on " + address + ": " + strerror(error));
  }
  return listener;
}

int PortOf(int listener) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  char port[16] = "0";
  getsockname(listener, reinterpret_cast<sockaddr*>(&bound), &size);
  getnameinfo(reinterpret_cast<sockaddr*>(&bound), size, nullptr, 0, port, sizeof(port),
              NI_NUMERICSERV);
  return std::stoi(port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              Handlers handlers) {
  ASSIGN_OR_RETURN(const int listener, Listen(address));
  return std::unique_ptr<HttpServer>(
      new HttpServer(listener, PortOf(listener), std::move(handlers)));
}

HttpServer::HttpServer(int listener, int port, Handlers handlers)
    : listener_(listener), port_(port), handlers_(std::move(handlers)) {
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Serve(); });
}

HttpServer::~HttpServer() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  close(listener_);
}

void HttpServer::Serve() {
  while (!stop_) {
    if (!WaitFor(listener_, POLLIN, 100)) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {
      // Another thread was quicker, or there are no descriptors: neither is a reason to spin.
      if (errno != EAGAIN) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    Answer(connection);
    close(connection);
  }
}

void HttpServer::Answer(int connection) const {
  const std::string head = ReadHead(connection);
  const size_t first = head.find(' ');
  const size_t second = first == std::string::npos ? first : head.find(' ', first + 1);
  HttpResponse response;
  bool with_body = true;
  if (second == std::string::npos || head.find("\r\n\r\n") == std::string::npos) {
    response = {400, "text/plain", "bad request\n"};
  } else {
    const std::string method = head.substr(0, first);
    const std::string target = head.substr(first + 1, second - first - 1);
    const auto handler = handlers_.find(target.substr(0, target.find('?')));
    with_body = method != "HEAD";
    if (method != "GET" && method != "HEAD") {
      response = {405, "text/plain", "only GET and HEAD\n"};
    } else if (handler == handlers_.end()) {
      response = {404, "text/plain", "not found\n"};
    } else {
      response = handler->second();
    }
  }
  std::string reply = "HTTP/1.1 " + std::to_string(response.status) + " " +
                      Phrase(response.status) + "\r\nContent-Type: " + response.content_type +
                      "\r\nContent-Length: " + std::to_string(response.body.size()) +
                      "\r\nConnection: close\r\n\r\n";
  if (with_body) reply += response.body;
  SendAll(connection, reply);
  shutdown(connection, SHUT_WR);
}

}  // namespace svdllm
