// An ObjectStore in memory: see memory_store.h.
#include "memory_store.h"

#include <cstring>

namespace cached::testing_dataset {
namespace {

using origin::Call;
using origin::ObjectName;

MemoryStore::Name key_of(const ObjectName& object) {
  return {object.pool, object.name};
}
std::string copy_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Status missing(const ObjectName& object) {
  return Status(ENOENT, object.name + " is not there");
}

}  // namespace

template <typename T>
Call<T> MemoryStore::later(std::function<origin::CallResult<T>()> run) {
  return Call<T>([run = std::move(run)](const origin::Done<T>& done) { done(run()); });
}

Call<uint64_t> MemoryStore::read(ObjectName object, uint64_t offset, std::vector<iovec> iovecs) {
  return later<uint64_t>([=, this]() -> Result<uint64_t> {
    if (before_read) {
      if (Status status = before_read(object.name); !status.ok()) return status;
    }
    const std::lock_guard lock(mutex_);
    ++counters_.reads;
    const auto found = objects_.find(key_of(object));
    if (found == objects_.end()) return missing(object);
    const std::string& bytes = found->second.bytes;
    uint64_t done = 0;
    for (const iovec& piece : iovecs) {
      const uint64_t at = offset + done;
      const uint64_t length = at >= bytes.size() ? 0 : std::min<uint64_t>(piece.iov_len, bytes.size() - at);
      if (length == 0) break;
      std::memcpy(piece.iov_base, bytes.data() + at, length);
      done += length;
    }
    counters_.read_bytes += done;
    return done;
  });
}

Call<origin::VersionedBytes> MemoryStore::read_small(ObjectName object, uint64_t limit_bytes) {
  const auto run = [=, this]() -> Result<origin::VersionedBytes> {
    const std::lock_guard lock(mutex_);
    ++counters_.reads;
    const auto found = objects_.find(key_of(object));
    if (found == objects_.end()) return missing(object);
    if (found->second.bytes.size() > limit_bytes) return Status(EFBIG, object.name + " is too long");
    return origin::VersionedBytes{found->second.bytes, found->second.version};
  };
  return Call<origin::VersionedBytes>([this, run](const origin::Done<origin::VersionedBytes>& done) {
    {
      const std::lock_guard lock(mutex_);
      if (holding_) {
        held_.push_back([run, done] { done(run()); });
        return;
      }
    }
    done(run());
  });
}

void MemoryStore::hold_small_reads() {
  const std::lock_guard lock(mutex_);
  holding_ = true;
}

void MemoryStore::release_small_reads() {
  std::vector<std::function<void()>> released;
  {
    const std::lock_guard lock(mutex_);
    holding_ = false;
    released.swap(held_);
  }
  for (const std::function<void()>& end : released) end();
}

Call<uint64_t> MemoryStore::stat(ObjectName object) {
  return later<uint64_t>([=, this]() -> Result<uint64_t> {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(key_of(object));
    if (found == objects_.end()) return missing(object);
    return uint64_t{found->second.bytes.size()};
  });
}

Status MemoryStore::put(const ObjectName& object, const std::string& bytes) {
  Object& entry = objects_[key_of(object)];
  entry.bytes = bytes;
  entry.version = next_version_++;
  ++counters_.writes;
  counters_.written_bytes += bytes.size();
  return Status();
}

Call<void> MemoryStore::write_full(ObjectName object, std::span<const std::byte> bytes) {
  return later<void>([=, this, text = copy_of(bytes)]() -> Status {
    if (before_write) CACHED_RETURN_IF_ERROR(before_write(object.name));
    const std::lock_guard lock(mutex_);
    return put(object, text);
  });
}

Call<void> MemoryStore::create(ObjectName object, std::span<const std::byte> bytes) {
  return later<void>([=, this, text = copy_of(bytes)]() -> Status {
    if (before_write) CACHED_RETURN_IF_ERROR(before_write(object.name));
    const std::lock_guard lock(mutex_);
    if (objects_.contains(key_of(object))) return Status(EEXIST, object.name + " is there already");
    return put(object, text);
  });
}

Call<void> MemoryStore::replace(ObjectName object, uint64_t version, std::span<const std::byte> bytes) {
  return later<void>([=, this, text = copy_of(bytes)]() -> Status {
    if (before_write) CACHED_RETURN_IF_ERROR(before_write(object.name));
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(key_of(object));
    if (found == objects_.end()) return missing(object);
    if (found->second.version != version) return Status(ECANCELED, object.name + " was changed");
    return put(object, text);
  });
}

Call<void> MemoryStore::remove(ObjectName object) {
  return later<void>([=, this]() -> Status {
    if (before_write) CACHED_RETURN_IF_ERROR(before_write(object.name));
    const std::lock_guard lock(mutex_);
    return objects_.erase(key_of(object)) == 1 ? Status() : missing(object);
  });
}

Call<std::string> MemoryStore::get_xattr(ObjectName object, std::string) {
  return Call<std::string>::ended(missing(object));
}
Call<void> MemoryStore::set_xattr(ObjectName object, std::string, std::string) {
  return Call<void>::ended(missing(object));
}

Call<origin::OmapPage> MemoryStore::omap_get(ObjectName object, std::string after, uint64_t limit) {
  return later<origin::OmapPage>([=, this]() -> Result<origin::OmapPage> {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(key_of(object));
    if (found == objects_.end()) return missing(object);
    origin::OmapPage page;
    for (auto at = found->second.omap.upper_bound(after); at != found->second.omap.end(); ++at) {
      page.more = page.entries.size() == limit;
      if (page.more) break;
      page.entries.push_back({at->first, at->second});
    }
    return page;
  });
}

Call<void> MemoryStore::omap_set(ObjectName object, std::vector<origin::OmapEntry> entries) {
  return later<void>([=, this]() -> Status {
    const std::lock_guard lock(mutex_);
    for (const origin::OmapEntry& entry : entries) objects_[key_of(object)].omap[entry.key] = entry.value;
    return Status();
  });
}

Call<void> MemoryStore::omap_remove(ObjectName object, std::vector<std::string> keys) {
  return later<void>([=, this]() -> Status {
    const std::lock_guard lock(mutex_);
    for (const std::string& key : keys) objects_[key_of(object)].omap.erase(key);
    return Status();
  });
}

Status MemoryStore::list(origin::Pool pool, const std::string& prefix,
                         const std::function<bool(const std::string& name)>& visit) {
  std::vector<std::string> found;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, object] : objects_) {
      if (name.first == pool && name.second.starts_with(prefix)) found.push_back(name.second);
    }
  }
  for (const std::string& name : found) {
    if (!visit(name)) break;
  }
  return Status();
}

std::set<std::string> MemoryStore::names() {
  const std::lock_guard lock(mutex_);
  std::set<std::string> names;
  for (const auto& [name, object] : objects_)
    names.insert((name.first == origin::Pool::kData ? "d:" : "m:") + name.second);
  return names;
}

bool MemoryStore::damage(const std::string& name, const std::function<void(std::string*)>& change) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, object] : objects_) {
    if (key.second != name) continue;
    change(&object.bytes);
    return true;
  }
  return false;
}

uint64_t MemoryStore::bytes_in(origin::Pool pool) {
  const std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [name, object] : objects_) bytes += name.first == pool ? object.bytes.size() : 0;
  return bytes;
}

}  // namespace cached::testing_dataset
