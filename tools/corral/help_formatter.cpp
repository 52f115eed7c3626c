#include "tools/corral/help_formatter.h"

#include <sstream>

#include <fmt/format.h>

namespace corral {

namespace {

constexpr std::size_t kScreenColumns = 80;
constexpr std::size_t kNameColumns = 12;
constexpr std::size_t kOptionColumns = 24;

/// "  name   words", the words broken into lines that begin below each other.
std::string entry(const std::string& name, const std::string& words, std::size_t columns) {
  std::string text = fmt::format("  {:<{}}", name, columns - 2);
  std::size_t used = text.size();
  // A long name has a line for itself.
  if (text.back() != ' ') {
    text += fmt::format("\n{:{}}", "", columns);
    used = columns;
  }
  std::istringstream stream(words);
  bool first = true;
  for (std::string word; stream >> word; first = false) {
    if (!first && used + 1 + word.size() > kScreenColumns) {
      text += fmt::format("\n{:{}}", "", columns);
      used = columns;
      first = true;
    }
    text += (first ? "" : " ") + word;
    used += word.size() + (first ? 0 : 1);
  }
  while (text.back() == ' ')
    text.pop_back();
  return text + "\n";
}

}  // namespace

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  if (app->get_parent() != nullptr) return Formatter::make_help(app, std::move(name), mode);
  std::string text = "Usage: corral COMMAND --help; corral --version. More: man corral-COMMAND\nSubcommands:\n";
  for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; }))
    text += entry(command->get_name(), command->get_description(), kNameColumns);
  return text;
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return entry(command->get_name(), command->get_description(), kNameColumns);
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  return entry(make_option_name(option, is_positional) + make_option_opts(option), make_option_desc(option),
               kOptionColumns);
}

}  // namespace corral
