// A minimal HTTP/1.1 server for probes and scrapes: GET and HEAD of fixed paths, one request per
// connection.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class HttpServer {
 public:
  // The answer of each path. Several threads call these functions.
  using Handlers = std::map<std::string, std::function<HttpResponse()>>;

  // `address` is "127.0.0.1:9464" or "[::1]:9464"; port 0 takes a free one. Errors name the
  // address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           Handlers handlers);
  ~HttpServer();
  int port() const { return port_; }

 private:
  HttpServer(int listener, int port, Handlers handlers);
  void Serve();
  void Answer(int connection) const;

  const int listener_;
  const int port_;
  const Handlers handlers_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace svdllm
