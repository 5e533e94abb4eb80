// cached: the daemon. Starts its parts from the bottom up, waits for a signal, and ends them from the top
// down.
#include <signal.h>
#include <sodium.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

#include "base/log.h"
#include "base/metric_table.h"
#include "base/units.h"
#include "cached/admin/control_server.h"
#include "cached/config/config.h"
#include "cached/config/reload.h"
#include "cached/io/file_device.h"
#include "cached/memory_tier/name_table.h"
#include "cached/memory_tier/shared_memory.h"
#include "cached/metrics/metrics_server.h"
#include "cached/origin/rados_store.h"
#include "cached/server/cached_metadata.h"
#include "cached/server/data_set_commands.h"
#include "cached/server/data_set_status.h"
#include "cached/server/session_server.h"
#include "cached/server/shard.h"
#include "cached/server/ssd_status.h"
#include "cached/server/status.h"
#include "cached/server/watchdog.h"
#include "cached/ssd_tier/ssd_tier.h"
#include "cached/volume/dir_volume.h"
#include "cached/volume/juicefs_volume.h"
#include "cached/volume/rados_volume.h"
#include "cached/volume/volume_ids.h"

namespace cached {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitBadConfiguration = 2;
// From the signal to the end, whatever hangs: a thread inside a source that does not answer cannot be ended,
// and a service manager would wait a minute and a half for it.
constexpr unsigned kStopLimitS = 10;
// One session may have an eighth of the arena pinned, and this many slots in any arena: a read of 1 MiB needs
// nine.
constexpr int64_t kLeastPinsPerSession = 64;

// Everything that runs, in order of construction; members are destroyed in reverse.
struct Daemon {
  std::unique_ptr<memory_tier::SharedMemory> memory;
  std::vector<std::unique_ptr<server::Shard>> shards;
  std::unique_ptr<ssd_tier::SsdTier> ssd;  // null: no SSD tier
  std::unique_ptr<memory_tier::NameTable> names;
  std::vector<std::unique_ptr<volume::Volume>>
      volumes;  // those that a reload took away too: mounts may have them
  std::map<std::string, volume::Volume*> mountable;  // by name
  server::CurrentDataSets data_sets;
  std::unique_ptr<server::SessionServer> sessions;
  std::unique_ptr<server::SsdReporter> ssd_reporter;
  std::unique_ptr<server::StatusReporter> reporter;
  std::unique_ptr<server::DataSetReporter> data_set_reporter;
  std::unique_ptr<server::DataSetCommands> data_set_commands;
  std::unique_ptr<admin::ControlServer> control;
  std::unique_ptr<metrics::MetricsServer> metrics;  // null: not configured
  std::unique_ptr<server::Watchdog> watchdog;

  ~Daemon();
  Status start(const Config& config);
  // Reads the configuration again and lets take effect what can. An error changes nothing. What did, and what
  // needs a restart: see CONTROL_PROTOCOL.md. Any thread.
  Result<nlohmann::json> reload();

 private:
  Status start_memory(const Config& config);
  void make_ssd_tier(const Config& config);
  Status start_volumes(const Config& config, const std::vector<VolumeConfig>& wanted);
  Status start_volume(const VolumeConfig& config, uint16_t id, const volume::IdentityKey& key,
                      uint64_t name_entries);
  Result<nlohmann::json> show_config();
  Status start_rados_volume(const VolumeConfig& config, uint16_t id);
  void start_juicefs_volume(const VolumeConfig& config, uint16_t id, uint64_t name_entries);
  Status start_servers(const Config& config);
  Status start_metrics(const Config& config);
  std::vector<server::Shard*> shard_pointers() const;
  std::vector<volume::Volume*> volume_pointers() const;

  std::mutex config_mutex_;  // one reload at a time; guards config_
  Config config_;            // in force
};

std::vector<server::Shard*> Daemon::shard_pointers() const {
  std::vector<server::Shard*> pointers;
  for (const auto& shard : shards) pointers.push_back(shard.get());
  return pointers;
}

std::vector<volume::Volume*> Daemon::volume_pointers() const {
  std::vector<volume::Volume*> pointers;
  for (const auto& volume : volumes) pointers.push_back(volume.get());
  return pointers;
}

Status Daemon::start(const Config& config) {
  config_ = config;
  CACHED_RETURN_IF_ERROR(start_memory(config));
  CACHED_RETURN_IF_ERROR(start_volumes(config, config.volumes));
  return start_servers(config);
}

Status Daemon::start_memory(const Config& config) {
  memory_tier::SharedMemory::Options options;
  options.arena_bytes = config.memory.size_bytes;
  options.shards = effective_shards(config.daemon);
  options.index_entries = config.memory.index_entries;
  options.name_entries = config.memory.name_entries;
  options.huge_pages = config.memory.huge_pages;
  Result<std::unique_ptr<memory_tier::SharedMemory>> made = memory_tier::SharedMemory::create(options);
  if (!made.ok()) return made.status();
  memory = std::move(made).value();
  names = std::make_unique<memory_tier::NameTable>(memory->superblock()->name_hash_key, memory->name_writer(),
                                                   memory->inode_writer());
  unsigned fetches = 0;
  for (const VolumeConfig& volume : config.volumes) fetches = std::max(fetches, volume.fetch_in_flight);
  const auto pins_per_session = std::max<int64_t>(
      kLeastPinsPerSession, static_cast<int64_t>(options.arena_bytes / shm::kBlockBytes / 8));
  for (unsigned i = 0; i < options.shards; ++i) {
    Result<std::unique_ptr<server::Shard>> shard =
        server::Shard::create({i, options.shards, std::max(fetches, 1U), pins_per_session}, *memory);
    if (!shard.ok()) return shard.status();
    shards.push_back(std::move(shard).value());
  }
  for (const auto& shard : shards) shard->set_peers(shard_pointers());
  if (!config.devices.empty()) make_ssd_tier(config);
  for (const auto& shard : shards) shard->start();
  memory->start_preparing();
  if (ssd) ssd->start();
  return Status();
}

// A file that is not there is made by the first try to open it, on the thread that opens it; never below
// /dev, where it would lie in memory.
Result<std::unique_ptr<io::Device>> open_device(const DeviceConfig& device) {
  const bool may_create = device.size_bytes != 0 && !device.path.starts_with("/dev/");
  if (may_create && ::access(device.path.c_str(), F_OK) != 0) {
    CACHED_RETURN_IF_ERROR(io::preallocate_file(device.path, device.size_bytes));
  }
  Result<std::unique_ptr<io::FileDevice>> opened =
      io::FileDevice::open(device.path, io::FileDevice::Access::kReadWrite, device.size_bytes);
  if (!opened.ok()) return opened.status();
  return std::unique_ptr<io::Device>(std::move(opened).value());
}

void Daemon::make_ssd_tier(const Config& config) {
  ssd_tier::SsdTier::Options options;
  for (const DeviceConfig& device : config.devices) {
    options.devices.push_back({device.path, [device] { return open_device(device); }, device.queue_depth});
  }
  options.memory_bytes = config.memory.size_bytes;
  options.index_limit_bytes = effective_index_bytes(config.ssd);
  options.queue_limit_bytes =
      std::min<uint64_t>(options.queue_limit_bytes, config.memory.size_bytes / shards.size() / 8);
  options.device_timeout_ns = config.ssd.device_timeout_ms * kNanosecondsPerMillisecond;
  std::vector<io::Reactor*> reactors;
  for (const auto& shard : shards) reactors.push_back(&shard->reactor());
  ssd = std::make_unique<ssd_tier::SsdTier>(options, reactors);
  for (const auto& shard : shards) shard->set_ssd(*ssd);
}

// Starts those volumes of the configuration that are `wanted`; the newest of a name is the one to mount.
Status Daemon::start_volumes(const Config& config, const std::vector<VolumeConfig>& wanted) {
  if (::mkdir(config.daemon.state_dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return config.error("daemon.state_dir", std::string("cannot make the directory: ") + strerror(errno));
  }
  const Result<volume::IdentityKey> key = volume::load_identity_key(config.daemon.state_dir);
  if (!key.ok()) return key.status();
  std::vector<std::string> volume_names;
  for (const VolumeConfig& volume : config.volumes) volume_names.push_back(volume.name);
  const Result<volume::VolumeIds> ids = volume::VolumeIds::load(config.daemon.state_dir, volume_names);
  if (!ids.ok()) return ids.status();
  for (const VolumeConfig& volume : wanted)
    CACHED_RETURN_IF_ERROR(start_volume(volume, ids->of(volume.name), *key, config.memory.name_entries));
  return Status();
}

Status Daemon::start_volume(const VolumeConfig& config, uint16_t id, const volume::IdentityKey& key,
                            uint64_t name_entries) {
  if (config.kind == VolumeKind::kRados) return start_rados_volume(config, id);
  if (config.kind == VolumeKind::kJuicefs) {
    start_juicefs_volume(config, id, name_entries);
    return Status();
  }
  Result<std::unique_ptr<volume::DirVolume>> made =
      volume::DirVolume::create(config, id, key, shards.front()->reactor(), *names);
  if (!made.ok()) return made.status();
  volumes.push_back(std::move(made).value());
  return Status();
}

// The cluster may be away: the volume comes up when it can.
Status Daemon::start_rados_volume(const VolumeConfig& config, uint16_t id) {
  origin::RadosOptions cluster;
  cluster.conf_file = config.rados.ceph_conf;
  cluster.user = config.rados.ceph_user;
  cluster.keyring = config.rados.keyring;
  cluster.pool = config.rados.pool;
  cluster.metadata_pool = config.rados.metadata_pool;
  cluster.rados_namespace = config.rados.rados_namespace;
  cluster.origin_timeout_ms = config.rados.origin_timeout_ms;
  Result<std::shared_ptr<origin::RadosStore>> store = origin::RadosStore::open(cluster);
  if (!store.ok()) return store.status().with_context("volume " + config.name);
  volume::RadosVolume::Options options;
  options.name = config.name;
  options.source = config.source;
  options.dataset = config.rados.dataset;
  options.id = id;
  options.origin_timeout_ms = config.rados.origin_timeout_ms;
  auto metadata = std::make_unique<server::CachedMetadata>(shard_pointers(), id);
  server::CachedMetadata* const metadata_source = metadata.get();
  Result<std::unique_ptr<volume::RadosVolume>> made = volume::RadosVolume::create(
      options, std::move(store).value(), std::move(metadata), shards.front()->reactor(), *names);
  if (!made.ok()) return made.status().with_context("volume " + config.name);
  metadata_source->set_source(made->get());
  (*made)->begin();
  volumes.push_back(std::move(made).value());
  return Status();
}

// Where the blocks of a JuiceFS volume are, once Redis has said it.
Result<std::shared_ptr<origin::BlockStore>> open_blocks(const VolumeConfig& config,
                                                        const volume::juicefs::Setting& setting) {
  if (setting.storage == "file") {
    return std::shared_ptr<origin::BlockStore>(
        std::make_shared<origin::FileBlockStore>(setting.bucket, config.threads));
  }
  origin::RadosOptions cluster;
  cluster.conf_file = config.juicefs.ceph_conf;
  cluster.user = config.juicefs.ceph_user;
  cluster.keyring = config.juicefs.keyring;
  cluster.pool = volume::juicefs::pool_of_bucket(setting.bucket);
  cluster.origin_timeout_ms = config.juicefs.origin_timeout_ms;
  Result<std::shared_ptr<origin::RadosStore>> store = origin::RadosStore::open(cluster);
  if (!store.ok()) return store.status();
  return std::shared_ptr<origin::BlockStore>(
      std::make_shared<origin::RadosBlockStore>(std::move(store).value()));
}

// Redis may be away: the volume comes up when it can.
void Daemon::start_juicefs_volume(const VolumeConfig& config, uint16_t id, uint64_t name_entries) {
  volume::JuicefsVolume::Options options;
  options.name = config.name;
  options.source = config.source;
  options.id = id;
  options.redis.host = config.juicefs.redis_host;
  options.redis.unix_socket = config.juicefs.redis_socket;
  options.redis.port = config.juicefs.redis_port;
  options.redis.database = config.juicefs.redis_database;
  options.redis.user = config.juicefs.redis_user;
  options.redis.password_file = config.juicefs.password_file;
  options.redis.tracking = config.juicefs.tracking;
  options.origin_timeout_ms = config.juicefs.origin_timeout_ms;
  options.metadata_timeout_ns = config.juicefs.metadata_timeout_ms * kNanosecondsPerMillisecond;
  options.known_inodes = name_entries;
  auto open_store = [config](const volume::juicefs::Setting& setting) {
    return open_blocks(config, setting);
  };
  volumes.push_back(std::make_unique<volume::JuicefsVolume>(options, std::move(open_store),
                                                            shards.front()->reactor(), *names));
}

Status Daemon::start_servers(const Config& config) {
  for (const auto& volume : volumes) mountable.emplace(volume->name(), volume.get());
  Result<std::shared_ptr<const dataset::DataSets>> sets = dataset::DataSets::make(config, mountable);
  if (!sets.ok()) return sets.status();
  data_sets.store(std::move(sets).value());
  Result<std::unique_ptr<server::SessionServer>> session_server =
      server::SessionServer::create({config.daemon.socket, config.daemon.group, config.daemon.max_sessions},
                                    *memory, shard_pointers(), mountable);
  if (!session_server.ok()) return session_server.status();
  sessions = std::move(session_server).value();
  ssd_reporter =
      std::make_unique<server::SsdReporter>(shard_pointers(), ssd.get(), effective_index_bytes(config.ssd));
  reporter = std::make_unique<server::StatusReporter>(*memory, *names, shard_pointers(), volume_pointers(),
                                                      *sessions, *ssd_reporter, data_sets);
  data_set_reporter = std::make_unique<server::DataSetReporter>(shard_pointers(), data_sets);
  data_set_commands = std::make_unique<server::DataSetCommands>(shard_pointers(), data_sets,
                                                                effective_pin_limit(config.memory));
  server::StatusReporter* const source = reporter.get();
  server::DataSetReporter* const sets_of = data_set_reporter.get();
  server::SsdReporter* const devices = ssd_reporter.get();
  admin::ControlCommands commands = {
      {"status", [source](const auto&) { return source->status(); }},
      {"sessions", [source](const auto&) { return source->sessions(); }},
      {"volumes", [source](const auto&) { return source->volumes(); }},
      {"top", [source](const auto&) { return source->top(); }},
      {"config", [this](const auto&) { return show_config(); }},
      {"reload", admin::for_operator([this](const auto&) { return reload(); })},
      {"du", [sets_of](const auto& request) { return sets_of->du(request); }},
      {"devices", [devices](const auto&) { return devices->devices(); }},
      {"drain", admin::for_operator([devices](const auto& request) { return devices->drain(request); })},
      {"undrain", admin::for_operator([devices](const auto& request) { return devices->undrain(request); })}};
  commands.merge(data_set_commands->commands());
  Result<std::unique_ptr<admin::ControlServer>> control_server = admin::ControlServer::create(
      config.daemon.control_socket, std::move(commands),
      {server::StatusReporter::kSampleIntervalMs, [source] { source->sample(); }});
  if (!control_server.ok()) return control_server.status();
  control = std::move(control_server).value();
  CACHED_RETURN_IF_ERROR(start_metrics(config));
  std::vector<io::Reactor*> reactors;
  for (const auto& shard : shards) reactors.push_back(&shard->reactor());
  watchdog = std::make_unique<server::Watchdog>(std::move(reactors));
  return Status();
}

Status Daemon::start_metrics(const Config& config) {
  if (config.metrics.listen.empty()) return Status();
  metrics::Sources sources;
  sources.memory = memory.get();
  sources.names = names.get();
  sources.shards = shard_pointers();
  sources.sessions = sessions.get();
  sources.ssd = ssd.get();
  sources.ssd_index_limit_bytes = effective_index_bytes(config.ssd);
  Result<std::unique_ptr<metrics::MetricsServer>> server =
      metrics::MetricsServer::create(config.metrics.listen, std::move(sources));
  if (!server.ok()) return server.status();
  metrics = std::move(server).value();
  metrics->reconfigure(volume_pointers(), config.daemon.max_sessions);
  return Status();
}

Result<nlohmann::json> Daemon::reload() {
  const std::lock_guard lock(config_mutex_);
  const Result<Config> wanted = load_config(config_.file);
  if (!wanted.ok()) return wanted.status();
  CACHED_RETURN_IF_ERROR(check_sources(*wanted));
  ReloadPlan plan = plan_reload(config_, *wanted);
  std::vector<VolumeConfig> to_start;
  for (const VolumeConfig& volume : wanted->volumes) {
    for (const std::vector<std::string>* names_of : {&plan.added, &plan.replaced}) {
      if (std::ranges::find(*names_of, volume.name) != names_of->end()) to_start.push_back(volume);
    }
  }
  // What was started before an error stays, unused: it may have begun to do something.
  const size_t first_new = volumes.size();
  CACHED_RETURN_IF_ERROR(start_volumes(*wanted, to_start));
  std::map<std::string, volume::Volume*> by_name = mountable;
  for (const std::string& name : plan.removed) by_name.erase(name);
  for (size_t place = first_new; place < volumes.size(); ++place)
    by_name[volumes[place]->name()] = volumes[place].get();
  Result<std::shared_ptr<const dataset::DataSets>> sets = dataset::DataSets::make(plan.in_force, by_name);
  if (!sets.ok()) return sets.status();

  data_sets.store(std::move(sets).value());
  mountable = std::move(by_name);
  sessions->reconfigure(mountable, plan.in_force.daemon.max_sessions);
  std::vector<volume::Volume*> current;
  std::vector<volume::Volume*> retired;
  for (const auto& volume : volumes) {
    const auto found = mountable.find(volume->name());
    const bool is_current = found != mountable.end() && found->second == volume.get();
    (is_current ? current : retired).push_back(volume.get());
  }
  reporter->set_volumes(std::move(current), std::move(retired));
  if (metrics != nullptr) metrics->reconfigure(volume_pointers(), plan.in_force.daemon.max_sessions);
  data_set_commands->pins().set_limit(effective_pin_limit(plan.in_force.memory));
  CACHED_RETURN_IF_ERROR(set_log_level(plan.in_force.log.level));
  config_ = std::move(plan.in_force);
  return nlohmann::json{{"changed", plan.changed}, {"needs_restart", plan.needs_restart}};
}

Result<nlohmann::json> Daemon::show_config() {
  const std::lock_guard lock(config_mutex_);
  nlohmann::json items = nlohmann::json::array();
  for (const ConfigItem& item : describe_config(config_)) {
    items.push_back({{"key", item.key},
                     {"value", item.value},
                     {"line", item.line == 0 ? nlohmann::json() : nlohmann::json(item.line)}});
  }
  return nlohmann::json{{"file", config_.file}, {"values", items}};
}

// SIGHUP, for those who have no cachedctl at hand: the log says what came of it.
void reload_by_signal(Daemon& daemon) {
  ::sd_notify(0, "RELOADING=1");
  const Result<nlohmann::json> done = daemon.reload();
  if (!done.ok()) {
    log_error("the configuration was not reloaded and nothing changed: {}", done.status().message());
  } else {
    log_info("reloaded: {} changes take effect", (*done)["changed"].size());
    for (const auto& text : (*done)["changed"]) log_info("reloaded: {}", printable(text.get<std::string>()));
    for (const auto& text : (*done)["needs_restart"])
      log_warning("needs a restart: {}", printable(text.get<std::string>()));
  }
  ::sd_notify(0, "READY=1");
}

Daemon::~Daemon() {
  watchdog.reset();
  metrics.reset();
  control.reset();
  reporter.reset();
  data_set_commands.reset();
  data_set_reporter.reset();
  ssd_reporter.reset();
  sessions.reset();
  // With the sessions gone no request starts; those that run end at the pace of their sources.
  if (ssd) ssd->stop();
  for (const auto& shard : shards) shard->stop();
  if (memory) memory->stop_preparing();
  volumes.clear();
  names.reset();
  ssd.reset();
  shards.clear();
}

// Every mount needs a few descriptors and every volume keeps files open: take what the hard limit allows.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Nothing is written at the end, so ending here costs nothing but the order.
void end_at_once(int /*signal*/) {
  constexpr char kText[] = "cached: a source does not answer; ending without waiting for it\n";
  (void)!::write(STDERR_FILENO, kText, sizeof kText - 1);
  ::_exit(0);
}

int fail(const Status& status) {
  std::fprintf(stderr, "cached: %s\n", status.message().c_str());
  return kExitFailure;
}

int run(const Config& config) {
  // Blocked before any thread starts, so that only the wait below takes them.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0077);
  raise_descriptor_limit();

  Daemon daemon;
  if (const Status status = daemon.start(config); !status.ok()) return fail(status);
  log_info("cached {} serves {} volumes on {}, {} of memory, {} shards", CACHED_VERSION,
           config.volumes.size(), config.daemon.socket, format_size(config.memory.size_bytes),
           daemon.shards.size());
  ::sd_notify(0, "READY=1");
  int signal = 0;
  while (::sigwait(&signals, &signal) == 0 && signal == SIGHUP) reload_by_signal(daemon);
  ::sd_notify(0, "STOPPING=1");
  log_info("ending on signal {}", signal);
  ::signal(SIGALRM, end_at_once);
  ::alarm(kStopLimitS);
  return 0;
}

}  // namespace
}  // namespace cached

int main(int argc, char** argv) {
  CLI::App app("cached: one cache for all mounts of a node. Configuration: see /etc/cached/cached.toml.");
  std::string config_file = "/etc/cached/cached.toml";
  bool check_only = false;
  bool foreground = false;
  bool list_metrics = false;
  app.add_option("--config", config_file, "the configuration, TOML")->capture_default_str();
  app.add_flag("--check-config", check_only,
               "check the configuration, say what is wrong, and exit (2 if anything is)");
  app.add_flag("--foreground", foreground,
               "stay in the foreground (the default; accepted for service managers)");
  app.add_flag("--list-metrics", list_metrics, "print the manual of the metrics (Markdown) and exit");
  app.set_version_flag("--version", CACHED_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "cached: %s; cached --help shows what can be said\n", error.what());
    return cached::kExitBadConfiguration;
  }

  if (list_metrics) {
    std::fputs(cached::metric_manual().c_str(), stdout);
    return 0;
  }
  const cached::Result<cached::Config> config = cached::load_config(config_file);
  cached::Status status = config.status();
  if (status.ok()) status = cached::check_sources(*config);
  // A dead file server must not keep a node's other volumes from starting.
  const bool silent_source = config.ok() && status.error_number() == ETIMEDOUT && !check_only;
  if (!status.ok() && !silent_source) {
    std::fprintf(stderr, "cached: %s\n", status.message().c_str());
    return cached::kExitBadConfiguration;
  }
  // A dead SSD must not keep a node from starting: what is wrong with devices stops only who asks.
  const cached::Status devices = cached::check_devices(*config);
  if (check_only && !devices.ok()) {
    std::fprintf(stderr, "cached: %s\n", devices.message().c_str());
    return cached::kExitBadConfiguration;
  }
  if (check_only) {
    std::printf("%s: ok\n", config_file.c_str());
    return 0;
  }
  if (::sodium_init() < 0) return cached::fail(cached::Status(EIO, "libsodium cannot start"));
  if (const cached::Status log = cached::init_log(config->log.options("cached")); !log.ok()) {
    return cached::fail(log);
  }
  if (silent_source) cached::log_warning("{}; going on without it until it answers", status.message());
  if (!devices.ok()) cached::log_warning("{}; going on without it until it can be used", devices.message());
  return cached::run(*config);
}
