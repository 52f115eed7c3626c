/// Serves the clients of a listening socket on the event loop: what they say is handed to a protocol, which appends
/// what is to be answered. Control socket and metrics endpoint are two protocols over this.
///
/// A client is read no further while its answer is on the way, so what a client can make us hold is its one input
/// buffer and one answer. When there are too many clients, the one that has been connected longest is cut off, of those
/// that wait for an answer only where all do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "base/file_descriptor.h"
#include "base/log.h"
#include "base/result.h"
#include "disk/event_loop.h"

namespace corral {

class StreamServer {
 public:
  struct Conversation {
    std::string input;     ///< received, and not taken yet
    std::string output;    ///< to be sent
    bool closing = false;  ///< after what is to be sent
    bool waiting = true;   ///< for more input; false: there is a whole request in `input` still
    bool pending = false;  ///< the answer to what was taken comes later, by answer()
    std::uint64_t client = 0;
    std::stop_source gone;  ///< stopped when the client is: it has closed its side, or was cut off
  };
  /// Takes one request from the input, if there is a whole one, and appends its answer, or says that it is pending.
  /// Must not wait.
  using Protocol = std::function<void(Conversation&)>;

  static constexpr std::size_t kMostClients = 32;

  /// Takes over a socket that listens. The loop outlives the server.
  static Result<std::unique_ptr<StreamServer>> start(EventLoop& loop, FileDescriptor listener, Protocol protocol,
                                                     Logger log);
  /// Every client is cut off.
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

  /// The answer that was pending; nothing where the client has gone. What the socket takes is on its way when this
  /// returns.
  void answer(std::uint64_t client, std::string output);

 private:
  struct Client {
    FileDescriptor socket;
    Conversation talk;
    std::size_t sent = 0;
  };

  StreamServer(FileDescriptor listener, FileDescriptor poll, Protocol protocol, Logger log);
  EventLoop::Drained drain();
  void accept_all();
  void make_room();
  void serve(std::uint64_t number);
  void drop(std::uint64_t number);
  static bool receive(Client& client);
  static bool send(Client& client);
  void watch(std::uint64_t number, const Client& client) const;

  FileDescriptor listener_;
  FileDescriptor poll_;  ///< readable when listener or a client has something to do
  Protocol protocol_;
  Logger log_;
  std::map<std::uint64_t, Client> clients_;  ///< by number, in order of coming
  std::uint64_t next_number_ = 1;
  std::unique_ptr<EventLoop::Watch> watch_;
};

}  // namespace corral
