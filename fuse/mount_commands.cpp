#include "fuse/mount_commands.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

namespace corral {

using nlohmann::json;

namespace {

constexpr std::uint64_t kPatienceMs = 60'000;
constexpr std::uint64_t kLongestPatienceMs = 86'400'000;
constexpr std::uint64_t kEverything = std::numeric_limits<std::uint64_t>::max();

std::string command_of(const json& request) {
  const auto command = request.find("command");
  return command != request.end() && command->is_string() ? command->get<std::string>() : std::string();
}

/// A number of the request; none where it is not named.
Result<std::optional<std::uint64_t>> number_in(const json& request, const char* field) {
  const auto found = request.find(field);
  if (found == request.end()) return std::nullopt;
  const bool negative = found->is_number_integer() && !found->is_number_unsigned() && found->get<std::int64_t>() < 0;
  if (!found->is_number_integer() || negative)
    return fail(EINVAL, "\"{}\" must be a number that is not negative", field);
  return found->get<std::uint64_t>();
}

const char* name_of(QuotaKind kind) {
  return kind == QuotaKind::user ? "user" : "group";
}

Result<QuotaKind> quota_kind_in(const json& request) {
  for (const QuotaKind kind : {QuotaKind::user, QuotaKind::group})
    if (request.contains("kind") && request["kind"] == name_of(kind)) return kind;
  return fail(EINVAL, "\"kind\" must be \"user\" or \"group\"");
}

const char* name_of(QuotaMode mode) {
  switch (mode) {
    case QuotaMode::off:
      return "off";
    case QuotaMode::account:
      return "account";
    case QuotaMode::on:
      return "on";
  }
  return "";
}

}  // namespace

MountCommands::MountCommands(Filesystem& filesystem, std::string directory)
    : filesystem_(filesystem), directory_(std::move(directory)), gate_(filesystem.volume().executor) {}

bool MountCommands::knows(const json& request) {
  const std::string command = command_of(request);
  return command == "trim" || command == "quota-report" || command == "quota-set" || command == "grow" ||
         command == "freeze" || command == "thaw";
}

Task<Result<json>> MountCommands::run(json request, std::stop_token stop) {
  const std::optional<Gate::Pass> pass = gate_.enter();
  if (!pass) co_return fail(ECANCELED, "{}: the mount is ending", directory_);
  // Whoever goes first, the client or the mount.
  std::stop_source either;
  const auto end = [&either] { either.request_stop(); };
  const std::stop_callback client_gone(stop, end);
  const std::stop_callback mount_ends(ending_.get_token(), end);
  auto answer = co_await dispatch(request, either.get_token());
  if (!answer && ending_.stop_requested() && answer.error().code() == ECANCELED)
    co_return fail(ECANCELED, "{}: the mount is ending; the command was stopped", directory_);
  co_return answer;
}

Task<Result<json>> MountCommands::dispatch(const json& request, std::stop_token stop) {
  const std::string command = command_of(request);
  if (command == "trim") co_return co_await trim(request, std::move(stop));
  if (command == "quota-report") co_return co_await report_quotas();
  if (command == "quota-set") co_return co_await set_quota(request);
  if (command == "grow") co_return co_await grow(request, std::move(stop));
  if (command == "freeze") co_return co_await freeze(request, std::move(stop));
  if (command == "thaw") co_return co_await thaw();
  co_return fail(EINVAL, "unknown command");
}

Task<void> MountCommands::end() {
  ending_.request_stop();
  co_await gate_.close();
}

Task<Result<json>> MountCommands::trim(const json& request, std::stop_token stop) {
  CO_TRY(const auto start, number_in(request, "start"));
  CO_TRY(const auto length, number_in(request, "length"));
  CO_TRY(const auto minimum, number_in(request, "minimum"));
  CO_TRY(const std::uint64_t bytes,
         co_await filesystem_.allocator().trim(start.value_or(0), length.value_or(kEverything), minimum.value_or(0),
                                               std::move(stop)));
  co_return json{{"bytes_trimmed", bytes}};
}

Task<Result<json>> MountCommands::report_quotas() {
  CO_TRY(const std::vector<QuotaRecord> records, co_await filesystem_.allocator().quota_records());
  json list = json::array();
  for (const QuotaRecord& record : records)
    list.push_back({{"kind", name_of(record.kind)},
                    {"id", record.id},
                    {"used_blocks", record.figures.used},
                    {"limit_blocks", record.figures.limit},
                    {"warn_blocks", record.figures.warn}});
  co_return json{{"block_size", filesystem_.volume().geometry.block_size()},
                 {"quota", name_of(filesystem_.volume().options.quota)},
                 {"records", std::move(list)}};
}

Task<Result<json>> MountCommands::set_quota(const json& request) {
  CO_TRY(const QuotaKind kind, quota_kind_in(request));
  CO_TRY(const auto id, number_in(request, "id"));
  CO_TRY(auto limit, number_in(request, "limit"));
  CO_TRY(auto warn, number_in(request, "warn"));
  if (!id || *id > std::numeric_limits<std::uint32_t>::max())
    co_return fail(EINVAL, "\"id\" must be the number of a user or group");
  for (auto* bytes : {&limit, &warn})
    if (*bytes) *bytes = filesystem_.volume().geometry.blocks_for(**bytes);
  const auto number = static_cast<std::uint32_t>(*id);
  CO_TRY_VOID(co_await filesystem_.allocator().set_quota_limits(kind, number, limit, warn));
  CO_TRY(const QuotaFigures figures, co_await filesystem_.allocator().quota_of(kind, number));
  co_return json{{"limit_blocks", figures.limit}, {"warn_blocks", figures.warn}};
}

Task<Result<json>> MountCommands::grow(const json& request, std::stop_token stop) {
  const bool dry_run = request.contains("dry_run") && request["dry_run"] == true;
  CO_TRY(const VolumeGrowth growth, co_await filesystem_.allocator().grow(dry_run, std::move(stop)));
  co_return json{{"block_size", filesystem_.volume().geometry.block_size()},
                 {"groups", growth.groups},
                 {"blocks", growth.blocks},
                 {"total_blocks", growth.total_blocks},
                 {"spare_blocks", growth.spare_blocks}};
}

Task<Result<json>> MountCommands::freeze(const json& request, std::stop_token stop) {
  CO_TRY(const auto timeout_ms, number_in(request, "timeout_ms"));
  const std::chrono::milliseconds patience(std::min(timeout_ms.value_or(kPatienceMs), kLongestPatienceMs));
  const Result<> frozen = co_await filesystem_.freezer().freeze(patience, stop);
  if (!frozen && frozen.error().code() != EBUSY) co_return std::unexpected(frozen.error());
  if (!frozen) co_return json{{"changed", false}, {"message", frozen.error().message()}};
  if (!stop.stop_requested()) co_return json{{"changed", true}};
  // Nobody would know that it is frozen.
  CO_TRY_VOID(co_await filesystem_.freezer().thaw());
  co_return fail(ECANCELED, "{}: freezing was stopped", directory_);
}

Task<Result<json>> MountCommands::thaw() {
  const Result<> thawed = co_await filesystem_.freezer().thaw();
  if (!thawed && thawed.error().code() != EINVAL) co_return std::unexpected(thawed.error());
  if (!thawed) co_return json{{"changed", false}, {"message", thawed.error().message()}};
  co_return json{{"changed", true}};
}

}  // namespace corral
