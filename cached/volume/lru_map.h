// LruMap: a hash map with a limit that forgets what was used longest ago. One thread.
#pragma once

#include <list>
#include <unordered_map>
#include <utility>

namespace cached::volume {

template <typename Key, typename Value, typename Hash = std::hash<Key>>
class LruMap {
 public:
  explicit LruMap(size_t limit) : limit_(limit) {}

  // The value, now the most recently used; null if there is none. Valid until the next put() or erase().
  Value* get(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->second;
  }

  // Inserts or replaces; over the limit, the least recently used goes.
  Value* put(const Key& key, Value value) {
    if (Value* const present = get(key)) {
      *present = std::move(value);
      return present;
    }
    entries_.emplace_front(key, std::move(value));
    index_.emplace(key, entries_.begin());
    if (entries_.size() > limit_) {
      index_.erase(entries_.back().first);
      entries_.pop_back();
    }
    return &entries_.front().second;
  }

  // Key and value of what was used longest ago; null if it is empty.
  std::pair<Key, Value>* oldest() { return entries_.empty() ? nullptr : &entries_.back(); }

  void erase(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return;
    entries_.erase(found->second);
    index_.erase(found);
  }

  void clear() {
    index_.clear();
    entries_.clear();
  }

  size_t size() const { return entries_.size(); }

 private:
  using Entries = std::list<std::pair<Key, Value>>;
  const size_t limit_;
  Entries entries_;
  std::unordered_map<Key, typename Entries::iterator, Hash> index_;
};

}  // namespace cached::volume
