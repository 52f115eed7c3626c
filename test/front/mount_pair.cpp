#include "test/front/mount_pair.h"

#include <csignal>
#include <cstdlib>
#include <exception>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/support/formatted_volume.h"
#include "test/support/fsck_gfs2.h"

namespace corral::test {

using namespace std::chrono_literals;

namespace {
/// Who has not finished by then waits for ever.
constexpr Duration kPatience = 180s;

DiskImage shared_volume() {
  mkfs::FormatOptions options;
  options.journal_mebibytes = 8;
  options.journals = MountPair::kNodes;
  options.lock_table = "test:pair";
  return formatted_volume(options, 192);
}

std::string new_folder() {
  std::string folder = "/tmp/corral-pair-XXXXXX";
  CHECK_INVARIANT(mkdtemp(folder.data()) != nullptr);
  return folder;
}
}  // namespace

std::string why_no_mounts() {
  if (geteuid() != 0) return "real mounts need root";
  if (access("/dev/fuse", R_OK | W_OK) != 0) return "there is no /dev/fuse";
  return {};
}

UserProcess::UserProcess(const MountUser& user, const std::vector<std::string>& mounts) {
  int go[2];
  int output[2];
  CHECK_INVARIANT(pipe2(go, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
  pid_ = fork();
  CHECK_INVARIANT(pid_ >= 0);
  if (pid_ == 0) {
    ::close(go[1]);
    ::close(output[0]);
    std::string complaint;
    char word = 0;
    if (read(go[0], &word, 1) == 1) {
      try {
        user(mounts);
      } catch (const std::exception& wrong) {
        complaint = wrong.what();
      }
    }
    const bool said = write(output[1], complaint.data(), complaint.size()) == static_cast<ssize_t>(complaint.size());
    _exit(said && complaint.empty() ? 0 : 1);
  }
  ::close(go[0]);
  ::close(output[1]);
  go_ = FileDescriptor(go[1]);
  output_ = FileDescriptor(output[0]);
}

UserProcess::~UserProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void UserProcess::begin() const {
  CHECK_INVARIANT(write(go_.get(), "g", 1) == 1);
}

bool UserProcess::read_output() {
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(output_.get(), buffer, sizeof(buffer));
    if (got == 0) return false;
    if (got < 0) return true;
    text_.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string UserProcess::complaint() {
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return text_.empty() ? fmt::format("a user of the mounts died (wait status {})", status) : text_;
}

MountPair::MountPair(const std::vector<std::vector<MountUser>>& stages, std::uint64_t seed)
    : random_(seed), disk_(shared_volume()), helpers_(loop_, kNodes) {
  for (std::uint32_t number = 0; number < kNodes; ++number)
    folders_.push_back(new_folder());
  for (const std::vector<MountUser>& users : stages) {
    Stage& stage = stages_.emplace_back();
    for (const MountUser& user : users)
      stage.push_back(std::make_unique<UserProcess>(user, folders_));
  }
  locks_ = std::make_unique<ModelLockSpace>(loop_.executor(), random_.next(), 300us);
  for (std::uint32_t number = 0; number < kNodes; ++number) {
    auto node = std::make_unique<Node>();
    node->number = number;
    node->folder = folders_[number];
    node->device = std::make_unique<SimulatedDevice>(loop_.executor(), disk_, random_.next());
    node->locks = std::make_unique<ModelLockSpace::Node>(*locks_, number);
    nodes_.push_back(std::move(node));
  }
}

MountPair::~MountPair() {
  for (auto& node : nodes_) {
    // Whoever still waits in a mount gets an error when the front lets go of the kernel.
    if (node->mounted) umount2(node->folder.c_str(), MNT_DETACH);
    node->front.reset();
    node->filesystem.reset();
    rmdir(node->folder.c_str());
  }
}

Task<Result<>> MountPair::mount(Node& node) {
  CO_TRY(node.filesystem, co_await Filesystem::mount({.executor = loop_.executor(),
                                                      .device = *node.device,
                                                      .log = node.log,
                                                      .random_seed = random_.next(),
                                                      .in_additional_groups = {},
                                                      .lock_space = node.locks.get(),
                                                      .journal = JournalId(node.number),
                                                      .first_mounter = node.number == 0},
                                                     MountOptions{}));
  FileDescriptor channel(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!channel) co_return fail(errno, "/dev/fuse");
  const std::string options =
      fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", channel.get());
  node.front = std::make_unique<Front>(loop_, std::move(channel), *node.filesystem, FrontSettings{}, Logger(node.log));
  int error = 0;
  co_await helpers_.run([&error, options, folder = node.folder] {
    if (::mount("corral-test", folder.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) error = errno;
  });
  if (error != 0) co_return fail(error, "mount {}", node.folder);
  node.mounted = true;
  CO_TRY_VOID(node.front->start());
  co_return co_await node.front->ready();
}

Task<Result<>> MountPair::unmount(Node& node) {
  node.statistics = node.front->statistics();
  int error = 0;
  co_await helpers_.run([&error, folder = node.folder] {
    if (umount2(folder.c_str(), 0) != 0) error = errno;
  });
  if (error != 0) co_return fail(error, "umount {}", node.folder);
  node.mounted = false;
  co_await node.front->ended();
  CO_TRY_VOID(co_await node.filesystem->unmount());
  node.filesystem.reset();
  node.front->finish();
  node.front.reset();
  co_return Result<>{};
}

std::string MountPair::who_waits() const {
  std::string text;
  for (const auto& node : nodes_) {
    if (node->filesystem == nullptr) continue;
    for (const std::string& line : node->filesystem->glocks().waiting())
      text += fmt::format("node {}: {}\n", node->number, line);
    text += fmt::format("node {}: {}\n", node->number, node->front ? node->front->statistics() : "no front");
  }
  for (const std::string& line : locks_->waiting())
    text += "lock space: " + line + "\n";
  return text;
}

Task<std::string> MountPair::users_finished(Stage& users) {
  Signal ended(loop_.executor());
  std::size_t running = users.size();
  std::vector<std::unique_ptr<EventLoop::Watch>> watches;
  for (auto& user : users) {
    auto drain = [&ended, &running, &user, over = false]() mutable {
      if (!over && !user->read_output()) {
        over = true;
        --running;
        ended.notify_all();
      }
      return EventLoop::Drained::all;
    };
    watches.push_back(*loop_.watch_readable(user->output(), drain));
    user->begin();
  }
  const Time deadline = loop_.executor().now() + kPatience;
  while (running != 0 && loop_.executor().now() < deadline)
    static_cast<void>(co_await ended.wait_until(deadline));
  watches.clear();
  if (running != 0) co_return "somebody waits for ever:\n" + who_waits();
  std::string complaints;
  for (auto& user : users)
    complaints += user->complaint();
  co_return complaints;
}

Task<std::string> MountPair::play() {
  for (auto& node : nodes_)
    if (Result<> mounted = co_await mount(*node); !mounted) co_return mounted.error().describe();
  std::string complaints;
  for (Stage& stage : stages_) {
    complaints = co_await users_finished(stage);
    if (!complaints.empty()) co_return complaints;
  }
  for (auto& node : nodes_) {
    if (Result<> unmounted = co_await unmount(*node); !unmounted) complaints += unmounted.error().describe();
    for (const std::string& line : node->log.lines)
      if (line.find("error") != std::string::npos) complaints += fmt::format("node {} log: {}\n", node->number, line);
  }
  co_return complaints;
}

std::string MountPair::run() {
  std::string complaints = loop_.run_until_done(play());
  if (complaints.empty()) complaints = fsck_gfs2(disk_.contents());
  return complaints;
}

}  // namespace corral::test
