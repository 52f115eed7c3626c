#include "disk/disk_image.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file_descriptor.h"

namespace corral {

namespace {
/// Calls `visit(page number, offset within the page, offset within the range, length)` for each page of a range.
template <class Visit>
void for_each_page(std::uint64_t offset, std::uint64_t length, std::uint64_t page_bytes, const Visit& visit) {
  for (std::uint64_t done = 0; done < length;) {
    std::uint64_t within = (offset + done) % page_bytes;
    std::uint64_t part = std::min(page_bytes - within, length - done);
    visit((offset + done) / page_bytes, within, done, part);
    done += part;
  }
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

Result<> read_all(int file, std::uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    ssize_t count = pread(file, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(errno);
    if (count == 0) return fail(EIO, "ends early, at offset {}", offset);
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

Result<> write_all(int file, std::uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    ssize_t count = pwrite(file, from.data(), from.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(errno);
    offset += static_cast<std::uint64_t>(count);
    from = from.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

/// Copies what the file holds between its holes into the image.
Result<> load_contents(int file, DiskImage& image) {
  std::vector<std::byte> buffer(1 << 20);
  off_t size = static_cast<off_t>(image.size_bytes());
  for (off_t position = 0; position < size;) {
    off_t data = lseek(file, position, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};
    if (data < 0) return fail(errno);
    off_t hole = lseek(file, data, SEEK_HOLE);
    if (hole < 0) return fail(errno);
    hole = std::min(hole, size);
    for (position = data; position < hole;) {
      std::size_t part = std::min(buffer.size(), static_cast<std::size_t>(hole - position));
      std::span<std::byte> bytes(buffer.data(), part);
      TRY_VOID(read_all(file, static_cast<std::uint64_t>(position), bytes));
      image.write(static_cast<std::uint64_t>(position), bytes);
      position += static_cast<off_t>(part);
    }
  }
  return {};
}
}  // namespace

Result<DiskImage> DiskImage::load(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!file || fstat(file.get(), &status) != 0) return fail(errno, "{}: {}", path, std::strerror(errno));
  DiskImage image(static_cast<std::uint64_t>(status.st_size));
  if (auto loaded = load_contents(file.get(), image); !loaded) return std::unexpected(loaded.error().within(path));
  return image;
}

Result<> DiskImage::save(const std::string& path) const {
  FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file || ftruncate(file.get(), static_cast<off_t>(size_bytes_)) != 0)
    return fail(errno, "{}: {}", path, std::strerror(errno));
  for (const auto& [number, region] : regions_) {
    for (std::uint64_t i = 0; i < kPagesPerRegion; ++i) {
      if (!(*region)[i]) continue;
      std::uint64_t offset = number * kRegionBytes + i * kPageBytes;
      auto bytes = std::span<const std::byte>(*(*region)[i]).first(std::min(kPageBytes, size_bytes_ - offset));
      if (auto written = write_all(file.get(), offset, bytes); !written)
        return std::unexpected(written.error().within(path));
    }
  }
  return {};
}

std::uint64_t DiskImage::stored_bytes() const {
  std::uint64_t pages = 0;
  for (const auto& [number, region] : regions_)
    pages +=
        static_cast<std::uint64_t>(std::ranges::count_if(*region, [](const auto& page) { return page != nullptr; }));
  return pages * kPageBytes;
}

const DiskImage::Page* DiskImage::find_page(std::uint64_t page_number) const {
  auto region = regions_.find(page_number / kPagesPerRegion);
  return region == regions_.end() ? nullptr : (*region->second)[page_number % kPagesPerRegion].get();
}

std::shared_ptr<DiskImage::Page>& DiskImage::own_slot(std::uint64_t page_number) {
  std::shared_ptr<Region>& region = regions_[page_number / kPagesPerRegion];
  if (!region) {
    region = std::make_shared<Region>();
  } else if (region.use_count() > 1) {
    region = std::make_shared<Region>(*region);
  }
  return (*region)[page_number % kPagesPerRegion];
}

DiskImage::Page& DiskImage::own_page(std::uint64_t page_number) {
  std::shared_ptr<Page>& page = own_slot(page_number);
  if (!page) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void DiskImage::check_range(std::uint64_t offset_bytes, std::uint64_t length_bytes) const {
  CHECK_INVARIANT(offset_bytes <= size_bytes_ && length_bytes <= size_bytes_ - offset_bytes);
}

void DiskImage::read(std::uint64_t offset_bytes, std::span<std::byte> into) const {
  check_range(offset_bytes, into.size());
  for_each_page(offset_bytes, into.size(), kPageBytes, [&](auto number, auto within, auto done, auto part) {
    const Page* page = find_page(number);
    if (page != nullptr) {
      std::memcpy(into.data() + done, page->data() + within, part);
    } else {
      std::memset(into.data() + done, 0, part);
    }
  });
}

void DiskImage::write(std::uint64_t offset_bytes, std::span<const std::byte> from) {
  check_range(offset_bytes, from.size());
  for_each_page(offset_bytes, from.size(), kPageBytes, [&](auto number, auto within, auto done, auto part) {
    auto bytes = from.subspan(done, part);
    if (find_page(number) == nullptr && all_zero(bytes)) return;
    std::ranges::copy(bytes, own_page(number).begin() + static_cast<std::ptrdiff_t>(within));
  });
}

void DiskImage::fill(std::uint64_t offset_bytes, std::uint64_t length_bytes, std::byte value) {
  check_range(offset_bytes, length_bytes);
  if (value == std::byte{0}) return clear(offset_bytes, length_bytes);
  for_each_page(offset_bytes, length_bytes, kPageBytes, [&](auto number, auto within, auto, auto part) {
    std::memset(own_page(number).data() + within, static_cast<int>(value), part);
  });
}

/// Visits only what is stored: the range may be many terabytes.
void DiskImage::clear(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  std::uint64_t end = offset_bytes + length_bytes;
  for (auto region = regions_.lower_bound(offset_bytes / kRegionBytes); region != regions_.end();) {
    std::uint64_t from = std::max(offset_bytes, region->first * kRegionBytes);
    std::uint64_t to = std::min(end, (region->first + 1) * kRegionBytes);
    if (from >= to) return;
    if (to - from == kRegionBytes) {
      region = regions_.erase(region);
      continue;
    }
    for_each_page(from, to - from, kPageBytes, [&](auto number, auto within, auto, auto part) {
      if (find_page(number) == nullptr) return;
      if (part == kPageBytes) return own_slot(number).reset();
      std::memset(own_page(number).data() + within, 0, part);
    });
    ++region;
  }
}

bool DiskImage::operator==(const DiskImage& other) const {
  if (size_bytes_ != other.size_bytes_) return false;
  static const Page kZero{};
  auto covers = [](const DiskImage& a, const DiskImage& b) {
    for (const auto& [number, region] : a.regions_) {
      for (std::uint64_t i = 0; i < kPagesPerRegion; ++i) {
        const Page* mine = (*region)[i].get();
        const Page* theirs = b.find_page(number * kPagesPerRegion + i);
        if (mine == theirs) continue;
        if ((mine != nullptr ? *mine : kZero) != (theirs != nullptr ? *theirs : kZero)) return false;
      }
    }
    return true;
  };
  return covers(*this, other) && covers(other, *this);
}

}  // namespace corral
