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
  std::span<const ReadSpan> read_spans;
  std::span<const WriteSpan> write_spans;
  SimulatedDisk::Operation operation;  ///< null for reads
  bool abandoned = false;
  Completion<Result<>> done;
};

/// Holds a request while it is performed. Where the device dies first, the operation's fate is drawn.
struct SimulatedDevice::InFlight {
  InFlight(SimulatedDevice& owner, std::shared_ptr<Request> what) : device(owner), request(std::move(what)) {}
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() {
    if (!ended && request->operation) device.disk_.fail(request->operation, device.contents_random_);
  }
  /// False where a power cut came first.
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
          .discard_latency = {.least = 100us, .most = 1ms}};
}

SimulatedDevice::SimulatedDevice(Executor& executor, SimulatedDisk& disk, std::uint64_t seed,
                                 SimulatedDeviceOptions options)
    : executor_(executor),
      disk_(disk),
      options_(std::move(options)),
      geometry_(disk.geometry()),
      latency_random_(Random(seed).split()),
      fault_random_(Random(seed + 1).split()),
      contents_random_(Random(seed + 2).split()),
      running_(executor) {
  geometry_.read_only |= options_.read_only;
}

SimulatedDevice::~SimulatedDevice() = default;

Task<Result<>> SimulatedDevice::read(std::uint64_t offset_bytes, std::span<const ReadSpan> spans) {
  CO_TRY(std::uint64_t length, check_read(*this, offset_bytes, spans));
  auto request = std::make_shared<Request>(executor_);
  request->kind = SimulatedFault::reads;
  request->verb = "read";
  request->offset_bytes = offset_bytes;
  request->length_bytes = length;
  request->latency = &options_.read_latency;
  request->read_spans = spans;
  ++counters_.reads;
  counters_.bytes_read += length;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::write(std::uint64_t offset_bytes, std::span<const WriteSpan> spans, WriteMode mode) {
  CO_TRY(std::uint64_t length, check_write(*this, offset_bytes, spans));
  auto request = std::make_shared<Request>(executor_);
  request->kind = SimulatedFault::writes;
  request->verb = "write";
  request->offset_bytes = offset_bytes;
  request->length_bytes = length;
  request->latency = &options_.write_latency;
  request->write_spans = spans;
  request->operation = disk_.begin_write(offset_bytes, gather(spans, length), mode);
  ++counters_.writes;
  counters_.bytes_written += length;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::flush() {
  auto request = std::make_shared<Request>(executor_);
  request->kind = SimulatedFault::flushes;
  request->verb = "flush";
  request->latency = &options_.flush_latency;
  request->operation = disk_.begin_flush();
  ++counters_.flushes;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::discard(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  CO_TRY_VOID(check_discard(*this, offset_bytes, length_bytes));
  auto request = std::make_shared<Request>(executor_);
  request->kind = SimulatedFault::discards;
  request->verb = "discard";
  request->offset_bytes = offset_bytes;
  request->length_bytes = length_bytes;
  request->latency = &options_.discard_latency;
  request->operation = disk_.begin_discard(offset_bytes, length_bytes);
  ++counters_.discards;
  co_return co_await submit(std::move(request));
}

Task<Result<>> SimulatedDevice::submit(std::shared_ptr<Request> request) {
  struct Caller {
    std::shared_ptr<Request> request;
    ~Caller() { request->abandoned = true; }
  };
  Caller caller{request};
  running_.spawn(perform(std::move(request)));
  co_return co_await caller.request->done.wait();
}

Task<void> SimulatedDevice::perform(std::shared_ptr<Request> request) {
  InFlight in_flight(*this, request);
  std::shared_ptr<ActiveFault> active = draw_fault(*request);
  Duration latency = draw_latency(*request->latency);
  if (latency > Duration::zero()) co_await executor_.sleep_for(latency);
  bool failing = active && active->fault.effect == SimulatedFault::Effect::error;
  if (active && !failing) co_await active->removed.wait();

  if (request->operation && !request->abandoned)
    CHECK_INVARIANT(same_bytes(request->write_spans, request->operation->data));
  bool powered = in_flight.end(!failing);
  if (failing) {
    request->done.set(fail_device(active->fault.code, "{}: {} of {} bytes at offset {} failed: {}", options_.name,
                                  request->verb, request->length_bytes, request->offset_bytes,
                                  std::strerror(active->fault.code)));
  } else if (!powered) {
    request->done.set(fail_device(EIO, "{}: {} of {} bytes at offset {} failed: the storage lost power", options_.name,
                                  request->verb, request->length_bytes, request->offset_bytes));
  } else {
    if (!request->operation && !request->abandoned) read_now(*request);
    request->done.set({});
  }
}

void SimulatedDevice::read_now(Request& request) {
  std::uint64_t position = request.offset_bytes;
  for (ReadSpan span : request.read_spans) {
    disk_.read(position, span, contents_random_);
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
        request.kind == SimulatedFault::flushes ||
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

Duration SimulatedDevice::draw_latency(const SimulatedLatency& latency) {
  if (latency.most <= Duration::zero()) return Duration::zero();
  auto spread = static_cast<std::uint64_t>((latency.most - latency.least).count());
  Duration drawn = latency.least + Duration(static_cast<Duration::rep>(latency_random_.below(spread + 1)));
  if (latency.slow_per_million > 0 && latency_random_.chance(latency.slow_per_million, 1'000'000))
    drawn += latency.slow;
  return drawn;
}

}  // namespace corral
