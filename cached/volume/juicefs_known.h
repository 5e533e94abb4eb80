// JuicefsKnown: which records of a JuiceFS volume are in the name table, so that a change that Redis tells
// can take them out at once.
//
// An answer may be older than a change that has been told meanwhile, since both come over different
// connections: records are kept only if nothing was told of them since they were asked for.
//
// While changes may be missed (see RedisClient::Tracking) nothing is kept, and what was there is taken out. A
// server that tells nobody is another matter: then records live for their readers' time-outs, as those of any
// other volume.
//
// Bounded: beyond `limit` names or inodes some are taken out of the table. Shard 0's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cached/memory_tier/name_table.h"
#include "shm/types.h"

namespace cached::volume {

class JuicefsKnown {
 public:
  enum class Notices : uint8_t { kNone, kMissing, kComplete };

  // `notices`: kNone without tracking, else kMissing until told otherwise.
  JuicefsKnown(memory_tier::NameTable& names, uint16_t volume, uint64_t tag, size_t limit, Notices notices)
      : names_(names), volume_(volume), tag_(tag), limit_(limit), notices_(notices) {}

  void set_notices(Notices notices, uint64_t now_ns);
  // Whether what was asked at `asked_at_ns` about inode or directory `ino` may be kept, and told with its
  // age.
  bool current(uint64_t ino, uint64_t asked_at_ns) const;

  // Each keeps its record if it is current.
  void put_inode(const shm::InodeInfo& info);
  void put_name(uint64_t parent, std::string_view name, uint64_t child, uint64_t asked_at_ns);
  void put_absent(uint64_t parent, std::string_view name, uint64_t asked_at_ns);

  // Redis told that keys of this inode, or the entries of this directory, have changed.
  void inode_changed(uint64_t ino, uint64_t now_ns);
  void entries_changed(uint64_t ino, uint64_t now_ns);
  void all_changed(uint64_t now_ns);
  uint64_t changes() const { return changes_; }

 private:
  static constexpr size_t kRememberedChanges = 100'000;
  void remember_change(uint64_t ino, uint64_t now_ns);
  void remember_name(uint64_t parent, std::string_view name);
  void forget_names(uint64_t parent);
  shm::Handle handle(uint64_t ino) const { return {tag_, ino}; }

  memory_tier::NameTable& names_;
  const uint16_t volume_;
  const uint64_t tag_;
  const size_t limit_;
  Notices notices_;
  std::unordered_set<uint64_t> inodes_;
  std::unordered_map<uint64_t, std::unordered_set<std::string>> directories_;
  size_t name_count_ = 0;
  std::unordered_map<uint64_t, uint64_t> changed_at_ns_;  // by inode: when a change was told
  uint64_t all_changed_at_ns_ = 0;
  uint64_t changes_ = 0;
};

}  // namespace cached::volume
