#include "base/process_start.h"

#include <csignal>
#include <cstring>

#include <spawn.h>
#include <unistd.h>

namespace corral {

namespace {
/// As the C library wants them; the texts outlive what is returned.
std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts)
    pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}
}  // namespace

Result<pid_t> start_process(const std::string& path, const ProcessStart& how) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, how.input, STDIN_FILENO);
  if (how.output) {
    posix_spawn_file_actions_adddup2(&actions, *how.output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, *how.output, STDERR_FILENO);
  }
  posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigfillset(&signals);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int group = how.own_group ? POSIX_SPAWN_SETPGROUP : 0;
  posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | group));
  std::vector<char*> arguments = pointers_to(how.arguments);
  arguments.insert(arguments.begin(), const_cast<char*>(path.c_str()));
  std::vector<char*> environment;
  if (how.environment) environment = pointers_to(*how.environment);
  pid_t child = 0;
  const int error = posix_spawn(&child, path.c_str(), &actions, &attributes, arguments.data(),
                                how.environment ? environment.data() : environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail(error, "{}: {}", path, std::strerror(error));
  return child;
}

}  // namespace corral
