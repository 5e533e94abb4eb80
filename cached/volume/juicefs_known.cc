// See juicefs_known.h.
#include "cached/volume/juicefs_known.h"

namespace cached::volume {

void JuicefsKnown::set_notices(Notices notices, uint64_t now_ns) {
  notices_ = notices;
  all_changed(now_ns);
}

bool JuicefsKnown::current(uint64_t ino, uint64_t asked_at_ns) const {
  if (notices_ == Notices::kNone) return true;
  if (notices_ == Notices::kMissing || asked_at_ns <= all_changed_at_ns_) return false;
  const auto changed = changed_at_ns_.find(ino);
  return changed == changed_at_ns_.end() || asked_at_ns > changed->second;
}

void JuicefsKnown::put_inode(const shm::InodeInfo& info) {
  if (!current(info.ino, info.validated_at_ns)) return;
  names_.put_inode(volume_, info);
  if (notices_ == Notices::kNone) return;
  inodes_.insert(info.ino);
  if (inodes_.size() <= limit_) return;
  const uint64_t victim = *inodes_.begin();
  names_.remove_inode(volume_, handle(victim));
  inodes_.erase(victim);
}

void JuicefsKnown::remember_name(uint64_t parent, std::string_view name) {
  if (notices_ == Notices::kNone) return;
  if (directories_[parent].emplace(name).second) ++name_count_;
  while (name_count_ > limit_) forget_names(directories_.begin()->first);
}

void JuicefsKnown::put_name(uint64_t parent, std::string_view name, uint64_t child, uint64_t asked_at_ns) {
  if (!current(parent, asked_at_ns)) return;
  names_.put_name(volume_, handle(parent), name, handle(child), asked_at_ns);
  remember_name(parent, name);
}

void JuicefsKnown::put_absent(uint64_t parent, std::string_view name, uint64_t asked_at_ns) {
  if (!current(parent, asked_at_ns)) return;
  names_.put_absent(volume_, handle(parent), name, asked_at_ns);
  remember_name(parent, name);
}

void JuicefsKnown::forget_names(uint64_t parent) {
  const auto directory = directories_.find(parent);
  if (directory == directories_.end()) return;
  for (const std::string& name : directory->second) names_.remove_name(volume_, handle(parent), name);
  name_count_ -= directory->second.size();
  directories_.erase(directory);
}

void JuicefsKnown::remember_change(uint64_t ino, uint64_t now_ns) {
  ++changes_;
  if (changed_at_ns_.size() >= kRememberedChanges) {
    changed_at_ns_.clear();
    all_changed_at_ns_ = now_ns;  // what is under way is not kept; what is in the table was looked after
  }
  changed_at_ns_[ino] = now_ns;
}

void JuicefsKnown::inode_changed(uint64_t ino, uint64_t now_ns) {
  remember_change(ino, now_ns);
  if (inodes_.erase(ino) > 0) names_.remove_inode(volume_, handle(ino));
}

void JuicefsKnown::entries_changed(uint64_t ino, uint64_t now_ns) {
  remember_change(ino, now_ns);
  forget_names(ino);
}

void JuicefsKnown::all_changed(uint64_t now_ns) {
  ++changes_;
  for (const uint64_t ino : inodes_) names_.remove_inode(volume_, handle(ino));
  inodes_.clear();
  while (!directories_.empty()) forget_names(directories_.begin()->first);
  changed_at_ns_.clear();
  all_changed_at_ns_ = now_ns;
}

}  // namespace cached::volume
