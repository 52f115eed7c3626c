/// How corral's help looks: on a screen of 24 lines and 80 columns.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace corral {

/// The program's own help is a line for each command and says where the rest is; a command's is CLI11's, with lines
/// that are broken at 80 columns.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_subcommand(const CLI::App* command) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
};

}  // namespace corral
