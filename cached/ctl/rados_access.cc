// Finding data sets and showing progress: see rados_access.h.
#include "cached/ctl/rados_access.h"

#include <pthread.h>
#include <sodium.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "base/clock.h"
#include "base/units.h"
#include "cached/origin/rados_store.h"

namespace cached::ctl {
namespace {

constexpr unsigned kTerminalIntervalMs = 500;
constexpr unsigned kLogIntervalMs = 10'000;
constexpr const char* kScheme = "rados:";

sigset_t ending_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) ::sigaddset(&set, number);
  return set;
}

Result<DatasetAccess> connect(const RadosVolumeConfig& settings) {
  if (::sodium_init() < 0) return Status(EIO, "libsodium cannot be set up");
  origin::RadosOptions options;
  options.conf_file = settings.ceph_conf;
  options.user = settings.ceph_user;
  options.keyring = settings.keyring;
  options.pool = settings.pool;
  options.metadata_pool = settings.metadata_pool;
  options.rados_namespace = settings.rados_namespace;
  options.origin_timeout_ms = settings.origin_timeout_ms;
  Result<std::shared_ptr<origin::RadosStore>> store = origin::RadosStore::open(options);
  if (!store.ok()) return store.status();
  CACHED_RETURN_IF_ERROR((*store)->wait_ready(settings.origin_timeout_ms));
  return DatasetAccess{std::move(store).value(), settings.dataset,
                       kScheme + settings.pool + "/" + settings.dataset};
}

// The settings of "rados:POOL/NAME" that no volume has as its source.
Result<RadosVolumeConfig> settings_of_place(const Config& config, const std::string& place) {
  const size_t slash = place.find('/');
  if (!place.starts_with(kScheme) || slash == std::string::npos) {
    return Status(EINVAL, config.file + " has no volume \"" + place +
                              "\"; name a rados: volume of it, or write rados:POOL/NAME");
  }
  RadosVolumeConfig settings;
  settings.pool = place.substr(std::string(kScheme).size(), slash - std::string(kScheme).size());
  settings.metadata_pool = settings.pool;
  for (const VolumeConfig& volume : config.volumes) {
    if (volume.kind == VolumeKind::kRados && volume.rados.pool == settings.pool) settings = volume.rados;
  }
  settings.dataset = place.substr(slash + 1);
  return settings;
}

}  // namespace

Result<DatasetAccess> open_dataset(const std::string& config_file, const std::string& volume) {
  const Result<Config> config = load_config(config_file);
  if (!config.ok()) return Status(EINVAL, config.status().message());
  for (const VolumeConfig& candidate : config->volumes) {
    if (candidate.name != volume && candidate.source != volume) continue;
    if (candidate.kind == VolumeKind::kRados) return connect(candidate.rados);
    return Status(EINVAL, "volume " + volume + " is " + candidate.source + " and not a data set in RADOS");
  }
  const Result<RadosVolumeConfig> settings = settings_of_place(*config, volume);
  if (!settings.ok()) return settings.status();
  return connect(*settings);
}

Result<std::vector<DatasetAccess>> open_all_stores(const std::string& config_file) {
  const Result<Config> config = load_config(config_file);
  if (!config.ok()) return Status(EINVAL, config.status().message());
  std::vector<DatasetAccess> stores;
  std::vector<std::string> seen;
  for (const VolumeConfig& volume : config->volumes) {
    if (volume.kind != VolumeKind::kRados) continue;
    const RadosVolumeConfig& rados = volume.rados;
    const std::string identity = fmt::format("{}\n{}\n{}\n{}", rados.ceph_conf, rados.pool,
                                             rados.metadata_pool, rados.rados_namespace);
    if (std::find(seen.begin(), seen.end(), identity) != seen.end()) continue;
    seen.push_back(identity);
    Result<DatasetAccess> access = connect(rados);
    if (!access.ok()) return access.status();
    access->place = kScheme + rados.pool;
    stores.push_back(std::move(access).value());
  }
  return stores;
}

std::string format_advance(const std::string& what, const Advance& advance, double seconds) {
  std::string text = fmt::format("{}: {}", what, advance.items);
  if (advance.total_items > 0)
    text += fmt::format(" of {}{}", advance.total_known ? "" : "at least ", advance.total_items);
  text += " files, " + format_size(advance.bytes);
  if (advance.total_bytes > 0) text += " of " + format_size(advance.total_bytes);
  const double rate = seconds > 0 ? static_cast<double>(advance.bytes) / seconds : 0;
  text += fmt::format(", {}/s", format_size(static_cast<uint64_t>(rate)));
  if (advance.total_known && rate > 0 && advance.total_bytes >= advance.bytes)
    text += fmt::format(", {:.0f} s left", static_cast<double>(advance.total_bytes - advance.bytes) / rate);
  return text;
}

ProgressDisplay::ProgressDisplay(std::string what, std::function<Advance()> ask)
    : what_(std::move(what)), ask_(std::move(ask)), thread_([this] { show(); }) {}

ProgressDisplay::~ProgressDisplay() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ProgressDisplay::show() {
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto interval = std::chrono::milliseconds(terminal ? kTerminalIntervalMs : kLogIntervalMs);
  const uint64_t started_ns = system_clock().monotonic_ns();
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    last = changed_.wait_for(lock, interval, [this] { return ended_; });
    const double seconds = static_cast<double>(system_clock().monotonic_ns() - started_ns) / 1e9;
    const std::string line = format_advance(what_, ask_(), seconds);
    if (terminal) std::fprintf(stderr, "\r\x1b[K%s%s", line.c_str(), last ? "\n" : "");
    if (!terminal && !last) std::fprintf(stderr, "%s\n", line.c_str());
  }
}

StopOnSignal::StopOnSignal() {
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] {
    const sigset_t waited = ending_signals();
    int number = 0;
    ::sigwait(&waited, &number);
    if (number == SIGUSR1) return;
    const std::lock_guard lock(mutex_);
    signalled_ = true;
    if (stop_) stop_();
  });
}

void StopOnSignal::then(std::function<void()> stop) {
  const std::lock_guard lock(mutex_);
  stop_ = std::move(stop);
  if (signalled_ && stop_) stop_();
}

StopOnSignal::~StopOnSignal() {
  ::pthread_kill(thread_.native_handle(), SIGUSR1);
  thread_.join();
}

}  // namespace cached::ctl
