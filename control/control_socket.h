/// How a running mount is asked about itself: a Unix socket in /run/corral, one JSON object a line in each direction.
///
///     {"command": "status"}          ->  {"ok": true, ...}
///     {"command": "nonsense"}        ->  {"ok": false, "error": "..."}
///
/// The mount's event loop answers, from what the process has in memory: nothing is asked of the lock manager, the disk
/// or another node, so there is an answer also while requests of the mount hang. A client may send several lines; it is
/// served in order (stream_server.h). Bad input gets an error; a line that is too long also ends the connection.
///
/// The socket's name is the device number of the mount's files (stat's st_dev, "0:45.sock"), which every mount has for
/// itself as long as it lives, and which /proc/self/mountinfo tells without touching the mount. Mode 0600. A process
/// that was killed leaves its socket behind: nobody answers there any more, and the next mount removes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/log.h"
#include "base/result.h"
#include "control/stream_server.h"
#include "disk/event_loop.h"

namespace corral {

/// Where the sockets are.
constexpr const char* kControlFolder = "/run/corral";
/// Of the mount with this device number.
std::string control_socket_path(std::uint32_t device_major, std::uint32_t device_minor);

class ControlSocket {
 public:
  /// Gives the answer to a request, an object; or an error. Must not wait.
  using Answer = std::function<Result<nlohmann::json>(const nlohmann::json& request)>;

  static constexpr std::size_t kMostRequestBytes = 4096;

  /// Listens at the path, whose folder is made if need be, and removes sockets of dead processes from that folder.
  /// EADDRINUSE: another process listens there. The loop outlives the socket.
  static Result<std::unique_ptr<ControlSocket>> listen(EventLoop& loop, std::string path, Answer answer, Logger log);
  /// Removes the socket; clients are cut off.
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  ControlSocket(std::string path, Answer answer) : path_(std::move(path)), answer_(std::move(answer)) {}
  void answer_line(StreamServer::Conversation& talk) const;
  std::string answer_to(std::string_view line) const;

  std::string path_;
  Answer answer_;
  std::unique_ptr<StreamServer> server_;
};

}  // namespace corral
