/// The address of a Unix socket with a path.
#pragma once

#include <cstring>
#include <string>

#include <sys/socket.h>
#include <sys/un.h>

#include "base/result.h"

namespace corral {

class UnixAddress {
 public:
  /// ENAMETOOLONG for a path that is longer than such an address holds.
  static Result<UnixAddress> of(const std::string& path) {
    UnixAddress address;
    if (path.size() >= sizeof(address.address_.sun_path)) return fail(ENAMETOOLONG, "{}: too long for a socket", path);
    std::memcpy(address.address_.sun_path, path.c_str(), path.size() + 1);
    return address;
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t length() const { return sizeof(address_); }

 private:
  UnixAddress() { address_.sun_family = AF_UNIX; }
  sockaddr_un address_{};
};

}  // namespace corral
