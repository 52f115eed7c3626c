#include "node/cluster_mount.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include "cluster/address.h"
#include "offline/journals.h"

namespace corral {

using cluster::Address;
using cluster::address_of;
using cluster::ClusterArea;
using cluster::Header;
using cluster::NodeOptions;
using cluster::TlsLinks;

namespace {
Result<std::string> name_of_host() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0)
    return fail(errno, "cannot get this host's name: {}; give one with -o node=", std::strerror(errno));
  return std::string(name.data());
}

Task<Result<std::uint32_t>> count_journals(const VolumeReader& volume) {
  CO_TRY(std::vector<OfflineJournal> journals, co_await find_journals(volume));
  co_return static_cast<std::uint32_t>(journals.size());
}

Result<NodeOptions> options_of(const NodeSettings& settings, std::uint32_t journals, std::uint16_t port,
                               Incarnation incarnation) {
  NodeOptions options{.name = settings.name, .port = port, .journals = journals, .incarnation = incarnation};
  if (options.name.empty()) {
    TRY(options.name, name_of_host());
  }
  if (!cluster::is_valid_node_name(options.name))
    return fail(EINVAL, "\"{}\" is no name for a node: 1 to 64 printable ASCII characters without spaces (-o node=)",
                options.name);
  if (settings.addresses.empty()) {
    TRY(options.addresses, addresses_of_host());
  } else {
    TRY(options.addresses, parse_addresses(settings.addresses));
  }
  return options;
}
}  // namespace

Result<std::vector<Address>> addresses_of_host() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return fail(errno, "cannot list this host's addresses: {}", std::strerror(errno));
  std::vector<Address> four;
  std::vector<Address> six;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0 || (one->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (one->ifa_addr->sa_family == AF_INET) {
      four.push_back(address_of(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr));
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
      if (!IN6_IS_ADDR_LINKLOCAL(&address)) six.push_back(address_of(address));
    }
  }
  freeifaddrs(list);
  four.insert(four.end(), six.begin(), six.end());
  four.resize(std::min(four.size(), cluster::kMostAddresses));
  if (four.empty()) four.push_back(address_of(in6_addr(IN6ADDR_LOOPBACK_INIT)));
  return four;
}

Result<std::vector<Address>> parse_addresses(const std::vector<std::string>& texts) {
  std::vector<Address> addresses;
  for (const std::string& text : texts) {
    in_addr four{};
    in6_addr six{};
    if (inet_pton(AF_INET, text.c_str(), &four) == 1) {
      addresses.push_back(address_of(four));
    } else if (inet_pton(AF_INET6, text.c_str(), &six) == 1) {
      addresses.push_back(address_of(six));
    } else {
      return fail(EINVAL, "\"{}\" is no IPv4 or IPv6 address", text);
    }
  }
  if (addresses.size() > cluster::kMostAddresses)
    return fail(EINVAL, "a node has at most {} addresses", cluster::kMostAddresses);
  return addresses;
}

Task<Result<std::unique_ptr<ClusterMount>>> ClusterMount::prepare(EventLoop& loop, NodeDevices& devices,
                                                                  NodeSettings settings, LogSink& log,
                                                                  std::uint64_t random_seed) {
  Device& device = devices.area;
  CO_TRY(VolumeReader volume, co_await VolumeReader::open(device));
  auto area = co_await ClusterArea::find(volume);
  if (!area && area.error().code() == ENOENT)
    co_return fail(ENOENT,
                   "{}: the volume has no cluster area; with no node having it mounted, run \"corral adopt {}\"",
                   device.name(), device.name());
  if (!area) co_return std::unexpected(area.error());
  CO_TRY(Header header, co_await area->read_header());
  CO_TRY(const std::uint32_t journals, co_await count_journals(volume));
  Random random(random_seed);
  std::unique_ptr<ClusterMount> mount(new ClusterMount);
  Logger logger(log);
  const std::uint16_t port = settings.port != 0 ? settings.port : header.settings.port;
  CO_TRY(NodeOptions options,
         options_of(settings, journals, port, cluster::new_incarnation(loop.clock().wall(), random)));
  if (std::ranges::find(header.expelled, options.name) != header.expelled.end())
    co_return std::unexpected(cluster::expelled(options.name).within(device.name()));
  mount->programs_ = std::make_unique<SpawnedPrograms>(loop);
  CO_TRY(mount->fencer_,
         co_await choose_fencer({loop.executor(), *area, devices.writes, *mount->programs_, options.name, logger},
                                header));
  CO_TRY(mount->links_,
         TlsLinks::listen(loop, {.cluster = header.cluster, .secret = header.secret, .port = port}, logger));
  mount->node_ = std::make_unique<ClusterNode>(
      ClusterNode::Environment{loop.executor(), devices.volume, devices.writes, *mount->links_, *mount->fencer_, log},
      *area, header, options, random);
  co_return std::move(mount);
}

}  // namespace corral
