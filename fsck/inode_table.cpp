#include "fsck/inode_table.h"

#include <algorithm>

#include <dirent.h>

namespace corral::fsck {

namespace {
template <class Record>
Record* find_record(std::vector<Record>& records, BlockNo address) {
  auto found = std::ranges::lower_bound(records, address.value, {}, &Record::address);
  return found != records.end() && found->address == address.value ? &*found : nullptr;
}
}  // namespace

void InodeTable::add(InodeRecord inode) {
  if (!inodes_.empty() && inodes_.back().address > inode.address) sorted_ = false;
  inodes_.push_back(inode);
}

void InodeTable::add(DirectoryRecord directory) {
  if (!directories_.empty() && directories_.back().address > directory.address) sorted_ = false;
  directories_.push_back(directory);
}

void InodeTable::sort() {
  if (sorted_) return;
  std::ranges::sort(inodes_, {}, &InodeRecord::address);
  std::ranges::sort(directories_, {}, &DirectoryRecord::address);
  sorted_ = true;
}

InodeRecord* InodeTable::find(BlockNo address) {
  sort();
  InodeRecord* record = find_record(inodes_, address);
  return record != nullptr && record->is(InodeRecord::kGone) ? nullptr : record;
}

DirectoryRecord* InodeTable::find_directory(BlockNo address) {
  sort();
  return find_record(directories_, address);
}

bool InodeTable::is_nameless(const InodeRecord& inode) {
  if (inode.is(InodeRecord::kGone)) return false;
  return inode.type == DT_DIR ? find_directory(inode.number())->parent == 0 : inode.names == 0;
}

}  // namespace corral::fsck
