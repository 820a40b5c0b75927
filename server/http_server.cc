#include "server/http_server.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <netdb.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/address.h"
#include "server/call_pool.h"

namespace svdllm {
namespace {

constexpr unsigned kPatienceSeconds = 5;  // for a request that does not come
constexpr unsigned kMostConnections = 4000;
constexpr int kThreads = 4;
constexpr size_t kMostWaiting = 256;
constexpr char kTlsPriorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

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

// What the daemon's library makes of it: it does not say why it does not start.
absl::Status CheckTls(const TlsContents& tls) {
  if (tls.cert.empty()) return absl::OkStatus();
  gnutls_certificate_credentials_t raw = nullptr;
  if (gnutls_certificate_allocate_credentials(&raw) < 0) return absl::InternalError("no memory");
  const std::unique_ptr<gnutls_certificate_credentials_st,
                        decltype(&gnutls_certificate_free_credentials)>
      credentials(raw, gnutls_certificate_free_credentials);
  const auto datum = [](const std::string& text) {
    return gnutls_datum_t{reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())),
                          static_cast<unsigned>(text.size())};
  };
  const gnutls_datum_t cert = datum(tls.cert), key = datum(tls.key), ca = datum(tls.client_ca);
  int code = gnutls_certificate_set_x509_key_mem(raw, &cert, &key, GNUTLS_X509_FMT_PEM);
  if (code >= 0 && !tls.client_ca.empty()) {
    code = gnutls_certificate_set_x509_trust_mem(raw, &ca, GNUTLS_X509_FMT_PEM);
  }
  if (code >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(std::string("the certificate cannot be used for HTTP: ") +
                                    gnutls_strerror(code));
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
  if (response.status == 401) MHD_add_response_header(reply, "WWW-Authenticate", "Bearer");
  const MHD_Result queued =
      MHD_queue_response(connection, static_cast<unsigned>(response.status), reply);
  MHD_destroy_response(reply);
  return queued;
}

MHD_Result KeepAuthorization(void* kept, MHD_ValueKind, const char* name, const char* value) {
  if (strcasecmp(name, "authorization") != 0) return MHD_YES;
  static_cast<std::vector<std::string>*>(kept)->emplace_back(value == nullptr ? "" : value);
  return MHD_YES;
}

// The names of a client's certificate where it is of a CA that the server trusts.
std::vector<std::string> TrustedNames(MHD_Connection* connection) {
  const MHD_ConnectionInfo* const info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
  if (info == nullptr || info->tls_session == nullptr) return {};
  auto* const session = static_cast<gnutls_session_t>(info->tls_session);
  unsigned count = 0, faults = 0;
  const gnutls_datum_t* const chain = gnutls_certificate_get_peers(session, &count);
  if (chain == nullptr || count == 0) return {};
  char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
  gnutls_typed_vdata_st asked[1] = {};
  asked[0].type = GNUTLS_DT_KEY_PURPOSE_OID;
  asked[0].data = reinterpret_cast<unsigned char*>(purpose);
  if (gnutls_certificate_verify_peers(session, asked, 1, &faults) != GNUTLS_E_SUCCESS ||
      faults != 0) {
    return {};
  }
  return CertificateNames({reinterpret_cast<const char*>(chain[0].data), chain[0].size});
}

}  // namespace

struct HttpServer::Daemon {
  const Handlers& handlers;
  const Guard& guard;
  const TlsContents tls;
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

  absl::Status Admit(MHD_Connection* connection) const {
    if (!guard) return absl::OkStatus();
    Credentials credentials;
    MHD_get_connection_values(connection, MHD_HEADER_KIND, &KeepAuthorization,
                              &credentials.authorization);
    credentials.certificate_names = TrustedNames(connection);
    return guard(credentials);
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
    if (handler->second.guarded) {
      const absl::Status admitted = Admit(connection);
      if (!admitted.ok()) {
        return Reply(connection, {401, "text/plain", std::string(admitted.message()) + "\n"});
      }
    }
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

  bool Start(int listener) {
    std::vector<MHD_OptionItem> options = {
        {MHD_OPTION_LISTEN_SOCKET, listener, nullptr},
        {MHD_OPTION_CONNECTION_TIMEOUT, kPatienceSeconds, nullptr},
        {MHD_OPTION_CONNECTION_LIMIT, kMostConnections, nullptr},
        {MHD_OPTION_NOTIFY_COMPLETED, reinterpret_cast<intptr_t>(&Completed), nullptr}};
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    const auto add = [&options](MHD_OPTION option, const std::string& text) {
      options.push_back({option, 0, const_cast<char*>(text.c_str())});
    };
    const std::string priorities = kTlsPriorities;
    if (!tls.cert.empty()) {
      flags |= MHD_USE_TLS;
      add(MHD_OPTION_HTTPS_MEM_CERT, tls.cert);
      add(MHD_OPTION_HTTPS_MEM_KEY, tls.key);
      add(MHD_OPTION_HTTPS_PRIORITIES, priorities);
      if (!tls.client_ca.empty()) add(MHD_OPTION_HTTPS_MEM_TRUST, tls.client_ca);
    }
    options.push_back({MHD_OPTION_END, 0, nullptr});
    daemon = MHD_start_daemon(flags, 0, nullptr, nullptr, &Access, this, MHD_OPTION_ARRAY,
                              options.data(), MHD_OPTION_END);
    return daemon != nullptr;
  }

  // No more connections, those that are there get `patience`, then no more waiting ones, then no
  // more at all. The listener is left alone.
  void Stop(std::chrono::seconds patience) {
    if (daemon == nullptr) return;
    MHD_quiesce_daemon(daemon);
    const auto end = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < end &&
           MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pool.Finish();
    MHD_stop_daemon(daemon);
  }
};

HttpServer::HttpServer(std::string address, int listener, Handlers handlers, Guard guard)
    : address_(std::move(address)),
      listener_(listener),
      port_(PortOf(listener)),
      handlers_(std::move(handlers)),
      guard_(std::move(guard)) {}

absl::StatusOr<std::unique_ptr<HttpServer::Daemon>> HttpServer::StartDaemon(TlsContents tls) {
  RETURN_IF_ERROR(CheckTls(tls));
  std::unique_ptr<Daemon> daemon(new Daemon{handlers_, guard_, std::move(tls)});
  if (daemon->Start(listener_)) return daemon;
  return absl::UnavailableError("cannot serve HTTP on " + address_);
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              Handlers handlers, TlsContents tls,
                                                              Guard guard) {
  ASSIGN_OR_RETURN(const int listener, Listen(address));
  std::unique_ptr<HttpServer> server(
      new HttpServer(address, listener, std::move(handlers), std::move(guard)));
  ASSIGN_OR_RETURN(server->daemon_, server->StartDaemon(std::move(tls)));
  return server;
}

absl::Status HttpServer::SetTls(TlsContents tls) {
  // Both take connections for a moment, so that none is refused.
  ASSIGN_OR_RETURN(std::unique_ptr<Daemon> next, StartDaemon(std::move(tls)));
  std::swap(daemon_, next);
  next->Stop(std::chrono::seconds(kPatienceSeconds));
  return absl::OkStatus();
}

HttpServer::~HttpServer() {
  if (daemon_ != nullptr) daemon_->Stop(std::chrono::seconds(0));
  close(listener_);
}

}  // namespace svdllm
