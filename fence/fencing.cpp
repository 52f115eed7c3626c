#include "fence/fencing.h"

#include <cstring>

#include "base/random.h"
#include "fence/agent_fencer.h"
#include "fence/life_fencer.h"
#include "fence/manual_fencer.h"
#include "fence/reservation_fencer.h"

namespace corral {

using cluster::FencePolicy;

namespace {
using Chosen = std::unique_ptr<cluster::Fencer>;

std::uint64_t bits_of(FencingWay way) {
  switch (way) {
    case FencingWay::reservations:
      break;
    case FencingWay::life_locks:
      return cluster::kWayHighBit;
    case FencingWay::agent:
      return cluster::kWayLowBit;
    case FencingWay::manual:
      return cluster::kWayHighBit | cluster::kWayLowBit;
  }
  return 0;
}

Task<Result<Chosen>> reservation_fencer(FencingParts parts, cluster::Uuid cluster) {
  Device& device = parts.area.device();
  if (Reservations* reservations = device.reservations()) {
    auto can = co_await reservations->report_capabilities();
    if (can && can->write_exclusive_registrants_only)
      co_return Chosen(std::make_unique<ReservationFencer>(parts.executor, *reservations, *can, &parts.writes, cluster,
                                                           std::move(parts.log)));
    if (!can && can.error().code() != EOPNOTSUPP) co_return std::unexpected(can.error());
  }
  co_return fail(EOPNOTSUPP,
                 "{}: a node that died or hangs could not be kept from writing to this disk: it has no persistent "
                 "reservations of type \"write exclusive, registrants only\", and it is no image file on a local "
                 "filesystem; use a disk that has them, let a fence agent turn hosts off (corral config set {} fence "
                 "agent:NAME), do it by hand (corral config set {} fence manual), or mount it on one node only "
                 "(-o lockproto=lock_nolock)",
                 device.name(), device.name(), device.name());
}
}  // namespace

std::uint64_t fencing_key(const cluster::Uuid& cluster, Member member, FencingWay way) {
  std::uint64_t mixed = member.incarnation.value;
  for (std::size_t at = 0; at < cluster.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t part = 0;
    std::memcpy(&part, cluster.data() + at, sizeof(part));
    mixed = Random(mixed ^ part).next();
  }
  mixed &= ~(cluster::kWayHighBit | 0xFF);
  return mixed | bits_of(way) | (member.node.value + 1);
}

Task<Result<Chosen>> choose_fencer(FencingParts parts, cluster::Header header) {
  if (LifeLocks* locks = parts.area.device().life_locks())
    co_return Chosen(std::make_unique<LifeFencer>(*locks, header.cluster));
  switch (header.settings.fence) {
    case FencePolicy::scsi_pr:
      break;
    case FencePolicy::agent: {
      CO_TRY(std::string program, co_await find_fence_agent(parts.programs, header.settings.fence_agent));
      co_return Chosen(std::make_unique<AgentFencer>(std::move(parts), std::move(header), std::move(program)));
    }
    case FencePolicy::manual:
      co_return Chosen(std::make_unique<ManualFencer>(std::move(parts), header.cluster));
  }
  co_return co_await reservation_fencer(std::move(parts), header.cluster);
}

}  // namespace corral
