#include "disk/iscsi_name.h"

#include <array>
#include <cctype>
#include <climits>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_descriptor.h"
#include "base/parse_number.h"

namespace corral {

namespace {
constexpr std::string_view kScheme = "iscsi://";
constexpr std::string_view kSyntax = "iscsi://[user%secret-file@]host[:port]/target-name/lun[?option=value&...]";
/// RFC 7143 4.2.7.1; also libiscsi's limit for any text.
constexpr std::size_t kLongestName = 223;

std::unexpected<Error> wrong(std::string_view text, const std::string& why) {
  return fail(EINVAL, "{}: {}; the form is {}", text, why, kSyntax);
}

std::optional<std::uint32_t> number_in(std::string_view text, std::uint32_t least, std::uint32_t most) {
  const auto number = parse_number<std::uint32_t>(text);
  return number && *number >= least && *number <= most ? number : std::nullopt;
}

/// Takes what stands before the separator off the text; all of it where there is none.
std::string_view take_until(std::string_view& text, char separator) {
  std::size_t at = text.find(separator);
  std::string_view taken = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return taken;
}

/// RFC 7143 4.2.7: type and rest, no spaces; libiscsi and targets take it as it is.
bool is_iscsi_name(std::string_view name) {
  if (name.size() < 5 || name.size() > kLongestName) return false;
  if (!name.starts_with("iqn.") && !name.starts_with("eui.") && !name.starts_with("naa.")) return false;
  for (char c : name)
    if (std::isgraph(static_cast<unsigned char>(c)) == 0 || c == '/' || c == '?' || c == '@') return false;
  return true;
}

Result<> set_option(IscsiName& name, std::string_view text, std::string_view option) {
  std::string_view value = option;
  std::string_view key = take_until(value, '=');
  if (key == "initiator") {
    if (!is_iscsi_name(value))
      return wrong(text, fmt::format("\"{}\" is no iSCSI name (iqn.YYYY-MM.domain:id)", value));
    name.initiator = value;
    return {};
  }
  if (key != "timeout" && key != "recovery") return wrong(text, fmt::format("unknown option \"{}\"", key));
  constexpr std::uint32_t kMostSeconds = 3600;
  auto seconds = number_in(value, 1, kMostSeconds);
  if (!seconds) return wrong(text, fmt::format("{}=\"{}\" is no number from 1 to {}", key, value, kMostSeconds));
  (key == "timeout" ? name.timeout : name.recovery) = std::chrono::seconds(*seconds);
  return {};
}

Result<> set_portal(IscsiName& name, std::string_view text, std::string_view portal) {
  std::string_view host = portal, port;
  if (portal.starts_with('[')) {
    std::size_t close = portal.find(']');
    if (close == std::string_view::npos) return wrong(text, "the ] after the address is missing");
    host = portal.substr(1, close - 1);
    port = portal.substr(close + 1);
  } else if (std::size_t colon = portal.find(':'); colon != std::string_view::npos) {
    host = portal.substr(0, colon);
    port = portal.substr(colon);
  }
  if (host.empty() || host.size() > kLongestName) return wrong(text, "the host is missing or too long");
  name.host = host;
  if (port.empty()) return {};
  auto number = number_in(port.substr(1), 1, 65535);
  if (port[0] != ':' || !number) return wrong(text, fmt::format("\"{}\" is no port", port));
  name.port = static_cast<std::uint16_t>(*number);
  return {};
}
}  // namespace

bool IscsiName::is_one(std::string_view text) {
  return text.starts_with(kScheme);
}

Result<IscsiName> IscsiName::parse(std::string_view text) {
  if (!is_one(text)) return wrong(text, "not an iSCSI name");
  IscsiName name;
  std::string_view rest = text.substr(kScheme.size());
  std::string_view options = rest;
  rest = take_until(options, '?');
  // The path of a secret file may hold anything but what ends it: the last @.
  if (std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    std::string_view file = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    name.user = take_until(file, '%');
    name.secret_file = file;
    if (name.user.empty() || name.user.size() > kLongestName)
      return wrong(text, "the CHAP user is missing or too long");
    if (name.secret_file.empty()) return wrong(text, "the file of the CHAP secret is missing");
  }
  TRY_VOID(set_portal(name, text, take_until(rest, '/')));
  name.target = take_until(rest, '/');
  if (!is_iscsi_name(name.target)) return wrong(text, fmt::format("\"{}\" is no target name", name.target));
  auto lun = number_in(rest, 0, kMostLun);
  if (!lun) return wrong(text, fmt::format("\"{}\" is no LUN from 0 to {}", rest, kMostLun));
  name.lun = *lun;
  while (!options.empty())
    TRY_VOID(set_option(name, text, take_until(options, '&')));
  return name;
}

std::string IscsiName::portal() const {
  bool numeric6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", numeric6 ? "[" : "", host, numeric6 ? "]" : "", port);
}

Result<std::string> initiator_name(const IscsiName& name) {
  if (!name.initiator.empty()) return name.initiator;
  std::array<char, HOST_NAME_MAX + 1> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) return fail(errno, "this host has no name: {}", strerror(errno));
  std::string made = "iqn.2026-11.corral.host:";
  for (const char* c = host.data(); *c != 0; ++c) {
    auto character = static_cast<unsigned char>(*c);
    bool allowed = std::isalnum(character) != 0 || *c == '-' || *c == '.';
    made.push_back(allowed ? static_cast<char>(std::tolower(character)) : '-');
  }
  return made;
}

Result<std::string> read_secret(const std::string& file) {
  FileDescriptor descriptor(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor) return fail(errno, "cannot open the CHAP secret {}: {}", file, strerror(errno));
  struct stat status{};
  if (fstat(descriptor.get(), &status) != 0) return fail(errno, "{}: {}", file, strerror(errno));
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return fail(EACCES, "the CHAP secret {} is open to others: chmod 600 it", file);
  std::array<char, 256> text{};
  ssize_t length = read(descriptor.get(), text.data(), text.size());
  if (length < 0) return fail(errno, "{}: {}", file, strerror(errno));
  std::string secret(text.data(), static_cast<std::size_t>(length));
  secret.erase(secret.find_last_not_of("\r\n") + 1);
  if (secret.empty() || secret.size() > kLongestName || secret.find('\0') != std::string::npos)
    return fail(EINVAL, "{} holds no usable CHAP secret: one line of 1 to {} characters", file, kLongestName);
  return secret;
}

}  // namespace corral
