/// One node's path to a SimulatedDisk: Device with latency, faults and operations that never come back, all drawn from
/// a seed, so that the same seed gives the same run.
///
/// It is stricter than a real device where the contract allows: operations complete out of order, a read beside a write
/// sees any mix of old and new sectors, and a write's memory that changes before its completion is a bug (checked).
///
/// Every device is an I_T nexus of its own to the disk's reservations. An operation travels for a part of its latency;
/// the reservations count at the moment when it arrives. From then on a PREEMPT no longer stops it, only an abort does;
/// what was aborted is sent again.
///
/// Destroying the device is the node's death: what was in flight lands wholly, in part or not at all. The frames that
/// wait on it are destroyed before it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/sync.h"
#include "disk/device.h"
#include "disk/simulated_disk.h"
#include "disk/simulated_reservations.h"

namespace corral {

/// How long operations take: uniform in [least, most], and a few of them `slow` more.
struct SimulatedLatency {
  Duration least = Duration::zero();
  Duration most = Duration::zero();
  std::uint32_t slow_per_million = 0;
  Duration slow = Duration::zero();
};

struct SimulatedDeviceOptions {
  std::string name = "simulated";
  bool read_only = false;
  /// With zero latency an operation completes without suspending its caller.
  SimulatedLatency read_latency{};
  SimulatedLatency write_latency{};
  SimulatedLatency flush_latency{};
  SimulatedLatency discard_latency{};
  SimulatedLatency reservation_latency{};

  /// Virtual microseconds as of a good SSD, now and then slow.
  static SimulatedDeviceOptions realistic();
};

/// Which operations to disturb, and how.
struct SimulatedFault {
  enum Operations : unsigned { reads = 1, writes = 2, flushes = 4, discards = 8, reservations = 16, everything = 31 };
  enum class Effect {
    error,      ///< ends with `code`; a write may have landed in part, a change of reservations been made
    stuck,      ///< does not arrive until the fault is removed, then goes on as if nothing had been
    lingering,  ///< arrives, and is not executed until the fault is removed
  };
  Effect effect = Effect::error;
  unsigned operations = everything;
  std::uint64_t begin_bytes = 0;  ///< only what touches [begin, end); flushes and reservations touch any range
  std::uint64_t end_bytes = std::numeric_limits<std::uint64_t>::max();
  std::uint32_t per_million = 1'000'000;
  std::uint64_t skip = 0;  ///< how many that match go unharmed first
  std::uint64_t times = std::numeric_limits<std::uint64_t>::max();
  int code = EIO;
};

class SimulatedDevice final : public Device {
 public:
  /// `node`: the executor of those who use the device, where that is not the disk's own: a node that is held up learns
  /// late how its operations ended, and they go on meanwhile.
  SimulatedDevice(Executor& executor, SimulatedDisk& disk, std::uint64_t seed, SimulatedDeviceOptions options = {},
                  Executor* node = nullptr);
  ~SimulatedDevice() override;

  const std::string& name() const override { return options_.name; }
  const DeviceGeometry& geometry() const override { return geometry_; }
  using Device::read;
  using Device::write;
  Task<Result<>> read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) override;
  Task<Result<>> write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) override;
  Task<Result<>> flush() override;
  Task<Result<>> discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  Reservations* reservations() override { return &reservations_; }
  NexusId nexus() const { return nexus_; }

  /// The faults are tried in the order of their adding; the first that strikes counts. The number names it for
  /// remove().
  std::uint64_t add_fault(SimulatedFault fault);
  void remove_fault(std::uint64_t number);

  /// Operations accepted so far, for tests that count them.
  struct Counters {
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
    std::uint64_t flushes = 0;
    std::uint64_t discards = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    /// Transfers whose waiting frame was destroyed before they had completed. A real device would have gone on with
    /// memory that is gone; right only where the whole node dies.
    std::uint64_t abandoned = 0;
  };
  const Counters& counters() const { return counters_; }
  /// Operations that have not ended, stuck ones included.
  std::size_t in_flight() const { return running_.running(); }

  /// For SimulatedReservations: a command on its way, which may outlive its caller. One that changes something may
  /// still be executed when the node dies meanwhile, as may one that a fault ends.
  using ReservationCommand = std::function<Result<>(SimulatedDisk&)>;
  Task<Result<>> change_reservations(const char* verb, ReservationCommand command);
  Task<Result<>> ask_reservations(const char* verb, ReservationCommand command);
  Random& contents_random() { return contents_random_; }

 private:
  struct Request;
  struct InFlight;
  struct ActiveFault {
    explicit ActiveFault(Executor& executor, SimulatedFault what, std::uint64_t id)
        : fault(what), number(id), removed(executor) {}
    SimulatedFault fault;
    std::uint64_t number;
    Event removed;
  };

  struct Travelling;
  using CommandDone = std::shared_ptr<Completion<Result<>>>;
  Task<Result<>> send_command(const char* verb, ReservationCommand command, bool changes);
  Task<void> carry_command(const char* verb, ReservationCommand command, bool changes, CommandDone done);
  Task<Result<>> execute_command(const char* verb, std::shared_ptr<Travelling> travelling);
  Task<Result<>> submit(std::shared_ptr<Request> request);
  Task<void> perform(std::shared_ptr<Request> request);
  Task<std::optional<Result<>>> attempt(std::shared_ptr<Request> request, std::shared_ptr<ActiveFault> active);
  bool accepts(const Request& request);
  void begin(Request& request);
  std::unexpected<Error> failure(const Request& request, int code, const char* why) const;
  std::shared_ptr<Request> make_request(SimulatedFault::Operations kind, const char* verb,
                                        const SimulatedLatency& latency);
  Duration draw_travel(Duration latency);
  void read_now(Request& request);
  std::shared_ptr<ActiveFault> draw_fault(const Request& request);
  Duration draw_latency(const SimulatedLatency& latency);

  Executor& executor_;
  Executor& node_executor_;
  SimulatedDisk& disk_;
  SimulatedDeviceOptions options_;
  DeviceGeometry geometry_;
  Random latency_random_;
  Random fault_random_;
  Random contents_random_;
  Random travel_random_;
  NexusId nexus_;
  SimulatedReservations reservations_;
  std::vector<std::shared_ptr<ActiveFault>> faults_;
  std::uint64_t next_fault_ = 0;
  Counters counters_;
  Scope running_;
};

}  // namespace corral
