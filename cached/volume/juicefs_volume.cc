// A JuiceFS volume: see juicefs_volume.h.
#include "cached/volume/juicefs_volume.h"

#include <dirent.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <future>
#include <unordered_set>

#include "base/log.h"
#include "base/units.h"
#include "cached/origin/rados_store.h"

namespace cached::volume {
namespace {

using juicefs::Script;
using origin::RedisClient;
using origin::RedisReply;

constexpr uint64_t kChunksOfRun = 16;
constexpr uint64_t kRunBytes = kChunksOfRun * juicefs::kChunkBytes;
constexpr size_t kPiecesOfAnswer = 3'000;
constexpr size_t kKeptPieces = 65'536;  // a run of more is not kept here
constexpr uint64_t kScanBatch = 1'500;  // entries of one round trip
constexpr size_t kListedWithAttributes =
    12'000;  // the first of a listing; the rest get theirs when they are asked for
constexpr size_t kMaximumListed = 16'000'000;
constexpr uint64_t kLoadedEntries = 10'000;  // directories of more are not read in the background
constexpr uint64_t kLookupsBeforeLoad = 4;
constexpr uint64_t kEntriesOfLookup = 64;  // what reading an entry costs less than looking it up
// Of reading ahead of files that are read in order.
constexpr size_t kOrderedEntries =
    20'000;  // directories of more have no order: sorting takes the shard's time
constexpr uint64_t kOrderHoldsNs = 60 * kNanosecondsPerSecond;
constexpr uint32_t kFilesAtOnce = 16;
constexpr uint64_t kLostForNs = 10 * kNanosecondsPerSecond;
constexpr uint64_t kReadyPollNs = 10'000'000;
constexpr const char* kAccessAcl = "system.posix_acl_access";
constexpr const char* kDefaultAcl = "system.posix_acl_default";
constexpr const char* kTrashName = ".trash";

constexpr uint64_t kRecountNs = 3600 * kNanosecondsPerSecond;
constexpr size_t kCountedDirectories = 1'000'000;

// A number as Redis writes it; 0 for what is none.
uint64_t number_in(const std::string& text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

uint64_t cookie_of(std::string_view name) {
  return std::max<uint64_t>(1, XXH3_64bits(name.data(), name.size()) >> 2);
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= NAME_MAX && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos && name != "." && name != "..";
}

Outcome changed() {
  return Outcome{.error = ESTALE, .changed = true};
}

std::vector<std::string> all_scripts() {
  return {juicefs::kLookupScript, juicefs::kInodesScript, juicefs::kScanScript,
          juicefs::kMapScript,    juicefs::kXattrsScript, juicefs::kTotalsScript};
}

origin::RedisOptions redis_options(const JuicefsVolume::Options& options) {
  origin::RedisOptions redis = options.redis;
  redis.prefixes = {"i", "d", "c", "s", "x"};
  redis.scripts = all_scripts();
  redis.greeting = {"GET", "setting"};
  const std::string place =
      redis.unix_socket.empty() ? redis.host + ":" + std::to_string(redis.port) : redis.unix_socket;
  redis.subject = "volume " + options.name + ": Redis at " + place;
  return redis;
}

}  // namespace

JuicefsVolume::JuicefsVolume(const Options& options, OpenStore open_store, io::Reactor& home,
                             memory_tier::NameTable& names)
    : options_(options),
      open_store_(std::move(open_store)),
      home_(home),
      names_(names),
      log_(std::make_shared<origin::FailureLog>("volume " + options.name)),
      notices_(options.redis.tracking ? JuicefsKnown::Notices::kMissing : JuicefsKnown::Notices::kNone) {
  RedisClient::Hooks hooks;
  hooks.accept = [this](const RedisReply& setting) { return accept(setting); };
  hooks.invalidated = [this](std::vector<std::string> keys) {
    home_.post([this, changed_keys = std::move(keys)] { keys_changed(changed_keys); });
  };
  hooks.tracking_changed = [this](RedisClient::Tracking tracking) {
    home_.post([this, tracking] {
      notices_ = tracking == RedisClient::Tracking::kUp     ? JuicefsKnown::Notices::kComplete
                 : tracking == RedisClient::Tracking::kDown ? JuicefsKnown::Notices::kMissing
                                                            : JuicefsKnown::Notices::kNone;
      if (known_) known_->set_notices(notices_, now_ns());
      tell_changes({notice(shm::NoticeKind::kEverything, 0)});
    });
  };
  redis_ = std::make_unique<RedisClient>(redis_options(options_), std::move(hooks));
}

JuicefsVolume::~JuicefsVolume() {
  redis_->close();
  if (const auto opened = context()) opened->store->close();
}

Status JuicefsVolume::accept(const Reply& setting) {
  const std::string database = "database " + std::to_string(options_.redis.database);
  if (!setting.is_string()) return Status(ENOENT, database + " holds no JuiceFS volume");
  const Result<juicefs::Setting> parsed = juicefs::parse_setting(setting.text);
  const std::lock_guard lock(mutex_);
  refusal_ = parsed.error_number() == ENOTSUP ? parsed.status().message() : "";
  if (!parsed.ok()) return parsed.status().with_context("the JuiceFS volume in " + database);
  if (!uuid_.empty() && uuid_ != parsed->uuid) {
    return Status(EIO, database + " holds another JuiceFS volume than before (" + printable(parsed->name) +
                           "); restart cached to read that one");
  }
  if (context_ != nullptr) return Status();
  Result<std::shared_ptr<origin::BlockStore>> store = open_store_(*parsed);
  if (!store.ok()) return store.status();
  context_ = std::make_shared<JuicefsObject::Context>(*parsed, std::move(store).value(), log_, *this,
                                                      origin_counters_);
  uuid_ = parsed->uuid;
  const uint64_t tag = XXH3_64bits(uuid_.data(), uuid_.size()) | 1;
  home_.post([this, tag] {
    known_ = std::make_unique<JuicefsKnown>(names_, options_.id, tag, options_.known_inodes, notices_);
    tag_ = tag;
  });
  log_info("volume {}: JuiceFS volume {} in {}, blocks in {}", options_.name, printable(parsed->name),
           database, printable(parsed->bucket));
  return Status();
}

void JuicefsVolume::keys_changed(const std::vector<std::string>& keys) {
  if (!known_) return;
  std::vector<shm::Notice> notices;
  if (keys.empty()) {
    known_->all_changed(now_ns());
    notices.push_back(notice(shm::NoticeKind::kEverything, 0));
  }
  for (const std::string& key : keys) {
    const uint64_t ino = juicefs::ino_of_key(key);
    if (ino == 0) continue;
    const bool entries = key.front() == 'd';
    if (entries) {
      known_->entries_changed(ino, now_ns());
    } else {
      known_->inode_changed(ino, now_ns());
    }
    if (key.front() == 'c') maps_.erase(ino);
    notices.push_back(notice(entries ? shm::NoticeKind::kEntries : shm::NoticeKind::kInode, ino));
  }
  tell_changes(notices);
}

shm::Notice JuicefsVolume::notice(shm::NoticeKind kind, uint64_t ino) const {
  return {.kind = kind, .handle = {tag_, ino}, .told_at_ns = now_ns()};
}

uint32_t JuicefsVolume::answer_timeout_ms() const {
  const auto metadata_ms = static_cast<uint32_t>(options_.metadata_timeout_ns / kNanosecondsPerMillisecond);
  return std::max(metadata_ms, origin::longest_operation_ms(options_.origin_timeout_ms)) + kAnswerSlackMs;
}

std::string JuicefsVolume::trouble() {
  const std::string redis = redis_->trouble();
  if (!redis.empty()) return redis;
  const std::lock_guard lock(mutex_);
  return refusal_;
}

std::shared_ptr<JuicefsObject::Context> JuicefsVolume::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

// Asking. -----------------------------------------------------------------------------------------------

io::Task<bool> JuicefsVolume::ready() {
  const uint64_t deadline_ns = now_ns() + options_.metadata_timeout_ns;
  while (tag_ == 0) {
    {
      const std::lock_guard lock(mutex_);
      if (!refusal_.empty()) co_return false;
    }
    if (now_ns() >= deadline_ns) co_return false;
    co_await home_.sleep_until(now_ns() + kReadyPollNs);
  }
  co_return true;
}

io::Task<Result<JuicefsVolume::Reply>> JuicefsVolume::ask(Script script, std::vector<std::string> arguments) {
  origin::Call<Reply> call = redis_->run_script(static_cast<size_t>(script), std::move(arguments),
                                                now_ns() + options_.metadata_timeout_ns);
  Result<Reply> reply = co_await std::move(call).on(home_);
  if (!reply.ok()) {
    if (reply.error_number() == EIO) log_->report("metadata", reply.status().message());
    co_return Status(EIO, reply.status().message());
  }
  if (!reply->is_array()) co_return Status(EIO, "Redis answers what no script returns");
  co_return reply;
}

uint64_t JuicefsVolume::ino_of(const shm::Handle& handle) const {
  return handle.high == tag_ && handle.low < juicefs::kTrashIno ? handle.low : 0;
}

Outcome JuicefsVolume::damaged(uint64_t ino, const std::string& why) {
  log_->report("inode " + std::to_string(ino), "its metadata is damaged: " + why);
  return Outcome{.error = EIO};
}

// After a restart an inode may be asked for by its number before the directories above it were found by name:
// it counts for the volume until then.
DataSetMap::Place JuicefsVolume::place_of_directory(const DataSetMap& map, uint64_t ino) {
  return ino == juicefs::kRootIno ? map.root() : places_.find(map, ino);
}

uint16_t JuicefsVolume::data_set_of(uint64_t ino, const FoundIn& where, const Reply& attributes,
                                    bool is_directory) {
  const std::shared_ptr<const DataSetMap> map = data_sets();
  if (!map->has_directories()) return map->root().tag;
  if (where.directory != 0) {
    const DataSetMap::Place place = map->below(place_of_directory(*map, where.directory), where.name);
    if (is_directory) places_.put(*map, ino, place);
    return place.tag;
  }
  if (is_directory) return place_of_directory(*map, ino).tag;
  const Result<juicefs::Attributes> parsed = juicefs::parse_attributes(attributes.text);
  return parsed.ok() ? place_of_directory(*map, parsed->parent).tag : map->root().tag;
}

Result<shm::InodeInfo> JuicefsVolume::learn(uint64_t ino, const FoundIn& where, const Reply& attributes,
                                            const Reply& slices, const Reply& xattrs, uint64_t asked_at_ns) {
  Result<shm::InodeInfo> info =
      juicefs::inode_info(tag_, ino, attributes.text, slices.text, xattrs.integer != 0);
  if (!info.ok()) {
    damaged(ino, info.status().message());
    return Status(EIO, info.status().message());
  }
  info->validated_at_ns = known_->current(ino, asked_at_ns) ? asked_at_ns : shm::kNeverValidatedNs;
  info->data_set = data_set_of(ino, where, attributes, S_ISDIR(info->mode));
  known_->put_inode(*info);
  const bool small = S_ISREG(info->mode) && info->size > 0 && info->size <= kSmallFileBytes;
  if (small && where.directory != 0) named_files_.put(ino, {where.directory, std::string(where.name)});
  if (info->layout == shm::LayoutKind::kObject) note_named(ino, info->object, asked_at_ns);
  return info;
}

// An entry and its inode agree, and a directory is where it says that it is: so no walk ever comes back to
// where it was.
Status JuicefsVolume::check_child(const juicefs::DirectoryEntry& entry, uint64_t parent,
                                  const Reply& attributes) const {
  if (attributes.is_nil())
    return Status(EIO, "a name in directory " + std::to_string(parent) + " leads to it");
  const Result<juicefs::Attributes> parsed = juicefs::parse_attributes(attributes.text);
  if (!parsed.ok()) return parsed.status();
  if (parsed->type != entry.type) return Status(EIO, "its name says that it has another type");
  if (entry.type != juicefs::FileType::kDirectory) return Status();
  if (parsed->parent != parent || entry.ino == juicefs::kRootIno || entry.ino == parent)
    return Status(EIO, "it is a directory in " + std::to_string(parent) + " and says that it is in " +
                           std::to_string(parsed->parent));
  return Status();
}

io::Task<InodeAnswer> JuicefsVolume::attributes_of(uint64_t ino) {
  const uint64_t asked_at_ns = now_ns();
  std::vector<std::string> arguments{std::to_string(ino)};
  const Result<Reply> reply = co_await ask(Script::kInodes, std::move(arguments));
  if (!reply.ok()) co_return InodeAnswer{Outcome{.error = EIO}};
  if (reply->items.size() != 3) co_return InodeAnswer{damaged(ino, "Redis answers something else")};
  if (reply->items[0].is_nil()) {
    names_.remove_inode(options_.id, {tag_, ino});
    co_return InodeAnswer{Outcome{.error = ino == juicefs::kRootIno ? EIO : ESTALE}};
  }
  const Result<shm::InodeInfo> info =
      learn(ino, {}, reply->items[0], reply->items[1], reply->items[2], asked_at_ns);
  if (!info.ok()) co_return InodeAnswer{Outcome{.error = EIO}};
  co_return InodeAnswer{Outcome{}, *info};
}

io::Task<InodeAnswer> JuicefsVolume::lookup_in(uint64_t parent, std::string name) {
  if (parent == juicefs::kRootIno && name == kTrashName) co_return InodeAnswer{Outcome{.error = ENOENT}};
  const uint64_t asked_at_ns = now_ns();
  std::vector<std::string> arguments{std::to_string(parent), name};
  const Result<Reply> reply = co_await ask(Script::kLookup, std::move(arguments));
  if (!reply.ok()) co_return InodeAnswer{Outcome{.error = EIO}};
  const std::vector<Reply>& items = reply->items;
  if (items.size() != 5) co_return InodeAnswer{damaged(parent, "Redis answers something else")};
  note_lookup(parent, static_cast<uint64_t>(items[4].integer));
  if (items[0].is_nil()) {
    known_->put_absent(parent, name, asked_at_ns);
    co_return InodeAnswer{Outcome{.error = ENOENT}};
  }
  const Result<juicefs::DirectoryEntry> entry = juicefs::parse_entry(items[0].text);
  if (!entry.ok()) co_return InodeAnswer{damaged(parent, entry.status().message())};
  const Status sound = check_child(*entry, parent, items[1]);
  if (!sound.ok()) co_return InodeAnswer{damaged(entry->ino, sound.message())};
  const Result<shm::InodeInfo> info =
      learn(entry->ino, {parent, name}, items[1], items[2], items[3], asked_at_ns);
  if (!info.ok()) co_return InodeAnswer{Outcome{.error = EIO}};
  known_->put_name(parent, name, entry->ino, asked_at_ns);
  InodeAnswer answer{Outcome{}, *info};
  if (!known_->current(parent, asked_at_ns)) answer.info.validated_at_ns = shm::kNeverValidatedNs;
  co_return answer;
}

InodeAnswer JuicefsVolume::root(uint64_t snapshot) {
  if (snapshot != 0) return InodeAnswer{Outcome{.error = EINVAL}};
  // Whoever is late finds nobody waiting: the promise belongs to both.
  const auto promise = std::make_shared<std::promise<InodeAnswer>>();
  std::future<InodeAnswer> future = promise->get_future();
  const auto get = [](JuicefsVolume* self,
                      std::shared_ptr<std::promise<InodeAnswer>> place) -> io::Task<void> {
    std::string path;
    place->set_value(co_await self->walk(std::move(path)));
  };
  home_.post([this, promise, get] { io::spawn(get(this, promise)); });
  if (future.wait_for(std::chrono::nanoseconds(options_.root_wait_ns)) != std::future_status::ready)
    return InodeAnswer{Outcome{.error = ETIMEDOUT}};
  return future.get();
}

io::Task<InodeAnswer> JuicefsVolume::walk(std::string path) {
  const bool known = co_await ready();
  if (!known) co_return InodeAnswer{Outcome{.error = EIO}};
  InodeAnswer answer = co_await attributes_of(juicefs::kRootIno);
  for (size_t begin = 0; begin < path.size() && answer.outcome.ok();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    std::string name = path.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty()) continue;
    if (!is_name(name)) co_return InodeAnswer{Outcome{.error = EINVAL}};
    if (!S_ISDIR(answer.info.mode)) co_return InodeAnswer{Outcome{.error = ENOTDIR}};
    answer = co_await lookup_in(answer.info.ino, std::move(name));
  }
  co_return answer;
}

io::Task<InodeAnswer> JuicefsVolume::lookup(io::Reactor& caller, shm::Handle parent, std::string name) {
  if (name.size() > NAME_MAX) co_return InodeAnswer{Outcome{.error = ENAMETOOLONG}};
  if (!is_name(name)) co_return InodeAnswer{Outcome{.error = EINVAL}};
  co_await home_.hop();
  InodeAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known && ino_of(parent) == 0) answer.outcome.error = ESTALE;
  if (known && ino_of(parent) != 0) answer = co_await lookup_in(ino_of(parent), std::move(name));
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> JuicefsVolume::attributes(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  InodeAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known && ino_of(handle) == 0) answer.outcome.error = ESTALE;
  if (known && ino_of(handle) != 0) answer = co_await attributes_of(ino_of(handle));
  co_await caller.hop();
  co_return answer;
}

io::Task<InodeAnswer> JuicefsVolume::resolve(io::Reactor& caller, std::string path) {
  if (path.size() >= PATH_MAX) co_return InodeAnswer{Outcome{.error = ENAMETOOLONG}};
  co_await home_.hop();
  const InodeAnswer answer = co_await walk(std::move(path));
  co_await caller.hop();
  co_return answer;
}

// Links and extended attributes. -------------------------------------------------------------------------

io::Task<BytesAnswer> JuicefsVolume::target_of(uint64_t ino) {
  std::vector<std::string> arguments{"GET", "s" + std::to_string(ino)};
  origin::Call<Reply> call = redis_->command(std::move(arguments), now_ns() + options_.metadata_timeout_ns);
  Result<Reply> reply = co_await std::move(call).on(home_);
  if (!reply.ok()) co_return BytesAnswer{Outcome{.error = EIO}};
  if (!reply->is_string() || reply->text.empty()) co_return BytesAnswer{damaged(ino, "it has no target")};
  co_return BytesAnswer{Outcome{}, std::move(reply->text)};
}

io::Task<BytesAnswer> JuicefsVolume::xattr_of(uint64_t ino, std::string name) {
  std::vector<std::string> arguments{std::to_string(ino), name};
  Result<Reply> reply = co_await ask(Script::kXattrs, std::move(arguments));
  if (!reply.ok()) co_return BytesAnswer{Outcome{.error = EIO}};
  std::vector<Reply>& items = reply->items;
  if (items.size() != 4) co_return BytesAnswer{Outcome{.error = ESTALE}};
  if (name == kAccessAcl || name == kDefaultAcl) {
    const Result<juicefs::Attributes> attributes = juicefs::parse_attributes(items[0].text);
    if (!attributes.ok()) co_return BytesAnswer{damaged(ino, attributes.status().message())};
    const bool access = name == kAccessAcl;
    if ((access ? attributes->access_acl : attributes->default_acl) == 0)
      co_return BytesAnswer{Outcome{.error = ENODATA}};
    Result<std::string> value = juicefs::acl_as_xattr(items[access ? 1 : 2].text);
    if (!value.ok()) co_return BytesAnswer{damaged(ino, value.status().message())};
    co_return BytesAnswer{Outcome{}, std::move(value).value()};
  }
  if (!items[3].is_string()) co_return BytesAnswer{Outcome{.error = ENODATA}};
  co_return BytesAnswer{Outcome{}, std::move(items[3].text)};
}

io::Task<BytesAnswer> JuicefsVolume::xattr_names(uint64_t ino) {
  std::vector<std::string> arguments{std::to_string(ino)};
  const Result<Reply> reply = co_await ask(Script::kXattrs, std::move(arguments));
  if (!reply.ok()) co_return BytesAnswer{Outcome{.error = EIO}};
  const std::vector<Reply>& items = reply->items;
  if (items.size() != 4) co_return BytesAnswer{Outcome{.error = ESTALE}};
  BytesAnswer answer;
  for (const Reply& name : items[3].items) {
    if (!name.text.empty() && name.text.find('\0') == std::string::npos) answer.bytes += name.text + '\0';
  }
  if (items[1].is_string()) answer.bytes += kAccessAcl + std::string(1, '\0');
  if (items[2].is_string()) answer.bytes += kDefaultAcl + std::string(1, '\0');
  co_return answer;
}

io::Task<BytesAnswer> JuicefsVolume::read_link(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  BytesAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known) answer = co_await target_of(ino_of(handle));
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> JuicefsVolume::get_xattr(io::Reactor& caller, shm::Handle handle, std::string name) {
  co_await home_.hop();
  BytesAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known) answer = co_await xattr_of(ino_of(handle), std::move(name));
  co_await caller.hop();
  co_return answer;
}

io::Task<BytesAnswer> JuicefsVolume::list_xattrs(io::Reactor& caller, shm::Handle handle) {
  co_await home_.hop();
  BytesAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known) answer = co_await xattr_names(ino_of(handle));
  co_await caller.hop();
  co_return answer;
}

// Listings. ---------------------------------------------------------------------------------------------

void JuicefsVolume::note_lookup(uint64_t parent, uint64_t entries) {
  Use* use = uses_.get(parent);
  if (use == nullptr) use = uses_.put(parent, Use{});
  ++use->lookups;
  use->entries = entries;
  if (use->loading || entries > kLoadedEntries || use->lookups < kLookupsBeforeLoad ||
      use->lookups * kEntriesOfLookup < entries || !known_->current(parent, now_ns())) {
    return;
  }
  use->loading = true;
  io::spawn(load(parent));
}

io::Task<void> JuicefsVolume::load(uint64_t directory) {
  const Result<std::shared_ptr<const Listing>> listing = co_await scan(directory, true);
  if (listing.ok()) listings_.put(directory, *listing);
  if (!listing.ok())
    log_debug("volume {}: directory {}: {}", options_.name, directory, listing.status().message());
  if (Use* const use = uses_.get(directory)) *use = Use{.entries = use->entries};
}

Status JuicefsVolume::take_scanned(uint64_t directory, const Reply& reply, bool with_attributes,
                                   Listing* listing) {
  const size_t width = with_attributes ? 5 : 2;
  const std::vector<Reply>& items = reply.items;
  if (items.empty() || !items[0].is_string() || (items.size() - 1) % width != 0)
    return Status(EIO, "Redis answers something else");
  for (size_t at = 1; at < items.size(); at += width) {
    const std::string& name = items[at].text;
    const Result<juicefs::DirectoryEntry> entry = juicefs::parse_entry(items[at + 1].text);
    if (!entry.ok() || !is_name(name)) {
      // The rest of the directory is worth showing; a lookup of this name says EIO.
      damaged(directory, entry.ok() ? "the name \"" + printable(name) + "\"" : entry.status().message());
      continue;
    }
    if (directory == juicefs::kRootIno && name == kTrashName) continue;
    listing->names.push_back({cookie_of(name), name, *entry});
    if (!with_attributes) continue;
    const Status sound = check_child(*entry, directory, items[at + 2]);
    if (!sound.ok()) {
      damaged(entry->ino, sound.message());
      continue;
    }
    const Result<shm::InodeInfo> info = learn(entry->ino, {directory, name}, items[at + 2], items[at + 3],
                                              items[at + 4], listing->asked_at_ns);
    if (info.ok()) known_->put_name(directory, name, entry->ino, listing->asked_at_ns);
  }
  return Status();
}

io::Task<Result<std::shared_ptr<const JuicefsVolume::Listing>>> JuicefsVolume::scan(uint64_t directory,
                                                                                    bool with_attributes) {
  const auto listing = std::make_shared<Listing>();
  listing->asked_at_ns = now_ns();
  std::string cursor = "0";
  do {
    const bool attributes = with_attributes && listing->names.size() < kListedWithAttributes;
    std::vector<std::string> arguments{std::to_string(directory), cursor, std::to_string(kScanBatch),
                                       attributes ? "1" : "0"};
    const Result<Reply> reply = co_await ask(Script::kScan, std::move(arguments));
    if (!reply.ok()) co_return reply.status();
    const Status taken = take_scanned(directory, *reply, attributes, listing.get());
    if (!taken.ok()) co_return taken;
    cursor = reply->items[0].text;
    if (listing->names.size() > kMaximumListed) co_return Status(EIO, "the directory is too large");
  } while (cursor != "0");
  // A table that grows or shrinks meanwhile gives names twice.
  std::vector<ListedName>& names = listing->names;
  const auto key = [](const ListedName& listed) { return std::tie(listed.cookie, listed.name); };
  std::sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  names.erase(
      std::unique(names.begin(), names.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); }),
      names.end());
  co_return std::shared_ptr<const Listing>(listing);
}

io::Task<Status> JuicefsVolume::add_attributes(uint64_t directory, uint64_t asked_after_ns,
                                               std::vector<DirectoryItem>* items) {
  std::vector<std::string> arguments;
  std::vector<size_t> places;
  for (size_t i = 0; i < items->size(); ++i) {
    DirectoryItem& item = (*items)[i];
    const std::optional<shm::InodeInfo> known = names_.find_inode(options_.id, {tag_, item.ino});
    item.has_info = known && known->validated_at_ns >= asked_after_ns;
    if (item.has_info) {
      item.info = *known;
      continue;
    }
    arguments.push_back(std::to_string(item.ino));
    places.push_back(i);
  }
  if (places.empty()) co_return Status();
  const uint64_t asked_at_ns = now_ns();
  const Result<Reply> reply = co_await ask(Script::kInodes, std::move(arguments));
  if (!reply.ok()) co_return reply.status();
  if (reply->items.size() != places.size() * 3) co_return Status(EIO, "Redis answers something else");
  for (size_t i = 0; i < places.size(); ++i) {
    const Reply* const found = &reply->items[i * 3];
    if (found->is_nil()) continue;  // removed since it was listed
    DirectoryItem& item = (*items)[places[i]];
    const Result<shm::InodeInfo> info =
        learn(item.ino, {directory, item.name}, found[0], found[1], found[2], asked_at_ns);
    if (!info.ok()) continue;
    item.has_info = IFTODT(info->mode) == item.type;
    item.info = *info;
  }
  co_return Status();
}

io::Task<DirectoryAnswer> JuicefsVolume::list(uint64_t directory, uint64_t cookie, bool with_attributes,
                                              unsigned maximum_items) {
  std::shared_ptr<const Listing> listing;
  if (const auto* const begun = cookie == 0 ? nullptr : listings_.get(directory)) listing = *begun;
  if (listing == nullptr) {
    Result<std::shared_ptr<const Listing>> read = co_await scan(directory, with_attributes && cookie == 0);
    if (!read.ok()) co_return DirectoryAnswer{Outcome{.error = EIO}};
    listing = std::move(read).value();
    listings_.put(directory, listing);
  }
  const std::vector<ListedName>& names = listing->names;
  auto at = std::lower_bound(names.begin(), names.end(), cookie,
                             [](const ListedName& listed, uint64_t from) { return listed.cookie < from; });
  DirectoryAnswer answer;
  for (; at != names.end() && answer.items.size() < maximum_items; ++at) {
    DirectoryItem item;
    item.name = at->name;
    item.ino = at->entry.ino;
    item.next_cookie = at->cookie + 1;
    item.type = juicefs::dirent_of_type(at->entry.type);
    answer.items.push_back(std::move(item));
  }
  answer.end = at == names.end();
  if (with_attributes) {
    const Status added = co_await add_attributes(directory, listing->asked_at_ns, &answer.items);
    if (!added.ok()) co_return DirectoryAnswer{Outcome{.error = EIO}};
  }
  co_return answer;
}

io::Task<DirectoryAnswer> JuicefsVolume::read_directory(io::Reactor& caller, shm::Handle handle,
                                                        uint64_t cookie, bool with_attributes,
                                                        unsigned maximum_items) {
  co_await home_.hop();
  DirectoryAnswer answer{Outcome{.error = EIO}};
  const bool known = co_await ready();
  if (known && ino_of(handle) == 0) answer.outcome.error = ESTALE;
  if (known && ino_of(handle) != 0)
    answer = co_await list(ino_of(handle), cookie, with_attributes, maximum_items);
  co_await caller.hop();
  co_return answer;
}

// Maps and objects. -------------------------------------------------------------------------------------

Result<shm::MapRun> JuicefsVolume::merge_run(uint64_t ino, const Reply& reply, uint64_t length,
                                             uint64_t first_chunk, uint64_t asked_at_ns) {
  shm::MapRun run;
  for (size_t i = 1; i < reply.items.size(); ++i) {
    const uint64_t base = (first_chunk + i - 1) * juicefs::kChunkBytes;
    if (base >= length) break;
    const Result<std::vector<juicefs::Slice>> slices = juicefs::parse_slices(reply.items[i].text);
    if (!slices.ok()) {
      damaged(ino, slices.status().message());
      return slices.status();
    }
    const std::vector<shm::MapPiece> pieces =
        juicefs::merge_slices(*slices, base, std::min(juicefs::kChunkBytes, length - base));
    for (const shm::MapPiece& piece : pieces) {
      if (!piece.object.empty()) note_named(ino, piece.object, asked_at_ns);
    }
    run.insert(run.end(), pieces.begin(), pieces.end());
  }
  return run;
}

io::Task<Result<std::shared_ptr<const shm::MapRun>>> JuicefsVolume::map_run(uint64_t ino,
                                                                            shm::ObjectId version,
                                                                            uint64_t number) {
  if (const Maps* const maps = maps_.get(ino); maps != nullptr && maps->version == version) {
    const auto found = maps->runs.find(number);
    if (found != maps->runs.end()) co_return found->second;
  }
  const uint64_t asked_at_ns = now_ns();
  std::vector<std::string> arguments{std::to_string(ino), std::to_string(number * kChunksOfRun),
                                     std::to_string(kChunksOfRun)};
  const Result<Reply> reply = co_await ask(Script::kMap, std::move(arguments));
  if (!reply.ok()) co_return reply.status();
  if (reply->items.size() != kChunksOfRun + 1) co_return Status(EIO, "Redis answers something else");
  if (reply->items[0].is_nil()) co_return Status(ESTALE, "the inode is gone");
  const Result<juicefs::Attributes> attributes = juicefs::parse_attributes(reply->items[0].text);
  if (!attributes.ok()) {
    damaged(ino, attributes.status().message());
    co_return Status(EIO, attributes.status().message());
  }
  if (!(juicefs::version_of(ino, *attributes) == version)) {
    names_.remove_inode(options_.id, {tag_, ino});
    co_return Status(ESTALE, "the file has another version");
  }
  Result<shm::MapRun> merged = merge_run(ino, *reply, attributes->length, number * kChunksOfRun, asked_at_ns);
  if (!merged.ok()) co_return Status(EIO, merged.status().message());
  const auto run = std::make_shared<const shm::MapRun>(std::move(merged).value());
  if (run->size() > kKeptPieces || !known_->current(ino, asked_at_ns)) co_return run;
  Maps* maps = maps_.get(ino);
  if (maps == nullptr || !(maps->version == version)) maps = maps_.put(ino, Maps{version, {}});
  maps->runs[number] = run;
  co_return run;
}

io::Task<MapAnswer> JuicefsVolume::file_map(io::Reactor& caller, shm::Handle handle, shm::ObjectId version,
                                            uint64_t offset) {
  co_await home_.hop();
  MapAnswer answer;
  const bool known = co_await ready();
  const uint64_t ino = known ? ino_of(handle) : 0;
  if (ino == 0 || offset >= juicefs::kMaximumFileBytes) {
    answer.outcome.error = !known ? EIO : ino == 0 ? ESTALE : EINVAL;
  } else {
    const Result<std::shared_ptr<const shm::MapRun>> run = co_await map_run(ino, version, offset / kRunBytes);
    if (!run.ok()) {
      answer.outcome = run.error_number() == ESTALE ? changed() : Outcome{.error = EIO};
    } else if (const shm::MapPiece* const first = shm::find_piece_of(**run, offset)) {
      const auto left = static_cast<size_t>((*run)->data() + (*run)->size() - first);
      answer.pieces.assign(first, first + std::min(left, kPiecesOfAnswer));
    } else {
      answer.outcome.error = EINVAL;  // beyond the end
    }
  }
  co_await caller.hop();
  co_return answer;
}

void JuicefsVolume::note_named(uint64_t ino, const shm::ObjectId& object, uint64_t asked_at_ns) {
  if (gone_.size() == 0) return;
  Gone* const gone = gone_.get({ino, object.high});
  if (gone != nullptr && asked_at_ns > gone->reported_at_ns) gone->still_named = true;
}

io::Task<Outcome> JuicefsVolume::missing_block(io::Reactor& reactor, shm::Handle handle,
                                               juicefs::SliceName slice) {
  co_await home_.hop();
  Outcome outcome = changed();
  const uint64_t ino = ino_of(handle);
  const Gone* const gone = gone_.get({ino, slice.id});
  const bool recent = gone != nullptr && now_ns() - gone->reported_at_ns < kLostForNs;
  if (recent && gone->still_named) {
    log_->report("slice " + std::to_string(slice.id),
                 "a block of it is missing, and inode " + std::to_string(ino) + " still needs it");
    outcome = Outcome{.error = EIO};
  } else {
    if (!recent) gone_.put({ino, slice.id}, Gone{now_ns(), false});
    maps_.erase(ino);
    names_.remove_inode(options_.id, handle);
  }
  co_await reactor.hop();
  co_return outcome;
}

io::Task<origin::OpenedObject> JuicefsVolume::open(io::Reactor& caller, shm::Handle handle,
                                                   shm::ObjectId object, origin::Opener opener) {
  const Result<juicefs::SliceName> slice = juicefs::slice_of_object(object);
  if (!slice.ok()) co_return origin::OpenedObject{changed()};
  std::shared_ptr<JuicefsObject::Context> opened = context();
  if (opened == nullptr) {
    co_await home_.hop();
    const bool known = co_await ready();
    co_await caller.hop();
    if (!known) co_return origin::OpenedObject{Outcome{.error = EIO}};
    opened = context();
  }
  const std::shared_ptr<const DataSetMap> map = data_sets();
  origin::OpenedObject answer;
  answer.data_set = map->root().tag;
  const bool note = opener == origin::Opener::kReader && slice->size <= kSmallFileBytes;
  if (map->has_directories() || note) {
    co_await home_.hop();
    const std::optional<shm::InodeInfo> known = names_.find_inode(options_.id, handle);
    if (known && known->data_set != 0) answer.data_set = known->data_set;
    answer.files_follow = note && files_follow(ino_of(handle));
    co_await caller.hop();
  }
  answer.reader = std::make_shared<JuicefsObject>(std::move(opened), handle, *slice);
  co_return answer;
}

// Files that are read in order. -------------------------------------------------------------------------

bool JuicefsVolume::files_follow(uint64_t ino) {
  const NamedFile* const file = named_files_.get(ino);
  return file != nullptr && streams_.note({tag_, file->directory}, file->name);
}

// The listing that a directory's lookups have asked for will do, once it is there.
io::Task<void> JuicefsVolume::learn_order(uint64_t directory) {
  const uint64_t deadline_ns = now_ns() + options_.metadata_timeout_ns;
  for (const Use* use = uses_.get(directory); use != nullptr && use->loading && now_ns() < deadline_ns;
       use = uses_.get(directory))
    co_await home_.sleep_until(now_ns() + kReadyPollNs / 10);
  const auto fresh = [&]() -> std::shared_ptr<const Listing> {
    const auto* const kept = listings_.get(directory);
    return kept != nullptr && (*kept)->asked_at_ns + kOrderHoldsNs > now_ns() ? *kept : nullptr;
  };
  std::shared_ptr<const Listing> listing = fresh();
  Use* const use = uses_.get(directory);
  if (listing == nullptr && use != nullptr && !use->loading && use->entries <= kLoadedEntries) {
    use->loading = true;
    co_await load(directory);
    listing = fresh();
  }
  if (listing == nullptr || listing->names.size() > kOrderedEntries) {
    streams_.give_up({tag_, directory});
    co_return;
  }
  std::vector<std::string> names;
  for (const ListedName& listed : listing->names) {
    if (listed.entry.type == juicefs::FileType::kFile) names.push_back(listed.name);
  }
  streams_.set_order({tag_, directory}, std::make_shared<const FileOrder>(names));
}

std::optional<origin::FollowingFile> JuicefsVolume::small_file(uint64_t directory, const std::string& name) {
  const auto named = names_.find_name(options_.id, {tag_, directory}, name);
  if (!named || (named->flags & shm::kNameAbsent) != 0) return std::nullopt;
  const std::optional<shm::InodeInfo> info = names_.find_inode(options_.id, named->child);
  if (!info || !S_ISREG(info->mode) || info->layout != shm::LayoutKind::kObject || info->size == 0 ||
      info->size > kSmallFileBytes || info->layout_base + info->size > shm::kExtentBytes)
    return std::nullopt;
  return origin::FollowingFile{info->handle, info->object, info->layout_base, info->size, info->data_set};
}

io::Task<std::vector<origin::FollowingFile>> JuicefsVolume::files_ahead(io::Reactor& caller,
                                                                        shm::Handle handle) {
  co_await home_.hop();
  std::vector<origin::FollowingFile> files;
  if (const NamedFile* const known = named_files_.get(ino_of(handle))) {
    const uint64_t directory = known->directory;
    const shm::Handle of_directory{tag_, directory};
    if (streams_.wants_order(of_directory)) co_await learn_order(directory);
    while (files.empty()) {
      const std::vector<std::string> names = streams_.take(of_directory, kFilesAtOnce);
      if (names.empty()) break;
      for (const std::string& name : names) {
        if (const auto file = small_file(directory, name)) files.push_back(*file);
      }
    }
  }
  co_await caller.hop();
  co_return files;
}

// Figures. ----------------------------------------------------------------------------------------------

io::Task<StatisticsAnswer> JuicefsVolume::statistics(io::Reactor& caller) {
  co_await home_.hop();
  StatisticsAnswer answer;
  std::vector<std::string> arguments{"MGET", "usedSpace", "totalInodes"};
  origin::Call<Reply> call = redis_->command(std::move(arguments), now_ns() + options_.metadata_timeout_ns);
  const Result<Reply> reply = co_await std::move(call).on(home_);
  if (reply.ok() && reply->items.size() == 2) {
    const std::lock_guard lock(mutex_);
    statistics_ = {number_in(reply->items[0].text), number_in(reply->items[1].text), 1, 0};
  } else {
    answer.outcome.error = EIO;
  }
  answer.statistics = known_statistics();
  co_await caller.hop();
  co_return answer;
}

io::Task<void> JuicefsVolume::refresh_statistics() {
  if (std::exchange(refreshing_statistics_, true)) co_return;
  static_cast<void>(co_await statistics(home_));
  refreshing_statistics_ = false;
}

TreeTotals JuicefsVolume::tree_totals(const std::string& path) {
  if (path.empty()) {
    home_.post([this] { io::spawn(refresh_statistics()); });
    const shm::VolumeStatistics known = known_statistics();
    return {known.bytes, known.files, known.complete != 0};
  }
  const uint64_t hour = 1 + now_ns() / kRecountNs;
  bool count = false;
  const TreeTotals totals = directory_totals_.find(path, hour, &count);
  if (count) home_.post([this, path, hour] { io::spawn(count_directory(path, hour)); });
  return totals;
}

io::Task<void> JuicefsVolume::count_directory(std::string path, uint64_t state) {
  const Result<TreeTotals> totals = co_await count_below(path);
  directory_totals_.end(options_.name, path, state, totals);
}

io::Task<Status> JuicefsVolume::count_in(uint64_t directory, TreeTotals* totals,
                                         std::vector<uint64_t>* directories) {
  const uint64_t files_before = totals->files;
  std::string cursor = "0";
  do {
    const uint64_t asked_at_ns = now_ns();
    std::vector<std::string> arguments{std::to_string(directory), cursor, std::to_string(kScanBatch)};
    const Result<Reply> reply = co_await ask(Script::kTotals, std::move(arguments));
    if (!reply.ok()) co_return reply.status();
    const std::vector<Reply>& items = reply->items;
    if (items.size() < 3 || !items[0].is_string()) co_return Status(EIO, "Redis answers something else");
    totals->files += static_cast<uint64_t>(items[2].integer);
    for (size_t i = 3; i < items.size(); ++i) directories->push_back(number_in(items[i].text));
    cursor = items[0].text;
    if (cursor == "0" && items[1].is_string()) totals->bytes += number_in(items[1].text);
    if (cursor == "0" && !items[1].is_string() && totals->files > files_before)
      co_return Status(ENODATA, "JuiceFS keeps no statistics of directory " + std::to_string(directory));
    // Redis is others' as well.
    co_await home_.sleep_until(2 * now_ns() - asked_at_ns);
  } while (cursor != "0");
  co_return Status();
}

io::Task<Result<TreeTotals>> JuicefsVolume::count_below(std::string path) {
  const InodeAnswer found = co_await walk(std::move(path));
  if (!found.outcome.ok() || !S_ISDIR(found.info.mode)) co_return Status(ENOENT, "no such directory");
  TreeTotals totals;
  std::vector<uint64_t> directories{found.info.ino};
  std::unordered_set<uint64_t> seen;
  while (!directories.empty()) {
    const uint64_t directory = directories.back();
    directories.pop_back();
    // A loop of directories is damage that others report.
    if (!seen.insert(directory).second) continue;
    if (seen.size() > kCountedDirectories) co_return Status(E2BIG, "it has too many directories");
    const Status counted = co_await count_in(directory, &totals, &directories);
    if (!counted.ok()) co_return counted;
  }
  totals.counted = true;
  co_return totals;
}

shm::VolumeStatistics JuicefsVolume::known_statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace cached::volume
