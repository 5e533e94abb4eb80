// Config: the daemon's configuration, read from a TOML file and checked strictly.
//
// Every error is one line, "FILE:LINE: key `memory.size`: what is wrong and what to do", with errno EINVAL
// (or the errno of the open when the file cannot be read). A Config that load_config() returned is complete:
// every default is filled in and every value lies within its limits. What depends on the machine's file
// systems is checked by check_sources().
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "base/units.h"

namespace cached {

// [daemon]: where the daemon meets its clients and its operator.
struct DaemonConfig {
  std::string socket = "/run/cached/cached.sock";           // mounts connect here
  std::string control_socket = "/run/cached/control.sock";  // cachedctl connects here
  std::string state_dir = "/var/lib/cached";                // what must outlive a restart: keys, instance
  std::string group = "cached";                             // members may map the arena; empty: root alone
  uint32_t shards = 0;                                      // reactor threads; 0: see effective_shards()
  uint32_t max_sessions = 256;                              // clients connected at once
};

// [log]: what base/log.h takes.
struct LogConfig {
  std::string target = "auto";             // auto, journal, stderr, file
  std::string file;                        // for target "file": its path
  std::string level = "info";              // trace, debug, info, warning, error, off
  std::string format = "text";             // text, json; not for the journal
  uint64_t rotate_size_bytes = 64 * kMiB;  // `rotate_size`: of the file
  uint32_t rotate_files = 4;               // old ones kept; 0: no rotation
  uint32_t lines_per_kind = 100;           // in ten seconds; 0: no limit

  LogOptions options(const std::string& program) const;
};

// [metrics]: the exporter for Prometheus.
struct MetricsConfig {
  std::string listen;  // "127.0.0.1:9477"; empty: none
};

// [memory]: the memory tier.
struct MemoryConfig {
  uint64_t size_bytes = kGiB;         // `size`: the arena; a multiple of kArenaGranularityBytes
  bool huge_pages = false;            // 2 MiB pages for the arena
  uint64_t index_entries = 0;         // blocks that the index holds; 0: chosen from the size
  uint64_t name_entries = 1'000'000;  // names and inodes that the name table holds
  uint64_t pin_limit_bytes = 0;       // `pin_limit`: what pins may hold; 0: see effective_pin_limit()
};

// [ssd]: what all devices of the SSD tier share.
struct SsdConfig {
  uint32_t device_timeout_ms = 1000;  // a command that takes longer is given up by whoever waits for it
  uint64_t index_size_bytes = 0;  // `index_size`: most memory for the index; 0: see effective_index_bytes()
};

// [[device]]: one SSD, a block device or a file.
struct DeviceConfig {
  std::string path;           // absolute, without "." and ".."; not resolved
  uint64_t size_bytes = 0;    // `size`: how much of it to use; 0: all that is there
  uint32_t queue_depth = 64;  // commands of each shard in flight on it
};

enum class VolumeKind { kDir, kRados, kJuicefs };

// A volume whose source is "rados:POOL/NAME": a data set published in RADOS.
struct RadosVolumeConfig {
  std::string pool;     // from the source
  std::string dataset;  // from the source: NAME
  std::string ceph_conf = "/etc/ceph/ceph.conf";
  std::string ceph_user = "admin";      // without "client."
  std::string keyring;                  // a file; empty: where ceph.conf says
  std::string metadata_pool;            // for what lies in omap; `pool` unless the file names another
  std::string rados_namespace;          // `namespace`; empty: the pool's default one
  uint32_t origin_timeout_ms = 60'000;  // a read that the cluster has not answered by then fails
};

// A volume whose source is "juicefs:redis://HOST:PORT/DB" or "juicefs:unix:///PATH?db=DB": an existing
// JuiceFS volume.
struct JuicefsVolumeConfig {
  std::string redis_host;    // from the source
  std::string redis_socket;  // from the source; then there is no host
  uint16_t redis_port = 6379;
  uint32_t redis_database = 0;
  std::string redis_user;                 // empty: Redis's default user
  std::string password_file;              // holds the password; empty: none is needed
  bool tracking = true;                   // have Redis tell what changes
  uint32_t metadata_timeout_ms = 25'000;  // a question that Redis has not answered by then fails
  // For blocks in Ceph, as for rados: volumes.
  std::string ceph_conf = "/etc/ceph/ceph.conf";
  std::string ceph_user = "admin";
  std::string keyring;
  uint32_t origin_timeout_ms = 60'000;
};

// [[volume]]: a tree that can be mounted.
struct VolumeConfig {
  std::string name;
  std::string source;  // as written: "dir:/abs/path", "rados:POOL/NAME", "juicefs:redis://..."
  VolumeKind kind = VolumeKind::kDir;  // of `source`
  uint32_t fetch_in_flight = 64;       // reads at the source at once

  RadosVolumeConfig rados;      // for kRados only
  JuicefsVolumeConfig juicefs;  // for kJuicefs only

  // For kDir only:
  std::string directory;       // the absolute path of the source
  uint32_t settle_ms = 2000;   // a file changed less than this ago is served but its blocks are not kept
  uint32_t threads = 8;        // threads for calls at the source that block
  uint32_t open_files = 4096;  // descriptors kept open at the source
  uint64_t known_inodes = 1'000'000;  // inodes whose place at the source is remembered
};

// [[dataset]]: a directory of a volume that is accounted for by itself. Every volume is one without being
// named.
struct DataSetConfig {
  std::string name;
  std::string volume;
  std::string directory;  // in the volume: "/a/b" as written, "a/b" once it is checked; not the root
};

struct Config {
  std::string file;  // the path that was loaded, as given
  DaemonConfig daemon;
  LogConfig log;
  MetricsConfig metrics;
  MemoryConfig memory;
  SsdConfig ssd;
  std::vector<DeviceConfig> devices;
  std::vector<VolumeConfig> volumes;
  std::vector<DataSetConfig> data_sets;
  // Source line of every key that the file sets: "memory.size", "volume[0].source" (volumes and devices count
  // from 0). A key that is not here has its default.
  std::map<std::string, uint32_t> lines;

  // "FILE:LINE: key `KEY`: TEXT" as an EINVAL error, for checks that only the daemon can make (a socket that
  // is busy, a state directory that is not writable). LINE is left out for a key that the file does not set.
  Status error(const std::string& key, const std::string& text) const;
};

// The arena is given to the kernel in pieces of this size; `memory.size` is rounded down to a multiple of it.
inline constexpr uint64_t kArenaGranularityBytes = 2 * kMiB;

// Reads and checks the file. EINVAL for what is wrong in it; the open's errno when it cannot be read.
Result<Config> load_config(const std::string& path);

// The same for text that is already in memory; `path` is what errors name.
Result<Config> parse_config(const std::string& text, const std::string& path);

// Checks each volume's source against the machine. EINVAL naming the key; ETIMEDOUT naming it, if all that is
// wrong is that a source does not answer: one can start with it. A directory is there, can be opened and does
// not lie on one of our own mounts (a cache in front of itself would wait for itself). Of a rados: volume,
// ceph.conf and a keyring that is named can be read; the cluster is not asked. Of a juicefs: volume, a
// password file that is named can be read; Redis is not asked.
Status check_sources(const Config& config);

// Checks each device against the machine, and changes nothing. EINVAL naming the key. What is there is a
// block device or a file, can be opened for writing and has the size that is asked for; what is not there can
// be created as a file: size given, directory present, room on its file system, and not below /dev. No two of
// them are one and the same, whatever their paths. What a device holds is not looked at.
Status check_devices(const Config& config);

// The number of reactor threads to start: `daemon.shards`, or clamp(cores / 8, 1, 8) when that is 0.
uint32_t effective_shards(const DaemonConfig& daemon);

// The most memory that the index of the SSD tier may take: `ssd.index_size`, or a sixteenth of the machine's
// memory when that is 0.
uint64_t effective_index_bytes(const SsdConfig& ssd);

// What pins may hold in memory: `memory.pin_limit`, or a quarter of `memory.size` when that is 0.
uint64_t effective_pin_limit(const MemoryConfig& memory);

// One value of a configuration as `cachedctl config show` prints it.
struct ConfigItem {
  std::string key;    // "memory.size"
  std::string value;  // as it would be written in TOML
  uint32_t line = 0;  // where the file sets it; 0: a default
};

// Every value in force, in the order of the sections, with where it came from.
std::vector<ConfigItem> describe_config(const Config& config);

}  // namespace cached
