// A small HTTP/1.1 server for probes and scrapes: GET and HEAD of fixed paths, one request per
// connection. Peers that send slowly or nothing cost a connection and keep nobody waiting.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"

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
};

class HttpServer {
 public:
  using Handlers = std::map<std::string, HttpHandler>;  // by path

  // `address` is "127.0.0.1:9464" or "[::1]:9464"; port 0 takes a free one. Errors name the
  // address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           Handlers handlers);
  ~HttpServer();
  int port() const { return port_; }

 private:
  struct Daemon;
  explicit HttpServer(int port);

  const int port_;
  std::unique_ptr<Daemon> daemon_;
};

}  // namespace svdllm
