#include "control/control_socket.h"

#include <filesystem>
#include <thread>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/stat.h>

#include "control/control_client.h"
#include "control/unix_address.h"
#include "test/support/catch.h"
#include "test/support/must.h"

using namespace corral;
using namespace std::chrono_literals;
using nlohmann::json;
using test::must;

namespace {

struct Folder {
  Folder() {
    std::string name = "/tmp/corral-control-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string socket(const std::string& name = "1:2.sock") const { return path + "/run/" + name; }
  std::string path;
};

Result<json> answer_to(const json& request) {
  if (request.value("command", "") == "echo") return json{{"said", request["words"]}};
  if (request.value("command", "") == "long") return json{{"said", std::string(4 << 20, 'x')}};
  return fail(EINVAL, "not known");
}

/// A socket with its loop on this thread, and a client's work on another one.
struct Bench {
  explicit Bench(const std::string& path) : socket(must(ControlSocket::listen(loop, path, answer_to, Logger(log)))) {}
  void with_client(const std::function<void()>& work) {
    std::thread client([&] {
      work();
      loop.post([this] { loop.stop(); });
    });
    loop.run();
    client.join();
  }
  NullLogSink log;
  EventLoop loop;
  std::unique_ptr<ControlSocket> socket;
};

FileDescriptor connect_to(const std::string& path) {
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UnixAddress address = must(UnixAddress::of(path));
  if (::connect(socket.get(), address.get(), address.length()) != 0) return FileDescriptor();
  return socket;
}

/// All that comes until the end, or `lines` lines.
std::string exchange(const std::string& path, const std::string& bytes, std::size_t lines) {
  FileDescriptor socket = connect_to(path);
  if (!socket || ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return "no connection";
  std::string text;
  char buffer[4096];
  while (static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) < lines) {
    const ssize_t got = ::recv(socket.get(), buffer, sizeof(buffer), 0);
    if (got <= 0) return text + "END";
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

TEST_CASE("a request gets its answer, and only root may ask") {
  Folder folder;
  Bench bench(folder.socket());
  struct stat status{};
  REQUIRE(stat(folder.socket().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  Result<json> answer = fail(0);
  Result<json> refusal = fail(0);
  Result<json> large = fail(0);
  bench.with_client([&] {
    answer = ask_mount(folder.socket(), {{"command", "echo"}, {"words", "a\nb"}}, 5s);
    refusal = ask_mount(folder.socket(), {{"command", "nonsense"}}, 5s);
    large = ask_mount(folder.socket(), {{"command", "long"}}, 5s);
  });
  CHECK(must(answer) == json{{"said", "a\nb"}});
  REQUIRE_FALSE(refusal);
  CHECK(refusal.error().describe() == "not known");
  CHECK(must(large)["said"].get<std::string>().size() == 4 << 20);
}

TEST_CASE("bad input gets an error, and what came behind it its answer") {
  Folder folder;
  Bench bench(folder.socket());
  std::string bad;
  std::string endless;
  bench.with_client([&] {
    bad = exchange(folder.socket(), "{nonsense\n[1]\n{\"command\":\"echo\",\"words\":1}\n", 3);
    endless = exchange(folder.socket(), std::string(2 * ControlSocket::kMostRequestBytes, 'x'), 9);
  });
  const std::string refused = "{\"error\":\"a request is a JSON object on one line\",\"ok\":false}\n";
  CHECK(bad == refused + refused + "{\"ok\":true,\"said\":1}\n");
  CHECK(endless == "{\"error\":\"a request has at most 4096 bytes\",\"ok\":false}\nEND");
}

TEST_CASE("where there are too many clients the oldest makes room, and idle ones keep nobody out") {
  Folder folder;
  Bench bench(folder.socket());
  std::string served;
  ssize_t oldest_hears = -1;
  bench.with_client([&] {
    std::vector<FileDescriptor> idle;
    for (std::size_t i = 0; i < StreamServer::kMostClients; ++i)
      idle.push_back(connect_to(folder.socket()));
    served = exchange(folder.socket(), "{}\n", 1);
    char byte = 0;
    oldest_hears = ::recv(idle.front().get(), &byte, 1, 0);
  });
  CHECK(oldest_hears == 0);
  CHECK(served == "{\"error\":\"not known\",\"ok\":false}\n");
}

TEST_CASE("sockets of the dead are removed, those of the living stay") {
  Folder folder;
  std::filesystem::create_directories(folder.path + "/run");
  const std::string left_behind = folder.socket("9:9.sock");
  {
    FileDescriptor dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    const UnixAddress address = must(UnixAddress::of(left_behind));
    REQUIRE(::bind(dead.get(), address.get(), address.length()) == 0);
    REQUIRE(::listen(dead.get(), 1) == 0);
  }
  Bench one(folder.socket("1:1.sock"));
  CHECK_FALSE(std::filesystem::exists(left_behind));
  CHECK(ask_mount(left_behind, json::object(), 1s).error().code() == ENOENT);
  {
    Bench other(folder.socket("2:2.sock"));
    CHECK(std::filesystem::exists(folder.socket("1:1.sock")));
    const auto taken = ControlSocket::listen(other.loop, folder.socket("1:1.sock"), answer_to, Logger(other.log));
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code() == EADDRINUSE);
  }
  CHECK_FALSE(std::filesystem::exists(folder.socket("2:2.sock")));
  CHECK(std::filesystem::exists(folder.socket("1:1.sock")));
}

TEST_CASE("a process that does not answer is not waited for") {
  Folder folder;
  Bench bench(folder.socket());
  // Its loop does not run.
  const auto answer = ask_mount(folder.socket(), json::object(), 50ms);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code() == ETIMEDOUT);
}
