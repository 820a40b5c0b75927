// One request over HTTP to a port of this machine.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace svdllm {

// request: as it goes over the line. The whole reply; empty where nobody listens.
inline std::string HttpGet(int port, const std::string& request) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    EXPECT_EQ(send(connection, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    char buffer[65536];
    ssize_t size;
    while ((size = recv(connection, buffer, sizeof(buffer), 0)) > 0) {
      reply.append(buffer, static_cast<size_t>(size));
    }
  }
  close(connection);
  return reply;
}

}  // namespace svdllm
