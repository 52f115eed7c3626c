/// How a running mount is asked about itself: a Unix socket in /run/corral, one JSON object a line in each direction.
///
///     {"command": "status"}          ->  {"ok": true, ...}
///     {"command": "nonsense"}        ->  {"ok": false, "error": "..."}
///
/// The mount's event loop answers. What only tells (status, locks, counters) is answered at once, from what the process
/// has in memory: nothing is asked of the lock manager, the disk or another node, so there is an answer also while
/// requests of the mount hang. What works on the volume is answered when it is done; its client's going away asks it to
/// stop. A client may send several lines; it is served in order (stream_server.h). Bad input gets an error; a line that
/// is too long also ends the connection.
///
/// The socket's name is the device number of the mount's files (stat's st_dev, "0:45.sock"), which every mount has for
/// itself as long as it lives, and which /proc/self/mountinfo tells without touching the mount. Mode 0600. A process
/// that was killed leaves its socket behind: nobody answers there any more, and the next mount removes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/log.h"
#include "base/result.h"
#include "base/task.h"
#include "control/stream_server.h"
#include "disk/event_loop.h"

namespace corral {

/// Where the sockets are.
constexpr const char* kControlFolder = "/run/corral";
/// Of the mount with this device number.
std::string control_socket_path(std::uint32_t device_major, std::uint32_t device_minor);

class ControlSocket {
 public:
  /// Gives the answer to a request, an object; or an error. It may wait, other clients are served meanwhile; when
  /// `stop` is requested, because nobody waits for the answer any more, it ends as soon as it can.
  using Answer = std::function<Task<Result<nlohmann::json>>(nlohmann::json request, std::stop_token stop)>;

  static constexpr std::size_t kMostRequestBytes = 4096;

  /// Listens at the path, whose folder is made if need be, and removes sockets of dead processes from that folder.
  /// EADDRINUSE: another process listens there. The loop outlives the socket.
  static Result<std::unique_ptr<ControlSocket>> listen(EventLoop& loop, std::string path, Answer answer, Logger log);
  /// Removes the socket; clients are cut off. Answers that are still awaited are destroyed where they wait: whoever
  /// gives them sees to it that there are none that this would harm.
  ~ControlSocket();
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

 private:
  ControlSocket(Executor& executor, std::string path, Answer answer)
      : path_(std::move(path)), answer_(std::move(answer)), answers_(executor) {}
  void answer_line(StreamServer::Conversation& talk);
  Task<void> answer_to(std::string line, std::uint64_t client, std::stop_token stop);

  std::string path_;
  Answer answer_;
  std::unique_ptr<StreamServer> server_;
  Scope answers_;
};

}  // namespace corral
