// The keys of the configuration, each declared once: name, where its value goes, what it may be. Reading a
// file and showing a configuration are two visitors over these declarations, so neither can know a key that
// the other does not.
//
// A visitor has boolean(key, value), integer(key, value, minimum, maximum), size(key, value, check) and
// text(key, value, check). A check takes the value and returns what is wrong with it and what to do, or
// nothing.
#pragma once

#include <optional>
#include <string>

#include "cached/config/config.h"

namespace cached::config_schema {

using Complaint = std::optional<std::string>;

// The checks, each for one kind of value.
Complaint check_socket_path(const std::string& path);
Complaint check_directory_path(const std::string& path);
Complaint check_log_file(const std::string& path);
Complaint check_group(const std::string& group);
Complaint check_log_level(const std::string& level);
Complaint check_log_target(const std::string& target);
Complaint check_log_format(const std::string& format);
Complaint check_rotate_size(uint64_t size_bytes);
Complaint check_listen_address(const std::string& address);
Complaint check_arena_size(uint64_t size_bytes);
Complaint check_pin_limit(uint64_t size_bytes);
Complaint check_device_path(const std::string& path);
Complaint check_device_size(uint64_t size_bytes);
Complaint check_index_size(uint64_t size_bytes);
Complaint check_volume_name(const std::string& name);
Complaint check_source(const std::string& source);
Complaint check_data_set_directory(const std::string& directory);
Complaint check_file_path(const std::string& path);
Complaint check_optional_file_path(const std::string& path);
Complaint check_ceph_user(const std::string& user);
Complaint check_optional_pool(const std::string& pool);
Complaint check_redis_user(const std::string& user);
Complaint check_rados_namespace(const std::string& name);

// The kind of a source that check_source() accepts; nothing for other text.
std::optional<VolumeKind> kind_of_source(const std::string& source);

// Fills in what follows from a source that check_source() accepts: kind, directory, and for rados: the pool,
// the data set's name and the pool for metadata unless the file names one.
void take_source_apart(VolumeConfig* volume);

// The memory of this machine.
uint64_t machine_memory_bytes();

// What the format of devices takes (cached/ssd_tier/format.h).
inline constexpr uint64_t kMinimumDeviceBytes = 16 * kMiB;
inline constexpr uint64_t kMaximumDeviceBytes = 128 * kTiB;

template <typename Visitor, typename Daemon>
void visit_daemon(Visitor& visitor, Daemon& daemon) {
  visitor.text("socket", daemon.socket, check_socket_path);
  visitor.text("control_socket", daemon.control_socket, check_socket_path);
  visitor.text("state_dir", daemon.state_dir, check_directory_path);
  visitor.text("group", daemon.group, check_group);
  visitor.integer("shards", daemon.shards, 0, 16);  // shm::kMaximumShards
  visitor.integer("max_sessions", daemon.max_sessions, 1, 65'536);
}

template <typename Visitor, typename Log>
void visit_log(Visitor& visitor, Log& log) {
  visitor.text("target", log.target, check_log_target);
  visitor.text("file", log.file, check_log_file);
  visitor.text("level", log.level, check_log_level);
  visitor.text("format", log.format, check_log_format);
  visitor.size("rotate_size", log.rotate_size_bytes, check_rotate_size);
  visitor.integer("rotate_files", log.rotate_files, 0, 100);
  visitor.integer("lines_per_kind", log.lines_per_kind, 0, 1'000'000);
}

template <typename Visitor, typename Metrics>
void visit_metrics(Visitor& visitor, Metrics& metrics) {
  visitor.text("listen", metrics.listen, check_listen_address);
}

template <typename Visitor, typename Memory>
void visit_memory(Visitor& visitor, Memory& memory) {
  visitor.size("size", memory.size_bytes, check_arena_size);
  visitor.boolean("huge_pages", memory.huge_pages);
  visitor.integer("index_entries", memory.index_entries, 0, uint64_t{1} << 32);
  visitor.integer("name_entries", memory.name_entries, 1'000, uint64_t{1} << 32);
  visitor.size("pin_limit", memory.pin_limit_bytes, check_pin_limit);
}

template <typename Visitor, typename Ssd>
void visit_ssd(Visitor& visitor, Ssd& ssd) {
  visitor.integer("device_timeout_ms", ssd.device_timeout_ms, 10, 60'000);
  visitor.size("index_size", ssd.index_size_bytes, check_index_size);
}

template <typename Visitor, typename Device>
void visit_device(Visitor& visitor, Device& device) {
  visitor.text("path", device.path, check_device_path);
  visitor.size("size", device.size_bytes, check_device_size);
  visitor.integer("queue_depth", device.queue_depth, 1, 1'024);
}

// The keys of every volume.
template <typename Visitor, typename Volume>
void visit_volume(Visitor& visitor, Volume& volume) {
  visitor.text("name", volume.name, check_volume_name);
  visitor.text("source", volume.source, check_source);
  visitor.integer("fetch_in_flight", volume.fetch_in_flight, 1, 4'096);
}

// The keys of a volume whose source is dir:.
template <typename Visitor, typename Volume>
void visit_dir_volume(Visitor& visitor, Volume& volume) {
  visitor.integer("settle_ms", volume.settle_ms, 0, 60'000);
  visitor.integer("threads", volume.threads, 1, 64);
  visitor.integer("open_files", volume.open_files, 16, 1'000'000);
  visitor.integer("known_inodes", volume.known_inodes, 1'000, uint64_t{1} << 32);
}

// How a volume reaches Ceph: rados: volumes, and juicefs: ones whose blocks lie there.
template <typename Visitor, typename Ceph>
void visit_ceph_access(Visitor& visitor, Ceph& ceph) {
  visitor.text("ceph_conf", ceph.ceph_conf, check_file_path);
  visitor.text("ceph_user", ceph.ceph_user, check_ceph_user);
  visitor.text("keyring", ceph.keyring, check_optional_file_path);
  visitor.integer("origin_timeout_ms", ceph.origin_timeout_ms, 1'000, 3'600'000);
}

// The keys of a volume whose source is rados:, besides those of visit_ceph_access().
template <typename Visitor, typename Rados>
void visit_rados_volume(Visitor& visitor, Rados& rados) {
  visitor.text("metadata_pool", rados.metadata_pool, check_optional_pool);
  visitor.text("namespace", rados.rados_namespace, check_rados_namespace);
}

// The keys of a volume whose source is juicefs:, besides those of visit_ceph_access().
template <typename Visitor, typename Juicefs>
void visit_juicefs_volume(Visitor& visitor, Juicefs& juicefs) {
  visitor.text("redis_user", juicefs.redis_user, check_redis_user);
  visitor.text("password_file", juicefs.password_file, check_optional_file_path);
  visitor.boolean("tracking", juicefs.tracking);
  visitor.integer("metadata_timeout_ms", juicefs.metadata_timeout_ms, 100, 3'600'000);
}

template <typename Visitor, typename DataSet>
void visit_data_set(Visitor& visitor, DataSet& data_set) {
  visitor.text("name", data_set.name, check_volume_name);
  visitor.text("volume", data_set.volume, check_volume_name);
  visitor.text("directory", data_set.directory, check_data_set_directory);
}

// "volume[2]", "device[0]": the section with that place in the file, counted from 0.
std::string volume_section(size_t place);
std::string device_section(size_t place);
std::string data_set_section(size_t place);

}  // namespace cached::config_schema
