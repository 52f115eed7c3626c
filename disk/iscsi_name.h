/// The name of a disk behind iSCSI, as users write it wherever a device's path could stand:
///
///     iscsi://[user%secret-file@]host[:port]/target-name/lun[?option=value[&option=value...]]
///
/// secret-file is the path of a file that holds the CHAP secret and that nobody but its owner may read. An IPv6 address
/// stands in brackets. Options: initiator=NAME (iSCSI name of this node), timeout=SECONDS (a command that takes longer
/// is given up together with its connection), recovery=SECONDS (how long to try to get a lost connection back before
/// operations fail).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace corral {

struct IscsiName {
  static constexpr std::uint16_t kDefaultPort = 3260;  ///< RFC 7143 section 13
  static constexpr std::uint32_t kMostLun = 255;       ///< libiscsi sends larger ones in a way targets do not know

  std::string user;         ///< empty: no CHAP
  std::string secret_file;  ///< set where user is
  std::string host;         ///< name or address, without brackets
  std::uint16_t port = kDefaultPort;
  std::string target;
  std::uint32_t lun = 0;
  std::string initiator;  ///< empty: derived from the host's name
  Duration timeout = std::chrono::seconds(30);
  Duration recovery = std::chrono::seconds(120);

  /// True if the text begins as such a name does: it is then no path.
  static bool is_one(std::string_view text);
  /// EINVAL, and what is wrong with it.
  static Result<IscsiName> parse(std::string_view text);
  /// "host:port", an IPv6 address in brackets.
  std::string portal() const;
};

/// iSCSI name of this node: as given, else from the host's name.
Result<std::string> initiator_name(const IscsiName& name);
/// The secret in the file. EACCES where others could read it, EINVAL where it is empty or too long for CHAP.
Result<std::string> read_secret(const std::string& file);

}  // namespace corral
