#include "control/control_socket.h"

#include <filesystem>
#include <future>
#include <thread>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/sync.h"
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

/// Requests that wait for what the test does.
struct Waiting {
  explicit Waiting(Executor& executor) : go(executor) {}
  Event go;
  std::promise<std::stop_token> begun;
};

Task<Result<json>> answer_to(Waiting& waiting, json request, std::stop_token stop) {
  const std::string command = request.value("command", "");
  if (command == "echo") co_return json{{"said", request["words"]}};
  if (command == "long") co_return json{{"said", std::string(4 << 20, 'x')}};
  if (command == "status") co_return json::object();
  if (command != "wait") co_return fail(EINVAL, "not known");
  waiting.begun.set_value(stop);
  co_await waiting.go.wait();
  co_return json{{"stopped", stop.stop_requested()}};
}

/// A socket with its loop on this thread, and a client's work on another one.
struct Bench {
  explicit Bench(const std::string& path)
      : socket(must(ControlSocket::listen(
            loop, path,
            [this](json request, std::stop_token stop) {
              return answer_to(waiting, std::move(request), std::move(stop));
            },
            Logger(log)))) {}
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
  Waiting waiting{loop.executor()};
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
    const auto taken = ControlSocket::listen(other.loop, folder.socket("1:1.sock"), {}, Logger(other.log));
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

TEST_CASE("an answer that takes its time keeps nobody else waiting, and is waited for") {
  Folder folder;
  Bench bench(folder.socket());
  Result<json> answer = fail(0);
  Result<json> other = fail(0);
  bench.with_client([&] {
    std::thread patient([&] { answer = command_mount(folder.socket(), {{"command", "wait"}}, 20ms); });
    bench.waiting.begun.get_future().wait();
    // Longer than the limit, which is for a process that says nothing at all.
    const auto until = std::chrono::steady_clock::now() + 100ms;
    while (std::chrono::steady_clock::now() < until)
      other = ask_mount(folder.socket(), {{"command", "echo"}, {"words", 1}}, 5s);
    bench.loop.post([&] { bench.waiting.go.set(); });
    patient.join();
  });
  CHECK(must(answer) == json{{"stopped", false}});
  CHECK(must(other) == json{{"said", 1}});
}

TEST_CASE("a client that goes away takes its request back") {
  Folder folder;
  Bench bench(folder.socket());
  std::atomic<bool> stopped = false;
  bench.with_client([&] {
    FileDescriptor client = connect_to(folder.socket());
    const std::string_view line = "{\"command\":\"wait\"}\n";
    REQUIRE(::send(client.get(), line.data(), line.size(), MSG_NOSIGNAL) == std::ssize(line));
    const std::stop_token stop = bench.waiting.begun.get_future().get();
    const std::stop_callback notice(stop, [&] {
      stopped = true;
      stopped.notify_all();
    });
    CHECK_FALSE(stop.stop_requested());
    client = FileDescriptor();
    stopped.wait(false);
    // The answer finds nobody any more.
    bench.loop.post([&] { bench.waiting.go.set(); });
    CHECK(ask_mount(folder.socket(), {{"command", "status"}}, 5s).has_value());
  });
  CHECK(stopped);
}

TEST_CASE("who waits for an answer is not cut off for those who do not") {
  Folder folder;
  Bench bench(folder.socket());
  Result<json> answer = fail(0);
  bench.with_client([&] {
    std::thread patient([&] { answer = command_mount(folder.socket(), {{"command", "wait"}}, 5s); });
    bench.waiting.begun.get_future().wait();
    std::vector<FileDescriptor> idle;
    for (std::size_t i = 0; i < StreamServer::kMostClients + 2; ++i)
      idle.push_back(connect_to(folder.socket()));
    CHECK(ask_mount(folder.socket(), {{"command", "status"}}, 5s).has_value());
    bench.loop.post([&] { bench.waiting.go.set(); });
    patient.join();
  });
  CHECK(must(answer) == json{{"stopped", false}});
}

TEST_CASE("a socket that ends while an answer is awaited cuts its client off") {
  Folder folder;
  Bench bench(folder.socket());
  Result<json> answer = json::object();
  bench.with_client([&] {
    std::thread patient([&] { answer = command_mount(folder.socket(), {{"command", "wait"}}, 5s); });
    const std::stop_token stop = bench.waiting.begun.get_future().get();
    bench.loop.post([&] { bench.socket.reset(); });
    patient.join();
    CHECK(stop.stop_requested());
  });
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code() == EPROTO);
}
