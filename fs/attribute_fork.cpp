#include "fs/attribute_fork.h"

#include <algorithm>
#include <cstring>

#include "ondisk/validate.h"

namespace corral {

using namespace ondisk;

namespace {
template <MetaType kType>
Result<> check_type(std::span<const std::byte> bytes, BlockNo address, const Geometry&) {
  return check_meta_header(bytes, address, kType);
}
}  // namespace

Error AttributeFork::within_inode(const Error& error) const {
  return error.within(fmt::format("attributes of inode {}", inode_->address().value));
}

Task<Result<AttributeFork>> AttributeFork::read(Volume& volume, std::uint32_t fs_format, const LockedInode& inode) {
  AttributeFork fork(volume, fs_format, inode);
  const BlockNo address(inode.dinode().eattr);
  if (!address) co_return fork;
  if ((inode.dinode().flags & kDinodeEaIndirect) != 0) {
    CO_TRY_VOID(co_await fork.read_indirect(address));
  } else {
    CO_TRY(BlockRef block, co_await fork.read_one(address, inode.address(), check_type<MetaType::ea_block>));
    fork.blocks_.push_back(std::move(block));
  }
  co_return fork;
}

Task<Result<>> AttributeFork::read_indirect(BlockNo address) {
  CO_TRY(indirect_, co_await read_one(address, inode_->address(), check_type<MetaType::indirect>));
  std::vector<BlockNo> numbers;
  for (be64 pointer : pointers(indirect_->bytes(), sizeof(MetaHeader))) {
    // The list ends at the first null pointer.
    if (pointer == 0) break;
    numbers.emplace_back(pointer);
  }
  volume_->cache.read_ahead(inode_->owner(), numbers, check_type<MetaType::ea_block>);
  for (BlockNo number : numbers) {
    CO_TRY(BlockRef block, co_await read_one(number, address, check_type<MetaType::ea_block>));
    blocks_.push_back(std::move(block));
  }
  co_return Result<>{};
}

Task<Result<BlockRef>> AttributeFork::read_one(BlockNo address, BlockNo holder, BlockCheck check) const {
  const std::uint64_t volume_blocks = volume_->device.geometry().size_bytes >> volume_->geometry.block_shift();
  Result<> good = check_pointer(address, holder, "attribute block", volume_->geometry, volume_blocks);
  if (!good) co_return std::unexpected(within_inode(good.error()));
  Result<BlockRef> block = co_await volume_->cache.read(inode_->owner(), address, check);
  if (!block) co_return std::unexpected(within_inode(block.error()));
  co_return block;
}

Result<std::vector<StoredAttribute>> AttributeFork::attributes_in(std::size_t block) const {
  auto attributes = read_attributes(blocks_[block]->bytes(), blocks_[block]->number(), fs_format_);
  if (!attributes) return std::unexpected(within_inode(attributes.error()));
  return attributes;
}

Result<std::size_t> AttributeFork::bytes_in(std::size_t block) const {
  auto bytes = attribute_bytes(blocks_[block]->bytes(), blocks_[block]->number(), fs_format_);
  if (!bytes) return std::unexpected(within_inode(bytes.error()));
  return bytes;
}

Result<std::optional<FoundAttribute>> AttributeFork::find(AttributeName name) const {
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    TRY(std::vector<StoredAttribute> attributes, attributes_in(block));
    for (std::size_t place = 0; place < attributes.size(); ++place) {
      if (attributes[place].type == name.type && attributes[place].name == name.name)
        return FoundAttribute{block, place, std::move(attributes[place])};
    }
  }
  return std::nullopt;
}

Task<Result<std::vector<BlockRef>>> AttributeFork::value_blocks(const FoundAttribute& found) const {
  std::vector<BlockRef> blocks;
  const BlockNo holder = blocks_[found.block]->number();
  volume_->cache.read_ahead(inode_->owner(), found.attribute.blocks, check_type<MetaType::ea_data>);
  for (BlockNo number : found.attribute.blocks) {
    CO_TRY(BlockRef block, co_await read_one(number, holder, check_type<MetaType::ea_data>));
    blocks.push_back(std::move(block));
  }
  co_return blocks;
}

Task<Result<std::vector<std::byte>>> AttributeFork::value(const FoundAttribute& found) const {
  if (found.attribute.blocks.empty()) co_return found.attribute.value;
  CO_TRY(std::vector<BlockRef> blocks, co_await value_blocks(found));
  std::vector<std::byte> value;
  value.reserve(found.attribute.value_bytes);
  for (const BlockRef& block : blocks) {
    std::span<const std::byte> part = block->bytes().subspan(sizeof(MetaHeader));
    part = part.first(std::min(part.size(), found.attribute.value_bytes - value.size()));
    value.insert(value.end(), part.begin(), part.end());
  }
  co_return value;
}

Task<Result<>> AttributeUpdate::put(AttributeName name, std::span<const std::byte> value,
                                    std::optional<FoundAttribute> old) {
  const ValuePlacement placement = ValuePlacement::choose(volume_.geometry, name.name.size(), value.size());
  // Only with blocks of 512 bytes can the pointers to a value fill more than a block.
  if (placement.record_bytes > attribute_room_bytes(volume_.geometry)) co_return fail(ERANGE);
  old_ = std::move(old);
  value_ = value;
  StoredAttribute added{.type = name.type,
                        .name = std::string(name.name),
                        .value_bytes = static_cast<std::uint32_t>(value.size()),
                        .value = {},
                        .blocks = {}};
  if (placement.blocks == 0) added.value.assign(value.begin(), value.end());
  std::size_t kept = 0;
  if (old_) {
    kept = std::min<std::size_t>(placement.blocks, old_->attribute.blocks.size());
    freed_.assign(old_->attribute.blocks.begin() + static_cast<std::ptrdiff_t>(kept), old_->attribute.blocks.end());
    old_->attribute.blocks.resize(kept);
    CO_TRY(kept_value_blocks_, co_await fork_.value_blocks(*old_));
    added.blocks = old_->attribute.blocks;
  }
  new_value_blocks_ = placement.blocks - static_cast<std::uint32_t>(kept);
  // The numbers of the new ones are filled in when they are allotted.
  added.blocks.resize(placement.blocks);
  CO_TRY_VOID(choose_place(std::move(added)));
  co_return co_await carry_out();
}

Task<Result<>> AttributeUpdate::remove(FoundAttribute old) {
  freed_ = old.attribute.blocks;
  old_ = std::move(old);
  CO_TRY_VOID(take_out_old());
  co_return co_await carry_out();
}

Result<> AttributeUpdate::take_out_old() {
  if (!old_) return {};
  TRY(std::vector<StoredAttribute> rest, fork_.attributes_in(old_->block));
  rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(old_->place));
  rewrites_.push_back({fork_.blocks()[old_->block], std::move(rest)});
  return {};
}

/// In the old one's place if there is room, else in the first block that has, else in a new block.
Result<> AttributeUpdate::choose_place(StoredAttribute added) {
  const std::size_t room = attribute_room_bytes(volume_.geometry);
  TRY_VOID(take_out_old());
  if (old_) {
    std::size_t bytes = added.record_bytes();
    for (const StoredAttribute& attribute : rewrites_[0].attributes)
      bytes += attribute.record_bytes();
    if (bytes <= room) {
      auto& attributes = rewrites_[0].attributes;
      attributes.insert(attributes.begin() + static_cast<std::ptrdiff_t>(old_->place), std::move(added));
      added_at_ = {0, old_->place};
      return {};
    }
  }
  for (std::size_t block = 0; block < fork_.blocks().size(); ++block) {
    if (old_ && old_->block == block) continue;
    TRY(std::size_t bytes, fork_.bytes_in(block));
    if (bytes + added.record_bytes() > room) continue;
    TRY(std::vector<StoredAttribute> attributes, fork_.attributes_in(block));
    attributes.push_back(std::move(added));
    added_at_ = {rewrites_.size(), attributes.size() - 1};
    rewrites_.push_back({fork_.blocks()[block], std::move(attributes)});
    return {};
  }
  if (fork_.indirect() != nullptr) {
    auto list = pointers(fork_.indirect()->bytes(), sizeof(MetaHeader));
    if (fork_.blocks().size() == list.size()) return fail(ENOSPC);
  }
  in_new_block_ = std::move(added);
  needs_indirect_ = fork_.indirect() == nullptr && !fork_.blocks().empty();
  return {};
}

Task<Result<>> AttributeUpdate::lock_space() {
  AllotmentRequest request;
  request.goal = inode_.address();
  request.blocks = new_value_blocks_ + (in_new_block_ ? 1u : 0u) + (needs_indirect_ ? 1u : 0u);
  request.owner = ownership_of(inode_.dinode());
  if (request.blocks != 0 && !freed_.empty()) {
    CO_TRY(auto both, co_await allocator_.allot_and_release(request, freed_));
    allotment_.emplace(std::move(both.first));
    release_.emplace(std::move(both.second));
  } else if (request.blocks != 0) {
    CO_TRY(allotment_, co_await allocator_.allot(request));
  } else if (!freed_.empty()) {
    CO_TRY(release_, co_await allocator_.prepare_release(freed_));
  }
  co_return Result<>{};
}

Task<Result<>> AttributeUpdate::carry_out() {
  CO_TRY_VOID(co_await lock_space());
  TransactionSize size;
  size.blocks = static_cast<std::uint32_t>(1 + rewrites_.size() + kept_value_blocks_.size()) + new_value_blocks_;
  if (in_new_block_) size.blocks += 2;  // and the indirect block
  if (allotment_) size.blocks += allotment_->log_blocks();
  if (release_) size.blocks += release_->log_blocks();
  size.revokes = static_cast<std::uint32_t>(freed_.size());
  CO_TRY(Transaction transaction, co_await volume_.journal->begin(size));
  Result<> applied = apply(transaction);
  if (!applied) volume_.withdraw(applied.error());
  co_return applied;
}

Result<> AttributeUpdate::apply(Transaction& transaction) {
  for (std::size_t i = 0; i < kept_value_blocks_.size(); ++i)
    write_value_part(transaction, *kept_value_blocks_[i], i);
  TRY_VOID(write_new_value_blocks(transaction));
  for (const Rewrite& rewrite : rewrites_)
    write_attributes(transaction.modify(*rewrite.block), rewrite.attributes);
  if (in_new_block_) TRY_VOID(add_block(transaction));

  const Ownership owner = ownership_of(inode_.dinode());
  for (BlockNo block : freed_) {
    TRY_VOID(release_->free_blocks(transaction, {block, 1}, owner));
    transaction.free_block(block);
  }
  Dinode& dinode = inode_.modify(transaction);
  dinode.blocks = dinode.blocks + blocks_added_ - freed_.size();
  const WallTime now = volume_.clock.wall();
  dinode.ctime = static_cast<std::uint64_t>(now.seconds);
  dinode.ctime_nanoseconds = now.nanoseconds;
  return {};
}

Result<std::vector<BlockNo>> AttributeUpdate::take_blocks(Transaction& transaction, std::uint32_t count) {
  std::vector<BlockNo> blocks;
  while (blocks.size() < count) {
    TRY(Extent extent, allotment_->take_blocks(transaction, count - static_cast<std::uint32_t>(blocks.size())));
    for (std::uint32_t i = 0; i < extent.length; ++i)
      blocks.push_back(extent.start + i);
  }
  blocks_added_ += count;
  return blocks;
}

void AttributeUpdate::write_value_part(Transaction& transaction, Block& block, std::size_t index) const {
  const std::size_t room = attribute_room_bytes(volume_.geometry);
  const std::size_t offset = index * room;
  write_value_block(transaction.modify(block), value_.subspan(offset, std::min(room, value_.size() - offset)));
}

Result<> AttributeUpdate::write_new_value_blocks(Transaction& transaction) {
  if (new_value_blocks_ == 0) return {};
  StoredAttribute& added =
      in_new_block_ ? *in_new_block_ : rewrites_[added_at_->rewrite].attributes[added_at_->attribute];
  TRY(std::vector<BlockNo> taken, take_blocks(transaction, new_value_blocks_));
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const std::size_t index = kept_value_blocks_.size() + i;
    BlockRef block = volume_.cache.create(inode_.owner(), taken[i]);
    write_value_part(transaction, *block, index);
    added.blocks[index] = taken[i];
  }
  return {};
}

Result<> AttributeUpdate::add_block(Transaction& transaction) {
  TRY(std::vector<BlockNo> taken, take_blocks(transaction, needs_indirect_ ? 2 : 1));
  BlockRef block = volume_.cache.create(inode_.owner(), taken[0]);
  transaction.modify_as<MetaHeader>(*block).set(MetaType::ea_block);
  write_attributes(transaction.modify(*block), {&*in_new_block_, 1});
  if (fork_.indirect() != nullptr) {
    pointers(transaction.modify(*fork_.indirect()), sizeof(MetaHeader))[fork_.blocks().size()] = taken[0].value;
    return {};
  }
  if (!needs_indirect_) {
    inode_.modify(transaction).eattr = taken[0].value;
    return {};
  }
  BlockRef indirect = volume_.cache.create(inode_.owner(), taken[1]);
  std::span<std::byte> bytes = transaction.modify(*indirect);
  view<MetaHeader>(bytes).set(MetaType::indirect);
  auto list = pointers(bytes, sizeof(MetaHeader));
  list[0] = fork_.blocks()[0]->number().value;
  list[1] = taken[0].value;
  Dinode& dinode = inode_.modify(transaction);
  dinode.eattr = taken[1].value;
  dinode.flags = dinode.flags | kDinodeEaIndirect;
  return {};
}

}  // namespace corral
