#include "fence/manual_fencer.h"

#include "fence/acknowledgement.h"

namespace corral {

Task<Result<>> ManualFencer::fence(Member victim) {
  CO_TRY(const SeenLife seen, co_await look_at_life(parts_, victim));
  if (seen.ended) co_return Result<>{};
  const std::string& device = parts_.area.device().name();
  if (seen.name.empty())
    co_return fail(EINPROGRESS,
                   "waiting for an operator, but its slot does not say its name any more: turn its host off, unmount "
                   "everywhere, and give fsck.corral -y {}",
                   device);
  co_return fail(EINPROGRESS,
                 "waiting for an operator: make sure that node {0} is off, or cut off from the disk, and then say so: "
                 "corral fence ack {1} {0}",
                 seen.name, device);
}

}  // namespace corral
