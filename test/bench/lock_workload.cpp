/// Measures locks on a file: lock_workload pairs|ping_pong fcntl|flock FILE SECONDS [PROCESSES].
///
///   pairs      locks and unlocks one byte (or the file); prints pairs per second.
///   ping_pong  locks the next of PROCESSES + 1 bytes and lets go of the last, round and round, as Samba's test of that
///              name does; each of the PROCESSES, on other nodes perhaps, can only go on when the one ahead does.
///              Prints locks per second of this process, which always end up the same for all.
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

namespace {

int file = -1;
bool whole_files = false;

[[noreturn]] void give_up(const char* what) {
  fmt::print(stderr, "lock_workload: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

void lock(long byte, bool locked) {
  if (whole_files) {
    if (flock(file, locked ? LOCK_EX : LOCK_UN) != 0) give_up("flock");
    return;
  }
  struct flock wanted{};
  wanted.l_type = static_cast<short>(locked ? F_WRLCK : F_UNLCK);
  wanted.l_whence = SEEK_SET;
  wanted.l_start = byte;
  wanted.l_len = 1;
  if (fcntl(file, F_SETLKW, &wanted) != 0) give_up("fcntl");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const std::string kind = argc > 2 ? argv[2] : "";
  const bool ping_pong = what == "ping_pong";
  whole_files = kind == "flock";
  const bool sound =
      (ping_pong ? argc == 6 && !whole_files : what == "pairs" && argc == 5) && (whole_files || kind == "fcntl");
  if (!sound) {
    fmt::print(stderr,
               "usage: lock_workload pairs fcntl|flock FILE SECONDS\n"
               "       lock_workload ping_pong fcntl FILE SECONDS PROCESSES\n");
    return 2;
  }
  file = open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) give_up(argv[3]);
  const std::chrono::duration<double> enough(std::atof(argv[4]));
  const long bytes = ping_pong ? std::atol(argv[5]) + 1 : 1;
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::duration<double> took{};
  long count = 0;
  if (ping_pong) lock(0, true);
  for (; took < enough; took = std::chrono::steady_clock::now() - begin) {
    if (ping_pong) {
      lock((count + 1) % bytes, true);
      lock(count % bytes, false);
    } else {
      lock(0, true);
      lock(0, false);
    }
    ++count;
  }
  fmt::print("{:.0f}\n", static_cast<double>(count) / took.count());
  return 0;
}
