#include "disk/simulated_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "disk/transfer_check.h"

namespace corral {

using namespace std::chrono_literals;

/// One operation. It goes on where its caller's frame is destroyed, but then no longer touches the caller's memory.
struct SimulatedDevice::Request {
  explicit Request(Executor& executor) : done(executor) {}

  SimulatedFault::Operations kind = SimulatedFault::reads;
  const char* verb = "";
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  const SimulatedLatency* latency = nullptr;
  std::uint64_t losses = 0;  ///< of the nexus, when it was sent
  std::span<const ReadSpan> read_spans;
  std::span<const WriteSpan> write_spans;
  std::vector<std::byte> data;
  WriteMode mode = WriteMode::cached;
  SimulatedDisk::Operation operation;  ///< null for reads, and before the arrival
  bool abandoned = false;
  Completion<Result<>> done;
};

/// Holds a request from its sending to its end. Where the device dies first, the operation's fate is drawn; what is
/// still on its way arrives at that moment, if the reservations let it.
struct SimulatedDevice::InFlight {
  InFlight(SimulatedDevice& owner, std::shared_ptr<Request> what) : device(owner), request(std::move(what)) {}
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() {
    if (ended) return;
    bool arrives =
        !request->operation && device.accepts(*request) && device.disk_.losses(device.nexus_) == request->losses;
    if (arrives) device.begin(*request);
    if (request->operation) device.disk_.fail(request->operation, device.contents_random_);
  }
  /// False where a power cut or an abort came first.
  bool end(bool succeeded) {
    ended = true;
    if (!request->operation) return true;
    return succeeded ? device.disk_.end(request->operation, device.contents_random_)
                     : device.disk_.fail(request->operation, device.contents_random_);
  }

  SimulatedDevice& device;
  std::shared_ptr<Request> request;
  bool ended = false;
};

namespace {
std::vector<std::byte> gather(std::span<const WriteSpan> spans, std::uint64_t length_bytes) {
  std::vector<std::byte> data;
  data.reserve(length_bytes);
  for (const WriteSpan& span : spans)
    data.insert(data.end(), span.begin(), span.end());
  return data;
}

bool same_bytes(std::span<const WriteSpan> spans, const std::vector<std::byte>& data) {
  std::size_t position = 0;
  for (const WriteSpan& span : spans) {
    if (!span.empty() && std::memcmp(span.data(), data.data() + position, span.size()) != 0) return false;
    position += span.size();
  }
  return true;
}
}  // namespace

SimulatedDeviceOptions SimulatedDeviceOptions::realistic() {
  return {.read_latency = {.least = 60us, .most = 120us, .slow_per_million = 1000, .slow = 5ms},
          .write_latency = {.least = 20us, .most = 80us, .slow_per_million = 1000, .slow = 10ms},
          .flush_latency = {.least = 300us, .most = 1500us, .slow_per_million = 5000, .slow = 30ms},
          .discard_latency = {.least = 100us, .most = 1ms},
          .reservation_latency = {.least = 200us, .most = 2ms, .slow_per_million = 5000, .slow = 50ms}};
}

SimulatedDevice::SimulatedDevice(Executor& executor, SimulatedDisk& disk, std::uint64_t seed,
                                 SimulatedDeviceOptions options, Executor* node)
    : executor_(executor),
      node_executor_(node != nullptr ? *node : executor),
      disk_(disk),
      options_(std::move(options)),
      geometry_(disk.geometry()),
      latency_random_(Random(seed).split()),
      fault_random_(Random(seed + 1).split()),
      contents_random_(Random(seed + 2).split()),
      travel_random_(Random(seed + 3).split()),
      nexus_(disk.reservations().add_nexus()),
      reservations_(*this, nexus_),
      running_(executor) {
  geometry_.read_only |= options_.read_only;
}

SimulatedDevice::~SimulatedDevice() = default;

std::shared_ptr<SimulatedDevice::Request> SimulatedDevice::make_request(SimulatedFault::Operations kind,
                                                                        const char* verb,
                                                                        const SimulatedLatency& latency) {
  auto request = std::make_shared<Request>(node_executor_);
  request->kind = kind;
  request->verb = verb;
  request->latency = &latency;
  request->losses = disk_.losses(nexus_);
  return request;
}

Task<Result<>> SimulatedDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  CO_TRY(std::uint64_t length, check_read(*this, offset_bytes, spans));
  auto request = make_request(SimulatedFault::reads, "read", options_.read_latency);
  request->offset_bytes = offset_bytes;
  request->length_bytes = length;
  request->read_spans = spans;
  ++counters_.reads;
  counters_.bytes_read += length;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  CO_TRY(std::uint64_t length, check_write(*this, offset_bytes, spans));
  auto request = make_request(SimulatedFault::writes, "write", options_.write_latency);
  request->offset_bytes = offset_bytes;
  request->length_bytes = length;
  request->write_spans = spans;
  request->data = gather(spans, length);
  request->mode = mode;
  ++counters_.writes;
  counters_.bytes_written += length;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::flush() {
  auto request = make_request(SimulatedFault::flushes, "flush", options_.flush_latency);
  ++counters_.flushes;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  CO_TRY_VOID(check_discard(*this, offset_bytes, length_bytes));
  auto request = make_request(SimulatedFault::discards, "discard", options_.discard_latency);
  request->offset_bytes = offset_bytes;
  request->length_bytes = length_bytes;
  ++counters_.discards;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::submit(std::shared_ptr<Request> request) {
  struct Caller {
    std::shared_ptr<Request> request;
    Counters& counters;
    ~Caller() {
      request->abandoned = true;
      const bool transfers = !request->read_spans.empty() || !request->write_spans.empty();
      if (transfers && !request->done.is_set()) ++counters.abandoned;
    }
  };
  Caller caller{request, counters_};
  running_.spawn(perform(std::move(request)));
  co_return co_await caller.request->done.wait();
}

bool SimulatedDevice::accepts(const Request& request) {
  return request.kind == SimulatedFault::reads || disk_.reservations().may_write(nexus_);
}

void SimulatedDevice::begin(Request& request) {
  if (request.kind == SimulatedFault::writes)
    request.operation = disk_.begin_write(request.offset_bytes, request.data, request.mode, nexus_);
  if (request.kind == SimulatedFault::flushes) request.operation = disk_.begin_flush(nexus_);
  if (request.kind == SimulatedFault::discards)
    request.operation = disk_.begin_discard(request.offset_bytes, request.length_bytes, nexus_);
}

std::unexpected<Error> SimulatedDevice::failure(const Request& request, int code, const char* why) const {
  return fail_device(code, "{}: {} of {} bytes at offset {} failed: {}", options_.name, request.verb,
                     request.length_bytes, request.offset_bytes, why);
}

Task<void> SimulatedDevice::perform(std::shared_ptr<Request> request) {
  std::shared_ptr<ActiveFault> active = draw_fault(*request);
  std::optional<Result<>> result;
  while (!result) {
    result = co_await attempt(request, active);
    request->operation.reset();
  }
  request->done.set(*std::move(result));
}

/// Sends the request once; nothing where the disk aborted it.
Task<std::optional<Result<>>> SimulatedDevice::attempt(std::shared_ptr<Request> request,
                                                       std::shared_ptr<ActiveFault> active) {
  using Effect = SimulatedFault::Effect;
  InFlight in_flight(*this, request);
  Duration latency = draw_latency(*request->latency);
  Duration travel = draw_travel(latency);
  if (travel > Duration::zero()) co_await executor_.sleep_for(travel);
  if (active && active->fault.effect == Effect::stuck) co_await active->removed.wait();

  bool powered = disk_.losses(nexus_) == request->losses;
  if (powered) disk_.reservations().take_attention(nexus_);
  if (!powered || !accepts(*request)) {
    in_flight.ended = true;
    co_return powered ? failure(*request, EBADE, "reservation conflict")
                      : failure(*request, EIO, "the storage lost power");
  }
  begin(*request);
  if (latency > travel) co_await executor_.sleep_for(latency - travel);
  if (active && active->fault.effect == Effect::lingering) co_await active->removed.wait();

  if (request->kind == SimulatedFault::writes && !request->abandoned)
    CHECK_INVARIANT(same_bytes(request->write_spans, request->data));
  bool failing = active && active->fault.effect == Effect::error;
  bool ended = in_flight.end(!failing);
  if (failing) co_return failure(*request, active->fault.code, std::strerror(active->fault.code));
  if (!ended && request->operation->aborted) co_return std::nullopt;
  if (!ended) co_return failure(*request, EIO, "the storage lost power");
  if (request->kind == SimulatedFault::reads && !request->abandoned) read_now(*request);
  co_return Result<>{};
}

Task<Result<>> SimulatedDevice::change_reservations(const char* verb, ReservationCommand command) {
  co_return co_await send_command(verb, std::move(command), true);
}

Task<Result<>> SimulatedDevice::ask_reservations(const char* verb, ReservationCommand command) {
  co_return co_await send_command(verb, std::move(command), false);
}

/// Where the node dies before the command arrives, or an error ends it, it may be executed none the less.
struct SimulatedDevice::Travelling {
  SimulatedDevice& device;
  ReservationCommand command;
  bool changes;
  std::uint64_t losses;
  bool arrived = false;

  Travelling(SimulatedDevice& owner, ReservationCommand what, bool changing)
      : device(owner), command(std::move(what)), changes(changing), losses(owner.disk_.losses(owner.nexus_)) {}
  Travelling(const Travelling&) = delete;
  Travelling& operator=(const Travelling&) = delete;
  ~Travelling() {
    if (!changes || arrived || device.disk_.losses(device.nexus_) != losses || !device.fault_random_.chance(1, 2))
      return;
    [[maybe_unused]] Result<> unheard = command(device.disk_);
    device.disk_.tell_reservations_changed(device.nexus_);
  }
};

Task<Result<>> SimulatedDevice::send_command(const char* verb, ReservationCommand command, bool changes) {
  const auto done = std::make_shared<Completion<Result<>>>(node_executor_);
  running_.spawn(carry_command(verb, std::move(command), changes, done));
  co_return co_await done->wait();
}

Task<void> SimulatedDevice::carry_command(const char* verb, ReservationCommand command, bool changes,
                                          CommandDone done) {
  done->set(co_await execute_command(verb, std::make_shared<Travelling>(*this, std::move(command), changes)));
}

Task<Result<>> SimulatedDevice::execute_command(const char* verb, std::shared_ptr<Travelling> travelling) {
  auto request = make_request(SimulatedFault::reservations, verb, options_.reservation_latency);
  std::shared_ptr<ActiveFault> active = draw_fault(*request);
  Duration latency = draw_latency(*request->latency);
  Duration travel = draw_travel(latency);
  if (travel > Duration::zero()) co_await executor_.sleep_for(travel);
  if (active && active->fault.effect != SimulatedFault::Effect::error) co_await active->removed.wait();
  if (disk_.losses(nexus_) != request->losses)
    co_return fail_device(ECONNABORTED, "{}: the storage lost power during {}", options_.name, verb);
  if (active && active->fault.effect == SimulatedFault::Effect::error) {
    co_return fail_device(active->fault.code, "{}: {} failed: {}", options_.name, verb,
                          std::strerror(active->fault.code));
  }
  travelling->arrived = true;
  Result<> answer = travelling->command(disk_);
  if (travelling->changes) disk_.tell_reservations_changed(nexus_);
  if (latency > travel) co_await executor_.sleep_for(latency - travel);
  co_return answer;
}

void SimulatedDevice::read_now(Request& request) {
  std::uint64_t position = request.offset_bytes;
  for (ReadSpan span : request.read_spans) {
    disk_.read(position, span, contents_random_, nexus_);
    position += span.size();
  }
}

std::uint64_t SimulatedDevice::add_fault(SimulatedFault fault) {
  faults_.push_back(std::make_shared<ActiveFault>(executor_, fault, next_fault_));
  return next_fault_++;
}

void SimulatedDevice::remove_fault(std::uint64_t number) {
  auto active = std::ranges::find(faults_, number, [](const auto& entry) { return entry->number; });
  CHECK_INVARIANT(active != faults_.end());
  (*active)->removed.set();
  faults_.erase(active);
}

std::shared_ptr<SimulatedDevice::ActiveFault> SimulatedDevice::draw_fault(const Request& request) {
  for (const std::shared_ptr<ActiveFault>& active : faults_) {
    SimulatedFault& fault = active->fault;
    if ((fault.operations & request.kind) == 0 || fault.times == 0) continue;
    bool touches =
        request.kind == SimulatedFault::flushes || request.kind == SimulatedFault::reservations ||
        (request.offset_bytes < fault.end_bytes && request.offset_bytes + request.length_bytes > fault.begin_bytes);
    if (!touches || !fault_random_.chance(fault.per_million, 1'000'000)) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    --fault.times;
    return active;
  }
  return nullptr;
}

/// How much of it passes before the arrival.
Duration SimulatedDevice::draw_travel(Duration latency) {
  return Duration(static_cast<Duration::rep>(travel_random_.below(static_cast<std::uint64_t>(latency.count()) + 1)));
}

Duration SimulatedDevice::draw_latency(const SimulatedLatency& latency) {
  if (latency.most <= Duration::zero()) return Duration::zero();
  auto spread = static_cast<std::uint64_t>((latency.most - latency.least).count());
  Duration drawn = latency.least + Duration(static_cast<Duration::rep>(latency_random_.below(spread + 1)));
  if (latency.slow_per_million > 0 && latency_random_.chance(latency.slow_per_million, 1'000'000))
    drawn += latency.slow;
  return drawn;
}

}  // namespace corral
