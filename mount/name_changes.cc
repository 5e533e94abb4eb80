#include "mount/name_changes.h"

#include <algorithm>

namespace cached::mount {

void NameChanges::changed(const shm::Handle& directory, uint64_t told_at_ns) {
  const std::lock_guard lock(mutex_);
  if (changed_at_ns_.size() >= kMaximumDirectories) {
    changed_at_ns_.clear();
    all_changed_at_ns_ = std::max(all_changed_at_ns_, told_at_ns);
  }
  uint64_t& at_ns = changed_at_ns_[directory];
  at_ns = std::max(at_ns, told_at_ns);
}

void NameChanges::all_changed(uint64_t told_at_ns) {
  const std::lock_guard lock(mutex_);
  all_changed_at_ns_ = std::max(all_changed_at_ns_, told_at_ns);
  changed_at_ns_.clear();
}

bool NameChanges::is_current(const shm::Handle& directory, uint64_t validated_at_ns) const {
  const std::lock_guard lock(mutex_);
  if (validated_at_ns <= all_changed_at_ns_) return false;
  const auto changed = changed_at_ns_.find(directory);
  return changed == changed_at_ns_.end() || validated_at_ns > changed->second;
}

bool NameChanges::remember(const shm::Handle& directory, std::string name, uint64_t timeout_ns) {
  const uint64_t until_ns = clock_.monotonic_ns() + timeout_ns;
  const std::lock_guard lock(mutex_);
  if (name_count_ >= kMaximumNames) drop_expired_locked();
  if (name_count_ >= kMaximumNames) return false;
  uint64_t& remembered_ns = names_[directory][std::move(name)];
  if (remembered_ns == 0) ++name_count_;
  remembered_ns = until_ns;
  return true;
}

std::vector<std::string> NameChanges::take(const shm::Handle& directory) {
  const std::lock_guard lock(mutex_);
  auto found = names_.extract(directory);
  std::vector<std::string> names;
  if (found.empty()) return names;
  for (auto& [name, until_ns] : found.mapped()) names.push_back(name);
  name_count_ -= names.size();
  return names;
}

std::vector<shm::Handle> NameChanges::directories_of_remembered() const {
  const std::lock_guard lock(mutex_);
  std::vector<shm::Handle> directories;
  for (const auto& [directory, names] : names_) directories.push_back(directory);
  return directories;
}

void NameChanges::drop_expired_locked() {
  const uint64_t now_ns = clock_.monotonic_ns();
  for (auto& [directory, names] : names_) {
    name_count_ -= std::erase_if(names, [&](const auto& entry) { return entry.second <= now_ns; });
  }
  std::erase_if(names_, [](const auto& entry) { return entry.second.empty(); });
}

}  // namespace cached::mount
