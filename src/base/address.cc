#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

namespace svdllm {

absl::StatusOr<HostPort> ParseAddress(const std::string& address) {
  const auto bad = [&] {
    return absl::InvalidArgumentError("\"" + address +
                                      "\" is not an address of the form host:port or [v6]:port");
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad();
  HostPort result{address.substr(0, colon), address.substr(colon + 1)};
  if (result.port.empty() || result.port.size() > 5 ||
      result.port.find_first_not_of("0123456789") != std::string::npos ||
      std::stoi(result.port) > 65535) {
    return bad();
  }
  if (result.host.front() == '[') {
    if (result.host.size() < 3 || result.host.back() != ']') return bad();
    result.host = result.host.substr(1, result.host.size() - 2);
  } else if (result.host.find(':') != std::string::npos) {
    return bad();
  }
  return result;
}

bool IsLoopback(const HostPort& address) {
  if (address.host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace svdllm
