#include <array>
#include <fstream>
#include <vector>

#include <sys/stat.h>

#include "disk/open_device.h"
#include "test/iscsi/bench.h"

using namespace corral;
using namespace corral::test;

namespace {
std::vector<char> image_bytes(const std::string& path, std::uint64_t offset, std::size_t length) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes(length);
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(bytes.data(), static_cast<std::streamsize>(length));
  REQUIRE(file.gcount() == static_cast<std::streamsize>(length));
  return bytes;
}

Error error_of(EventLoop& loop, const std::string& url) {
  auto opened = loop.run_until_done(open_device(loop, url));
  REQUIRE_FALSE(opened.has_value());
  return opened.error();
}

Task<void> write_and_verify(Device& device, std::uint64_t offset, std::size_t bytes, int& verified) {
  AlignedBuffer out = random_bytes(bytes, offset);
  auto written = co_await device.write(offset, out.span(), WriteMode::cached);
  AlignedBuffer in(bytes);
  if (written) written = co_await device.read(offset, in.span());
  if (written && equal(in, out)) ++verified;
}

Task<void> join(Scope& scope) {
  co_await scope.join();
}
}  // namespace

TEST_CASE("a LUN tells its geometry") {
  NEED_TGT();
  TgtTarget target({.size_bytes = 48 << 20, .thin = true});
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  const DeviceGeometry& geometry = device->geometry();
  REQUIRE(geometry.size_bytes == 48 << 20);
  REQUIRE(geometry.sector_bytes == 512);
  REQUIRE(geometry.physical_sector_bytes >= 512);
  REQUIRE(geometry.volatile_write_cache);
  REQUIRE(geometry.discard_granularity_bytes >= 512);
  REQUIRE_FALSE(geometry.read_only);
  REQUIRE(device->name() == target.url());
  loop.run_until_done(device->close());
  AlignedBuffer buffer(4096);
  REQUIRE(code_of(loop, device->read(0, buffer.span())) == ESHUTDOWN);
}

TEST_CASE("what is written to a LUN lies in its image and is read back, at every size") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  std::uint64_t offset = 0;
  // Around the limits of immediate data (8 KiB with tgt), the first burst (256 KiB) and one command (1 MiB).
  for (std::size_t bytes : {512u, 4096u, 7680u, 8192u, 8704u, 65536u, 101376u, 258048u, 262144u, 262656u, 300032u,
                            524288u, 1048576u, 1049088u, 5242880u}) {
    INFO("a write of " << bytes << " bytes");
    WriteMode mode = bytes % 1024 == 0 ? WriteMode::cached : WriteMode::write_through;
    AlignedBuffer out = random_bytes(bytes, bytes);
    must(loop, device->write(offset, out.span(), mode));
    auto stored = image_bytes(target.image(), offset, bytes);
    REQUIRE(std::memcmp(stored.data(), out.data(), bytes) == 0);
    AlignedBuffer in(bytes);
    must(loop, device->read(offset, in.span()));
    REQUIRE(equal(in, out));
    offset += bytes;
  }
  must(loop, device->flush());
}

TEST_CASE("a transfer may be scattered over many spans") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  constexpr std::size_t kSpans = 1500;
  AlignedBuffer out = random_bytes(kSpans * 1024, 5);
  AlignedBuffer in(out.size());
  std::vector<WriteSpan> sources;
  std::vector<ReadSpan> sinks;
  for (std::size_t i = 0; i < kSpans; ++i) {
    sources.push_back(std::as_const(out).span().subspan((kSpans - 1 - i) * 1024, 1024));
    sinks.push_back(in.span().subspan((kSpans - 1 - i) * 1024, 1024));
  }
  must(loop, device->write(512, sources, WriteMode::cached));
  must(loop, device->read(512, sinks));
  REQUIRE(equal(in, out));
}

TEST_CASE("many commands of all sizes go on at once") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  int verified = 0;
  Scope scope(loop.executor());
  constexpr int kWorkers = 200;
  for (int i = 0; i < kWorkers; ++i) {
    std::size_t bytes = 4096u << (i % 7);
    scope.spawn(write_and_verify(*device, static_cast<std::uint64_t>(i) * 262144, bytes, verified));
  }
  loop.run_until_done(join(scope));
  REQUIRE(verified == kWorkers);
}

TEST_CASE("a thin LUN discards, another says that it cannot") {
  NEED_TGT();
  EventLoop loop;
  TgtTarget thin({.size_bytes = 64 << 20, .thin = true});
  auto device = open_lun(loop, thin.url());
  AlignedBuffer out = random_bytes(1 << 20, 3);
  must(loop, device->write(0, out.span(), WriteMode::cached));
  must(loop, device->flush());
  must(loop, device->discard(0, 1 << 20));
  struct stat status{};
  REQUIRE(stat(thin.image().c_str(), &status) == 0);
  REQUIRE(status.st_blocks * 512 < 1 << 20);

  TgtTarget thick;
  auto other = open_lun(loop, thick.url());
  REQUIRE(other->geometry().discard_granularity_bytes == 0);
  REQUIRE(code_of(loop, other->discard(0, 1 << 20)) == EOPNOTSUPP);
}

TEST_CASE("transfers beyond the end or to a read-only LUN are refused") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = open_lun(loop, target.url());
  AlignedBuffer buffer(4096);
  REQUIRE(code_of(loop, device->read(64 << 20, buffer.span())) == EINVAL);
  REQUIRE(code_of(loop, device->write(64 << 20, buffer.span(), WriteMode::cached)) == ENOSPC);
  auto reader = must(loop, IscsiDevice::open(loop, target.url(), {.read_only = true, .exclusive = false}));
  REQUIRE(code_of(loop, reader->write(0, buffer.span(), WriteMode::cached)) == EROFS);
  must(loop, reader->read(0, buffer.span()));
}

TEST_CASE("why a LUN cannot be opened is told in words that help") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  Error refused = error_of(loop, target.url({}, free_port()));
  REQUIRE(refused.code() == ECONNREFUSED);
  REQUIRE(mentions(refused, "refused"));
  Error unknown = error_of(loop, fmt::format("iscsi://127.0.0.1:{}/iqn.2026-11.corral.test:other/1", target.port()));
  REQUIRE(unknown.code() == ENOENT);
  REQUIRE(mentions(unknown, "iqn.2026-11.corral.test:other"));
  Error no_lun = error_of(loop, target.url({}, 0, 7));
  REQUIRE(no_lun.code() == ENXIO);
  REQUIRE(mentions(no_lun, "no LUN 7"));
  // LUN 0 of tgt is its controller.
  REQUIRE(error_of(loop, target.url({}, 0, 0)).code() == ENOTBLK);
  REQUIRE(error_of(loop, "iscsi://host.invalid/iqn.2026-11.corral.test:disk/1").code() == EHOSTUNREACH);
  REQUIRE(error_of(loop, "iscsi://127.0.0.1/nonsense/1").code() == EINVAL);
}

TEST_CASE("a LUN is used by one program of a host at a time") {
  NEED_TGT();
  TgtTarget target;
  EventLoop loop;
  auto device = must(loop, open_device(loop, target.url()));
  Error busy = error_of(loop, target.url());
  REQUIRE(busy.code() == EBUSY);
  REQUIRE(mentions(busy, "in use"));
  loop.run_until_done(device->close());
  device.reset();
  must(loop, open_device(loop, target.url()));
}

TEST_CASE("CHAP with a secret from a file") {
  NEED_TGT();
  TgtTarget target({.user = "corral", .secret = "correct-horse-1"});
  EventLoop loop;
  TemporaryFile secret;
  auto with_secret = [&](const std::string& text) {
    std::ofstream(secret.path()) << text << "\n";
    chmod(secret.path().c_str(), 0600);
    std::string plain = target.url();
    return "iscsi://corral%" + secret.path() + "@" + plain.substr(8);
  };
  must(loop, open_device(loop, with_secret("correct-horse-1")));
  Error wrong = error_of(loop, with_secret("battery-staple-2"));
  REQUIRE(wrong.code() == EACCES);
  REQUIRE(mentions(wrong, "CHAP"));
  REQUIRE(error_of(loop, target.url()).code() == EACCES);
  std::string url = with_secret("correct-horse-1");
  chmod(secret.path().c_str(), 0644);
  Error open_to_all = error_of(loop, url);
  REQUIRE(open_to_all.code() == EACCES);
  REQUIRE(mentions(open_to_all, "chmod 600"));
}
