// A small HTTP/1.1 server for probes and scrapes: GET and HEAD of fixed paths, one request per
// connection, with or without TLS. Peers that send slowly or nothing cost a connection and keep
// nobody waiting.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "server/identity.h"
#include "server/tls.h"

namespace svdllm {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// What answers requests of one path.
struct HttpHandler {
  // Several threads call it.
  std::function<HttpResponse()> answer;
  // Whether it may wait, for a disk or a lock. Such ones are answered by a few threads beside that
  // of the connections; the others at once.
  bool may_wait = true;
  // Whether it answers only whom the server's guard lets in.
  bool guarded = false;
};

class HttpServer {
 public:
  using Handlers = std::map<std::string, HttpHandler>;  // by path
  // Says whether a caller is let in. It may not wait.
  using Guard = std::function<absl::Status(const Credentials&)>;

  // `address` is "127.0.0.1:9464" or "[::1]:9464"; port 0 takes a free one. tls without a
  // certificate: none. Without a guard everybody is let in. Errors name the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           Handlers handlers, TlsContents tls = {},
                                                           Guard guard = {});
  ~HttpServer();
  // For connections from now on. Waits some seconds for those that are there to end. Where it fails
  // all is as before.
  absl::Status SetTls(TlsContents tls);
  int port() const { return port_; }

 private:
  struct Daemon;
  HttpServer(std::string address, int listener, Handlers handlers, Guard guard);
  absl::StatusOr<std::unique_ptr<Daemon>> StartDaemon(TlsContents tls);

  const std::string address_;
  const int listener_, port_;
  const Handlers handlers_;
  const Guard guard_;
  std::unique_ptr<Daemon> daemon_;
};

}  // namespace svdllm
