// The operations of a RadosStore, each as librados operations that the engine runs: see rados_store.h.
#include "cached/origin/rados_store.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <rados/librados.hpp>
#include <set>
#include <utility>

#include "cached/origin/rados_cluster.h"
#include "cached/origin/rados_engine.h"

namespace cached::origin {
namespace {

using librados::AioCompletion;
using librados::bufferlist;
using librados::IoCtx;

constexpr uint32_t kAttemptsPerTimeout = 4;
// A full pool refuses writes at once instead of keeping them until there is room.
constexpr int kWriteFlags = librados::OPERATION_FULL_TRY;

using Engine = std::shared_ptr<RadosEngine>;
using Begin = std::function<int(IoCtx&, AioCompletion*)>;
using Finished = std::function<void(RadosAnswer)>;

void run(const Engine& engine, const ObjectName& object, const char* verb, Begin begin, Finished done) {
  auto operation = std::make_shared<RadosOperation>();
  operation->object = object;
  operation->verb = verb;
  operation->begin = std::move(begin);
  operation->done = std::move(done);
  engine->run(std::move(operation));
}

void count(std::atomic<uint64_t>& counter, uint64_t number = 1) {
  counter.fetch_add(number, std::memory_order_relaxed);
}

Status check_name(const ObjectName& object) {
  const bool fits = !object.name.empty() && object.name.size() <= kMaximumNameBytes &&
                    object.name.find('\0') == std::string::npos;
  return fits ? Status() : Status(EINVAL, "an object's name has 1 to 1024 bytes and no NUL");
}

bufferlist copy_of(std::span<const std::byte> bytes) {
  bufferlist copy;
  copy.append(reinterpret_cast<const char*>(bytes.data()), static_cast<unsigned>(bytes.size()));
  return copy;
}

bufferlist copy_of(const std::string& bytes) {
  return copy_of(std::as_bytes(std::span(bytes)));
}

// Reading.

// A read's destination, and the bytes between librados and it.
struct ReadState {
  std::vector<iovec> pieces;  // neighbours joined
  uint64_t length = 0;
  bufferlist bytes;
};

void join_neighbours(std::vector<iovec>* pieces) {
  size_t kept = 0;
  for (const iovec& piece : *pieces) {
    if (piece.iov_len == 0) continue;
    iovec* const last = kept == 0 ? nullptr : &(*pieces)[kept - 1];
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == piece.iov_base) {
      last->iov_len += piece.iov_len;
    } else {
      (*pieces)[kept++] = piece;
    }
  }
  pieces->resize(kept);
}

// Before each attempt. librados copies an answer of full length into a single buffer that it is given here
// while the bytes are still in the network thread's cache; a shorter one, or one for several pieces, stays in
// a buffer of its own.
void offer_buffer(ReadState* state) {
  state->bytes.clear();
  if (state->pieces.size() != 1) return;
  const iovec& piece = state->pieces.front();
  state->bytes.push_back(
      ceph::buffer::create_static(static_cast<unsigned>(piece.iov_len), static_cast<char*>(piece.iov_base)));
}

// Copies what librados kept to itself.
void scatter(ReadState* state) {
  uint64_t left = state->bytes.length();
  if (left == 0) return;
  const bool in_place = state->pieces.size() == 1 && state->bytes.get_num_buffers() == 1 &&
                        state->bytes.front().c_str() == state->pieces.front().iov_base;
  auto source = std::as_const(state->bytes).begin();
  for (const iovec& piece : state->pieces) {
    if (in_place || left == 0) break;
    const uint64_t part = std::min<uint64_t>(left, piece.iov_len);
    source.copy(static_cast<unsigned>(part), static_cast<char*>(piece.iov_base));
    left -= part;
  }
  state->bytes.clear();
}

void begin_read_small(const Engine& engine, const ObjectName& object, uint64_t limit_bytes,
                      Done<VersionedBytes> done) {
  auto bytes = std::make_shared<bufferlist>();
  run(
      engine, object, "read",
      [bytes, limit_bytes, name = object.name](IoCtx& pool, AioCompletion* completion) {
        bytes->clear();
        return pool.aio_read(name, completion, bytes.get(), limit_bytes + 1, 0);
      },
      [bytes, limit_bytes, object, engine, done = std::move(done)](RadosAnswer answer) {
        if (!answer.status.ok()) return done(std::move(answer.status));
        count(engine->counters().read_bytes, bytes->length());
        if (bytes->length() > limit_bytes)
          return done(Status(EFBIG, engine->description() + ": object `" + object.name + "` is longer than " +
                                        std::to_string(limit_bytes) + " bytes"));
        done(VersionedBytes{bytes->to_str(), answer.version});
      });
}

// Writing.

using WriteOperation = std::shared_ptr<librados::ObjectWriteOperation>;

// One write. `fill` is called for each attempt.
void begin_write(const Engine& engine, const ObjectName& object, const char* verb,
                 std::function<void(librados::ObjectWriteOperation*)> fill, Finished done) {
  run(
      engine, object, verb,
      [fill = std::move(fill), name = object.name](IoCtx& pool, AioCompletion* completion) {
        librados::ObjectWriteOperation operation;
        fill(&operation);
        return pool.aio_operate(name, completion, &operation, kWriteFlags);
      },
      std::move(done));
}

Finished report_to(Done<void> done) {
  return [done = std::move(done)](RadosAnswer answer) { done(std::move(answer.status)); };
}

// A guarded write was refused after an attempt that timed out: was it that attempt that made it? `refusal` is
// what the caller gets if not.
void compare_after_timeout(const Engine& engine, const ObjectName& object, const bufferlist& wanted,
                           Status refusal, Done<void> done) {
  begin_read_small(
      engine, object, wanted.length(),
      [wanted, refusal = std::move(refusal), done = std::move(done)](Result<VersionedBytes> found) {
        const int error = found.error_number();
        if (error == 0 && wanted.contents_equal(copy_of(found->bytes))) return done({});
        const bool other_content = error == 0 || error == EFBIG || error == ENOENT;
        done(other_content ? refusal : found.status());
      });
}

Status replace_error(const Engine& engine, const ObjectName& object, const Status& status) {
  if (status.error_number() != ERANGE && status.error_number() != EOVERFLOW) return status;
  return Status(ECANCELED, engine->description() + ": object `" + object.name +
                               "` was changed by another writer, so this change was not made");
}

}  // namespace

Result<std::shared_ptr<RadosStore>> RadosStore::open(const RadosOptions& options) {
  if (options.pool.empty()) return Status(EINVAL, "a rados store needs the name of a pool");
  if (options.conf_file.empty()) return Status(EINVAL, "a rados store needs the path of a ceph.conf");
  if (options.origin_timeout_ms < kMinimumOriginTimeoutMs)
    return Status(EINVAL, "origin_timeout is at least 1 s");
  RadosCluster::Identity identity;
  identity.conf_file = options.conf_file;
  identity.user = options.user.starts_with("client.") ? options.user.substr(7) : options.user;
  identity.keyring = options.keyring;
  // librados counts in seconds.
  identity.attempt_timeout_s = std::max(1U, options.origin_timeout_ms / 1000 / kAttemptsPerTimeout);
  if (identity.user.empty()) return Status(EINVAL, "a rados store needs the name of a user");
  auto engine = std::make_shared<RadosEngine>(options, RadosCluster::acquire(identity));
  return std::shared_ptr<RadosStore>(new RadosStore(std::move(engine)));
}

RadosStore::~RadosStore() {
  engine_->close();
}

Call<uint64_t> RadosStore::read(ObjectName object, uint64_t offset, std::vector<iovec> iovecs) {
  if (Status status = check_name(object); !status.ok()) return Call<uint64_t>::ended(std::move(status));
  auto state = std::make_shared<ReadState>();
  for (const iovec& piece : iovecs) state->length += piece.iov_len;
  if (state->length > kMaximumReadBytes)
    return Call<uint64_t>::ended(Status(EINVAL, "a read of more than 4 MiB"));
  // librados takes a length of 0 for "all of it".
  if (state->length == 0) return Call<uint64_t>::ended(uint64_t{0});
  state->pieces = std::move(iovecs);
  join_neighbours(&state->pieces);
  auto begin = [engine = engine_, object = std::move(object), offset, state](Done<uint64_t> done) {
    count(engine->counters().reads);
    run(
        engine, object, "read",
        [state, offset, name = object.name](IoCtx& pool, AioCompletion* completion) {
          offer_buffer(state.get());
          return pool.aio_read(name, completion, &state->bytes, state->length, offset);
        },
        [state, engine, done = std::move(done)](RadosAnswer answer) {
          if (!answer.status.ok()) return done(std::move(answer.status));
          count(engine->counters().read_bytes, state->bytes.length());
          done(uint64_t{state->bytes.length()});
        });
  };
  return Call<uint64_t>(std::move(begin), [state](Result<uint64_t> result) {
    if (result.ok()) scatter(state.get());
    return result;
  });
}

Call<VersionedBytes> RadosStore::read_small(ObjectName object, uint64_t limit_bytes) {
  Status status = check_name(object);
  if (status.ok() && limit_bytes > kMaximumWriteBytes) status = Status(EINVAL, "a read of more than 16 MiB");
  if (!status.ok()) return Call<VersionedBytes>::ended(std::move(status));
  return Call<VersionedBytes>(
      [engine = engine_, object = std::move(object), limit_bytes](Done<VersionedBytes> done) {
        count(engine->counters().reads);
        begin_read_small(engine, object, limit_bytes, std::move(done));
      });
}

Call<uint64_t> RadosStore::stat(ObjectName object) {
  if (Status status = check_name(object); !status.ok()) return Call<uint64_t>::ended(std::move(status));
  return Call<uint64_t>([engine = engine_, object = std::move(object)](Done<uint64_t> done) {
    count(engine->counters().others);
    auto size = std::make_shared<uint64_t>(0);
    run(
        engine, object, "stat",
        [size, name = object.name](IoCtx& pool, AioCompletion* completion) {
          return pool.aio_stat(name, completion, size.get(), nullptr);
        },
        [size, done = std::move(done)](RadosAnswer answer) {
          if (!answer.status.ok()) return done(std::move(answer.status));
          done(*size);
        });
  });
}

Call<void> RadosStore::write(ObjectName object, std::span<const std::byte> bytes, WriteKind kind,
                             uint64_t version) {
  Status status = check_name(object);
  if (status.ok() && bytes.size() > kMaximumWriteBytes)
    status = Status(EINVAL, "a write of more than 16 MiB");
  if (!status.ok()) return Call<void>::ended(std::move(status));
  return Call<void>([engine = engine_, object = std::move(object), bytes, kind, version](Done<void> done) {
    count(engine->counters().writes);
    count(engine->counters().written_bytes, bytes.size());
    const bufferlist content = copy_of(bytes);
    auto fill = [content, kind, version](librados::ObjectWriteOperation* operation) {
      if (kind == WriteKind::kCreate) operation->create(true);
      if (kind == WriteKind::kReplace) {
        operation->assert_exists();
        operation->assert_version(version);
      }
      operation->write_full(content);
    };
    auto ended = [engine, object, content, kind, done = std::move(done)](RadosAnswer answer) {
      Status result = std::move(answer.status);
      if (kind == WriteKind::kReplace) result = replace_error(engine, object, result);
      const bool refused = (kind == WriteKind::kReplace && result.error_number() == ECANCELED) ||
                           (kind == WriteKind::kCreate && result.error_number() == EEXIST);
      if (!refused || !answer.uncertain) return done(std::move(result));
      compare_after_timeout(engine, object, content, std::move(result), done);
    };
    const char* const verb = kind == WriteKind::kCreate ? "create" : "write";
    begin_write(engine, object, verb, std::move(fill), std::move(ended));
  });
}

Call<void> RadosStore::write_full(ObjectName object, std::span<const std::byte> bytes) {
  return write(std::move(object), bytes, WriteKind::kFull, 0);
}

Call<void> RadosStore::create(ObjectName object, std::span<const std::byte> bytes) {
  return write(std::move(object), bytes, WriteKind::kCreate, 0);
}

Call<void> RadosStore::replace(ObjectName object, uint64_t version, std::span<const std::byte> bytes) {
  if (version == 0) return Call<void>::ended(Status(EINVAL, "replace needs a version from read_small"));
  return write(std::move(object), bytes, WriteKind::kReplace, version);
}

Call<void> RadosStore::change(ObjectName object, const char* verb, Fill fill) {
  if (Status status = check_name(object); !status.ok()) return Call<void>::ended(std::move(status));
  return Call<void>(
      [engine = engine_, object = std::move(object), verb, fill = std::move(fill)](Done<void> done) {
        count(engine->counters().others);
        begin_write(engine, object, verb, fill, report_to(std::move(done)));
      });
}

Call<void> RadosStore::remove(ObjectName object) {
  if (Status status = check_name(object); !status.ok()) return Call<void>::ended(std::move(status));
  return Call<void>([engine = engine_, object = std::move(object)](Done<void> done) {
    count(engine->counters().others);
    begin_write(
        engine, object, "remove", [](librados::ObjectWriteOperation* operation) { operation->remove(); },
        [done = std::move(done)](RadosAnswer answer) {
          // An attempt that timed out had removed it.
          const bool was_ours = answer.uncertain && answer.status.error_number() == ENOENT;
          done(was_ours ? Status() : std::move(answer.status));
        });
  });
}

Call<std::string> RadosStore::get_xattr(ObjectName object, std::string key) {
  if (Status status = check_name(object); !status.ok()) return Call<std::string>::ended(std::move(status));
  return Call<std::string>(
      [engine = engine_, object = std::move(object), key = std::move(key)](Done<std::string> done) {
        count(engine->counters().others);
        auto value = std::make_shared<bufferlist>();
        run(
            engine, object, "read an attribute of",
            [value, key, name = object.name](IoCtx& pool, AioCompletion* completion) {
              value->clear();
              librados::ObjectReadOperation operation;
              operation.getxattr(key.c_str(), value.get(), nullptr);
              return pool.aio_operate(name, completion, &operation, nullptr);
            },
            [value, done = std::move(done)](RadosAnswer answer) {
              if (!answer.status.ok()) return done(std::move(answer.status));
              done(value->to_str());
            });
      });
}

Call<void> RadosStore::set_xattr(ObjectName object, std::string key, std::string value) {
  return change(std::move(object), "set an attribute of",
                [key = std::move(key), bytes = copy_of(value)](librados::ObjectWriteOperation* operation) {
                  operation->setxattr(key.c_str(), bytes);
                });
}

namespace {

struct OmapState {
  std::map<std::string, bufferlist> values;
  bool more = false;
};

OmapPage page_of(const OmapState& state) {
  OmapPage page;
  page.more = state.more;
  for (const auto& [key, value] : state.values) page.entries.push_back({key, value.to_str()});
  return page;
}

}  // namespace

Call<OmapPage> RadosStore::omap_get(ObjectName object, std::string after, uint64_t limit) {
  if (Status status = check_name(object); !status.ok()) return Call<OmapPage>::ended(std::move(status));
  return Call<OmapPage>(
      [engine = engine_, object = std::move(object), after = std::move(after), limit](Done<OmapPage> done) {
        count(engine->counters().others);
        auto state = std::make_shared<OmapState>();
        run(
            engine, object, "read the table of",
            [state, after, limit, name = object.name](IoCtx& pool, AioCompletion* completion) {
              *state = {};
              librados::ObjectReadOperation operation;
              operation.omap_get_vals2(after, limit, &state->values, &state->more, nullptr);
              return pool.aio_operate(name, completion, &operation, nullptr);
            },
            [state, done = std::move(done)](RadosAnswer answer) {
              if (!answer.status.ok()) return done(std::move(answer.status));
              done(page_of(*state));
            });
      });
}

Call<void> RadosStore::omap_set(ObjectName object, std::vector<OmapEntry> entries) {
  std::map<std::string, bufferlist> values;
  for (const OmapEntry& entry : entries) values[entry.key] = copy_of(entry.value);
  return change(std::move(object), "write the table of",
                [values = std::move(values)](librados::ObjectWriteOperation* operation) {
                  operation->omap_set(values);
                });
}

Call<void> RadosStore::omap_remove(ObjectName object, std::vector<std::string> keys) {
  std::set<std::string> removed(keys.begin(), keys.end());
  return change(std::move(object), "write the table of",
                [removed = std::move(removed)](librados::ObjectWriteOperation* operation) {
                  operation->omap_rm_keys(removed);
                });
}

Status RadosStore::list(Pool pool, const std::string& prefix,
                        const std::function<bool(const std::string& name)>& visit) {
  count(engine_->counters().others);
  return engine_->list(pool, prefix, visit);
}

Status RadosStore::wait_ready(uint32_t timeout_ms) {
  return engine_->wait_ready(timeout_ms);
}

StoreState RadosStore::state() const {
  return engine_->state();
}

std::string RadosStore::description() const {
  return engine_->description();
}

const StoreCounters& RadosStore::counters() const {
  return engine_->counters();
}

void RadosStore::close() {
  engine_->close();
}

}  // namespace cached::origin
