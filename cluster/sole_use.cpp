#include "cluster/sole_use.h"

#include "disk/open_device.h"
#include "offline/volume_reader.h"

namespace corral::cluster {

Task<Result<>> check_sole_use(Executor& executor, Device& device, SoleUse use) {
  auto volume = co_await VolumeReader::open(device);
  if (!volume) co_return Result<>{};
  auto area = co_await ClusterArea::find(*volume);
  if (!area) co_return Result<>{};
  const Result<> alone = co_await check_no_node_lives(executor, *area, use);
  if (!alone && alone.error().code() == EBUSY) co_return alone;
  co_return Result<>{};
}

Task<Result<std::unique_ptr<StorageDevice>>> open_for_sole_use(EventLoop& loop, std::string name,
                                                               StorageOptions options) {
  StorageOptions to_look = options;
  to_look.read_only = true;
  to_look.exclusive = false;
  CO_TRY(auto looked_at, co_await open_device(loop, name, to_look));
  const Result<> alone =
      co_await check_sole_use(loop.executor(), *looked_at, options.read_only ? SoleUse::reading : SoleUse::writing);
  co_await looked_at->close();
  if (!alone) co_return std::unexpected(alone.error());
  co_return co_await open_device(loop, name, options);
}

}  // namespace corral::cluster
