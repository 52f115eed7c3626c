// Every command of corral: its help, its man page, its completions.
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "test/support/catch.h"
#include "test/support/command.h"

using namespace corral::test;

namespace {

const std::string kCorral = std::string(CORRAL_TOOLS_FOLDER) + "/corral";
const std::string kSource = CORRAL_SOURCE_FOLDER;
constexpr std::size_t kScreenLines = 24;
constexpr std::size_t kScreenColumns = 80;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  return lines;
}

/// The commands that the help of `command` lists.
std::vector<std::string> commands_of(const std::string& command) {
  const CommandResult help = run_command(command + " --help");
  INFO(command << ": " << help.output);
  REQUIRE(help.exit_code == 0);
  std::vector<std::string> commands;
  bool inside = false;
  for (const std::string& line : lines_of(help.output)) {
    const bool heading = !line.empty() && line.front() != ' ';
    if (heading) inside = line == "Subcommands:" || line == "SUBCOMMANDS:";
    if (!inside || heading || line.size() < 3 || line[2] == ' ') continue;
    commands.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  return commands;
}

/// Each command as it is given: "corral df", "corral dump inode", ...
std::vector<std::string> all_commands() {
  std::vector<std::string> all;
  for (const std::string& command : commands_of(kCorral)) {
    all.push_back(kCorral + " " + command);
    for (const std::string& part : commands_of(all.back()))
      all.push_back(kCorral + " " + command + " " + part);
  }
  return all;
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("every command has a man page, which corral(8) names") {
  const std::vector<std::string> commands = commands_of(kCorral);
  CHECK(commands.size() >= 14);
  const std::string overview = contents_of(kSource + "/docs/man/corral.8");
  for (const std::string& command : commands) {
    INFO(command);
    const std::string page = contents_of(fmt::format("{}/docs/man/corral-{}.8", kSource, command));
    CHECK(page.find(fmt::format(".Nm corral-{}", command)) != std::string::npos);
    CHECK(page.find(".Sh EXIT STATUS") != std::string::npos);
    CHECK(overview.find(fmt::format("corral-{} 8", command)) != std::string::npos);
    for (const std::string& part : commands_of(kCorral + " " + command)) {
      INFO(part);
      CHECK(page.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("every option that a command's help names stands in its man page") {
  for (const std::string& command : commands_of(kCorral)) {
    const std::string page = contents_of(fmt::format("{}/docs/man/corral-{}.8", kSource, command));
    std::vector<std::string> helps{kCorral + " " + command};
    for (const std::string& part : commands_of(helps.front()))
      helps.push_back(helps.front() + " " + part);
    for (const std::string& given : helps) {
      for (const std::string& line : lines_of(run_command(given + " --help").output)) {
        const std::size_t at = line.find("--");
        if (at == std::string::npos || line.find_first_not_of(' ') == 0 || line.starts_with("Usage")) continue;
        const std::string option = line.substr(at + 2, line.find_first_of(" ,", at) - at - 2);
        if (option == "help") continue;
        INFO(given << ": --" << option);
        CHECK(page.find("-" + option) != std::string::npos);
      }
    }
  }
}

TEST_CASE("the help of every command fits a screen") {
  std::vector<std::string> commands = all_commands();
  commands.push_back(kCorral);
  for (const std::string& command : commands) {
    const CommandResult help = run_command(command + " --help");
    INFO(command << "\n" << help.output);
    CHECK(help.exit_code == 0);
    const std::vector<std::string> lines = lines_of(help.output);
    CHECK(lines.size() <= kScreenLines);
    for (const std::string& line : lines)
      CHECK(line.size() <= kScreenColumns);
  }
}

TEST_CASE("every command says its version, and 2 for what it does not understand") {
  for (const std::string program : {"corral", "mkfs.corral", "mount.corral", "fsck.corral"}) {
    const CommandResult version = run_command(fmt::format("{}/{} --version", CORRAL_TOOLS_FOLDER, program));
    CHECK(version.exit_code == 0);
    CHECK(version.output.starts_with(program + " "));
  }
  for (const std::string& command : all_commands()) {
    INFO(command);
    CHECK(run_command(command + " --no-such-option").exit_code == 2);
  }
}

TEST_CASE("bash completes every command, and every option of it") {
  const std::string script = kSource + "/tools/package/completions/corral.bash";
  const auto complete = [&](const std::string& words, const std::string& word) {
    // The words on the line so far, the last of which is to be completed.
    return run_command(
               fmt::format("bash -c 'PATH={}:$PATH; compopt() {{ :; }}; . {}; COMP_WORDS=({} \"{}\"); "
                           "COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _corral; printf \"%s\\n\" \"${{COMPREPLY[@]}}\"'",
                           CORRAL_TOOLS_FOLDER, script, words, word))
        .output;
  };
  const auto offers = [](const std::string& offered, const std::string& word) {
    return ("\n" + offered).find("\n" + word + "\n") != std::string::npos;
  };
  for (const std::string& command : commands_of(kCorral)) {
    INFO(command);
    CHECK(offers(complete("corral", command.substr(0, 1)), command));
    CHECK(offers(complete("corral " + command, "--"), "--help"));
    for (const std::string& part : commands_of(kCorral + " " + command))
      CHECK(offers(complete("corral " + command, part.substr(0, 1)), part));
  }
}

TEST_CASE("zsh completes every command") {
  if (run_command("command -v zsh").exit_code != 0) {
    WARN("zsh is not installed: its completion takes the commands from the help, as bash's does");
    return;
  }
  const std::string script = kSource + "/tools/package/completions/_corral";
  // The builtins of the completion system, as far as the function uses them.
  const std::string offered =
      run_command(fmt::format("zsh -c 'PATH={}:$PATH; compadd() {{ shift; print -l ${{(P)1}} }}; _files() {{ : }}; "
                              "words=(corral \"\"); CURRENT=2; f() {{ . {} }}; f'",
                              CORRAL_TOOLS_FOLDER, script))
          .output;
  for (const std::string& command : commands_of(kCorral)) {
    INFO(command << " in " << offered);
    CHECK(("\n" + offered).find("\n" + command + "\n") != std::string::npos);
  }
}
