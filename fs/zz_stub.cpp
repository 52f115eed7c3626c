#include "fs/file_data.h"
namespace corral {
struct FileData::Impl {};
FileData::FileData(Volume&, Allocator&, MetadataTree&, std::uint64_t) {}
FileData::~FileData() = default;
Task<Result<std::size_t>> FileData::read(const LockedInode&, std::uint64_t, std::span<std::byte>) { co_return 0; }
Task<Result<std::size_t>> FileData::write(const LockedInode&, std::uint64_t, std::span<const std::byte> d, WriteOptions) { co_return d.size(); }
Task<Result<>> FileData::truncate(const LockedInode&, std::uint64_t) { co_return Result<>{}; }
Task<Result<>> FileData::resume_truncate(const LockedInode&) { co_return Result<>{}; }
Task<Result<>> FileData::allocate(const LockedInode&, int, std::uint64_t, std::uint64_t) { co_return Result<>{}; }
Task<Result<std::uint64_t>> FileData::seek(const LockedInode&, std::uint64_t, bool) { co_return 0; }
Task<Result<>> FileData::write_back(Inode&) { co_return Result<>{}; }
Task<Result<>> FileData::write_back_all() { co_return Result<>{}; }
Task<void> FileData::discard(Inode&) { co_return; }
Task<Result<>> FileData::free_contents(const LockedInode&) { co_return Result<>{}; }
Task<Result<>> FileData::set_journaled_data(const LockedInode&, bool) { co_return Result<>{}; }
}
