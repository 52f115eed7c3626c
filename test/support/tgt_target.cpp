#include "test/support/tgt_target.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <ctime>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "test/support/command.h"

extern char** environ;

namespace corral::test {

namespace {
/// tgtd's control sockets are files named by a number below 32768; one number per process and target.
int next_control_number() {
  static int count = 0;
  return 1000 + (getpid() * 8 + count++ % 8) % 30000;
}

/// For what another process does: there is no event to wait for.
void pause_a_little() {
  timespec time{.tv_sec = 0, .tv_nsec = 20'000'000};
  nanosleep(&time, nullptr);
}
}  // namespace

std::uint16_t free_port() {
  FileDescriptor probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof(address);
  CHECK_INVARIANT(bind(probe.get(), generic, length) == 0 && getsockname(probe.get(), generic, &length) == 0);
  return ntohs(address.sin_port);
}

std::string TgtTarget::why_not() {
  if (geteuid() != 0) return "a SCSI target needs root";
  if (run_command("command -v tgtd tgtadm").exit_code != 0) return "there is no tgtd (package tgt)";
  return {};
}

TgtTarget::TgtTarget(Options options)
    : options_(std::move(options)), port_(free_port()), control_(next_control_number()) {
  CHECK_INVARIANT(truncate(image_.path().c_str(), static_cast<off_t>(options_.size_bytes)) == 0);
  mkdir("/var/run/tgtd", 0755);
  start();
}

TgtTarget::~TgtTarget() {
  stop();
  unlink(fmt::format("/var/run/tgtd/socket.{}", control_).c_str());
  unlink(fmt::format("/var/run/tgtd/socket.{}.lock", control_).c_str());
}

void TgtTarget::administer(const std::string& arguments) const {
  CommandResult done = run_command(fmt::format("tgtadm -C {} --lld iscsi {}", control_, arguments));
  if (done.exit_code != 0) fmt::print(stderr, "tgtadm {}: {}\n", arguments, done.output);
  CHECK_INVARIANT(done.exit_code == 0);
}

void TgtTarget::start() {
  std::string control = std::to_string(control_);
  std::string portal = fmt::format("portal=127.0.0.1:{}", port_);
  std::array<const char*, 7> words{"tgtd", "-f", "-C", control.c_str(), "--iscsi", portal.c_str(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  int error = posix_spawnp(&process_, "tgtd", &actions, nullptr, const_cast<char* const*>(words.data()), environ);
  posix_spawn_file_actions_destroy(&actions);
  CHECK_INVARIANT(error == 0);
  constexpr int kAttempts = 500;
  std::string look = fmt::format("tgtadm -C {} --lld iscsi --op show --mode target", control_);
  for (int attempt = 0; run_command(look).exit_code != 0; ++attempt) {
    CHECK_INVARIANT(attempt < kAttempts && waitpid(process_, nullptr, WNOHANG) == 0);
    pause_a_little();
  }
  administer(fmt::format("--op new --mode target --tid 1 -T {}", kName));
  administer(fmt::format("--op new --mode logicalunit --tid 1 --lun 1 -b {}", image_.path()));
  if (options_.thin) administer("--op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1");
  if (!options_.user.empty()) {
    administer(fmt::format("--op new --mode account --user {} --password {}", options_.user, options_.secret));
    administer(fmt::format("--op bind --mode account --tid 1 --user {}", options_.user));
  }
  administer("--op bind --mode target --tid 1 -I ALL");
}

void TgtTarget::stop() {
  if (process_ <= 0) return;
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  process_ = -1;
}

std::string TgtTarget::url(const std::string& options, std::uint16_t port, int lun) const {
  return fmt::format("iscsi://127.0.0.1:{}/{}/{}{}{}", port == 0 ? port_ : port, kName, lun, options.empty() ? "" : "?",
                     options);
}

}  // namespace corral::test
