#include "fence/fencing.h"

#include <cstring>

#include "base/random.h"
#include "fence/life_fencer.h"
#include "fence/reservation_fencer.h"

namespace corral {

std::uint64_t fencing_key(const cluster::Uuid& cluster, Member member, FencingWay way) {
  std::uint64_t mixed = member.incarnation.value;
  for (std::size_t at = 0; at < cluster.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t part = 0;
    std::memcpy(&part, cluster.data() + at, sizeof(part));
    mixed = Random(mixed ^ part).next();
  }
  constexpr std::uint64_t kWay = std::uint64_t{1} << 63;
  mixed &= ~(kWay | 0xFF);
  return mixed | (way == FencingWay::life_locks ? kWay : 0) | (member.node.value + 1);
}

Task<Result<std::unique_ptr<cluster::Fencer>>> choose_fencer(Executor& executor, Device& device, WriteGate& writes,
                                                             cluster::Uuid cluster, Logger log) {
  using Chosen = std::unique_ptr<cluster::Fencer>;
  if (Reservations* reservations = device.reservations()) {
    auto can = co_await reservations->report_capabilities();
    if (can && can->write_exclusive_registrants_only)
      co_return Chosen(
          std::make_unique<ReservationFencer>(executor, *reservations, *can, &writes, cluster, std::move(log)));
    if (!can && can.error().code() != EOPNOTSUPP) co_return std::unexpected(can.error());
  }
  if (LifeLocks* locks = device.life_locks()) co_return Chosen(std::make_unique<LifeFencer>(*locks, cluster));
  co_return fail(EOPNOTSUPP,
                 "{}: a node that died or hangs could not be kept from writing to this disk: it has no persistent "
                 "reservations of type \"write exclusive, registrants only\", and it is no image file on a local "
                 "filesystem; mount it on one node only (-o lockproto=lock_nolock), or use a disk that has them",
                 device.name());
}

}  // namespace corral
