#include "server/http_server.h"

#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/address.h"
#include "server/call_pool.h"

namespace svdllm {
namespace {

constexpr unsigned kPatienceSeconds = 5;  // for a request that does not come
constexpr unsigned kMostConnections = 4000;
constexpr int kThreads = 4;
constexpr size_t kMostWaiting = 256;

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
  if (bind(listener, list->ai_addr, list->ai_addrlen) != 0 || listen(listener, 1024) != 0) {
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

// One request, from its first line to its end.
struct Request {
  std::optional<HttpResponse> response;
};

MHD_Result Reply(MHD_Connection* connection, const HttpResponse& response) {
  MHD_Response* const reply = MHD_create_response_from_buffer(
      response.body.size(), const_cast<char*>(response.body.data()), MHD_RESPMEM_MUST_COPY);
  MHD_add_response_header(reply, "Content-Type", response.content_type.c_str());
  MHD_add_response_header(reply, "Connection", "close");
  const MHD_Result queued =
      MHD_queue_response(connection, static_cast<unsigned>(response.status), reply);
  MHD_destroy_response(reply);
  return queued;
}

}  // namespace

struct HttpServer::Daemon {
  Handlers handlers;
  CallPool pool{kThreads, kMostWaiting};
  MHD_Daemon* daemon = nullptr;

  static MHD_Result Access(void* self, MHD_Connection* connection, const char* url,
                           const char* method, const char* version, const char* data, size_t* size,
                           void** state) {
    (void)version, (void)data, (void)size;
    return static_cast<Daemon*>(self)->Answer(connection, url, method, state);
  }
  static void Completed(void*, MHD_Connection*, void** state, MHD_RequestTerminationCode) {
    delete static_cast<Request*>(*state);
    *state = nullptr;
  }

  // Called once a request's head is there, and again when a handler that waited has answered.
  MHD_Result Answer(MHD_Connection* connection, const std::string& path, const std::string& method,
                    void** state) {
    if (auto* const known = static_cast<Request*>(*state); known != nullptr) {
      return Reply(connection, *known->response);
    }
    if (method != "GET" && method != "HEAD") {
      return Reply(connection, {405, "text/plain", "only GET and HEAD\n"});
    }
    const auto handler = handlers.find(path);
    if (handler == handlers.end()) return Reply(connection, {404, "text/plain", "not found\n"});
    if (!handler->second.may_wait) return Reply(connection, handler->second.answer());
    auto* const request = new Request;
    *state = request;
    MHD_suspend_connection(connection);
    const bool taken = pool.Submit([request, connection, handler] {
      request->response = handler->second.answer();
      MHD_resume_connection(connection);
    });
    if (!taken) {
      request->response = HttpResponse{503, "text/plain", "too many requests are waiting\n"};
      MHD_resume_connection(connection);
    }
    return MHD_YES;
  }
};

HttpServer::HttpServer(int port) : port_(port), daemon_(std::make_unique<Daemon>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              Handlers handlers) {
  ASSIGN_OR_RETURN(const int listener, Listen(address));
  std::unique_ptr<HttpServer> server(new HttpServer(PortOf(listener)));
  Daemon& daemon = *server->daemon_;
  daemon.handlers = std::move(handlers);
  daemon.daemon = MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr,
      &Daemon::Access, &daemon, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_TIMEOUT,
      kPatienceSeconds, MHD_OPTION_CONNECTION_LIMIT, kMostConnections, MHD_OPTION_NOTIFY_COMPLETED,
      &Daemon::Completed, nullptr, MHD_OPTION_END);
  if (daemon.daemon == nullptr) {
    close(listener);
    return absl::UnavailableError("cannot serve HTTP on " + address);
  }
  return server;
}

HttpServer::~HttpServer() {
  if (daemon_->daemon == nullptr) return;
  // No more connections, then no more waiting ones, then no more at all.
  const MHD_socket listener = MHD_quiesce_daemon(daemon_->daemon);
  daemon_->pool.Finish();
  MHD_stop_daemon(daemon_->daemon);
  if (listener != MHD_INVALID_SOCKET) close(listener);
}

}  // namespace svdllm
