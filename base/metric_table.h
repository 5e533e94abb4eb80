// The table of metrics: each one declared once, with its name, type, labels and help text.
//
// The daemon's exporter (cached/metrics) and the mounts' `.stats` (mount/stats.cc) name metrics by the enum,
// so neither can show one that is not in the table; the manual (config/METRICS.md) is printed from it, and
// tests hold dashboard and alert rules against it.
//
// Names follow Prometheus: one prefix, base units (seconds, bytes, ratios from 0 to 1), `_total` for
// counters. Labels are bounded: configured things (volume, device, shard), sessions (daemon.max_sessions),
// and enumerations.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cached {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

// X(enumerator, name, type, labels separated by commas, help)
#define CACHED_METRICS(X)                                                                                    \
  X(kInfo, "cached_info", kGauge, "version,instance", "1; what runs: version and the daemon's instance.")    \
  X(kUptime, "cached_uptime_seconds", kGauge, "", "Time since the daemon started.")                          \
  X(kHeapAllocated, "cached_heap_allocated_bytes", kGauge, "",                                               \
    "Memory of the daemon's own, besides arena and index, by its allocator's figures: in use.")              \
  X(kHeapMapped, "cached_heap_mapped_bytes", kGauge, "",                                                     \
    "The same: what the allocator has from the system for it.")                                              \
  X(kShardResponding, "cached_shard_responding", kGauge, "shard",                                            \
    "1 if the shard answered this scrape, else 0.")                                                          \
  X(kShardCpu, "cached_shard_cpu_seconds_total", kCounter, "shard",                                          \
    "Processor time of the shard's thread; its rate is the reactor's utilisation, 1 when it never sleeps.")  \
  X(kShardOperations, "cached_shard_operations_in_flight", kGauge, "shard",                                  \
    "io_uring operations that the shard has begun and the kernel has not ended.")                            \
  X(kShardRequests, "cached_shard_requests_total", kCounter, "shard", "Requests taken from clients' rings.") \
  X(kShardRunning, "cached_shard_requests_running", kGauge, "shard",                                         \
    "Requests that have not been answered yet.")                                                             \
  X(kViolations, "cached_protocol_violations_total", kCounter, "shard",                                      \
    "Sessions that were ended because their client broke the protocol.")                                     \
  X(kReads, "cached_reads_total", kCounter, "tier,outcome",                                                  \
    "Reads by the tier that they had to wait for: shared_memory (pieces that a client read in place, "       \
    "without the "                                                                                           \
    "daemon), memory, ssd, origin; and by outcome: ok, changed (the file did), error.")                      \
  X(kReadBytes, "cached_read_bytes_total", kCounter, "tier,outcome",                                         \
    "Bytes of these reads; 0 unless they were ok.")                                                          \
  X(kReadDuration, "cached_read_duration_seconds", kHistogram, "tier,outcome",                               \
    "How long reads took that the daemon served, from its own sight. Reads in shared memory are not timed.") \
  X(kBufferAnswers, "cached_buffer_answers_total", kCounter, "",                                             \
    "Reads answered through the session's buffer because no slot was to be had.")                            \
  X(kMemoryCapacity, "cached_memory_capacity_bytes", kGauge, "", "Size of the arena.")                       \
  X(kMemoryUsed, "cached_memory_used_bytes", kGauge, "",                                                     \
    "Bytes of slots that hold content or are being filled.")                                                 \
  X(kMemoryContent, "cached_memory_content_bytes", kGauge, "", "Bytes of content in memory.")                \
  X(kMemoryEntries, "cached_memory_entries", kGauge, "", "Blocks, or pieces of one, in memory.")             \
  X(kMemoryPinned, "cached_memory_pinned_slots", kGauge, "", "Slots that a reader or a writer holds.")       \
  X(kMemoryLimbo, "cached_memory_limbo_slots", kGauge, "", "Evicted slots that may still be read.")          \
  X(kMemoryInsertions, "cached_memory_insertions_total", kCounter, "", "Pieces that came into memory.")      \
  X(kMemoryEvictions, "cached_memory_evictions_total", kCounter, "", "Pieces that left it.")                 \
  X(kMemoryDisplacements, "cached_memory_index_displacements_total", kCounter, "",                           \
    "Pieces lost because the index had no place for them; memory.index_entries is too small if this grows.") \
  X(kMemoryIndexCapacity, "cached_memory_index_capacity_entries", kGauge, "", "Places of the shared index.") \
  X(kMemoryRegions, "cached_memory_regions", kGauge, "", "Regions of the arena, 2 MiB each.")                \
  X(kMemoryRegionsUsed, "cached_memory_regions_used", kGauge, "", "Regions that hold slots.")                \
  X(kMemoryRegionsMoved, "cached_memory_regions_moved_total", kCounter, "",                                  \
    "Regions that went from one size class to another.")                                                     \
  X(kNameEntries, "cached_name_table_entries", kGauge, "kind",                                               \
    "Records of the name table: kind name or inode.")                                                        \
  X(kNameCapacity, "cached_name_table_capacity_entries", kGauge, "kind", "Places of the name table.")        \
  X(kNameDisplacements, "cached_name_table_displacements_total", kCounter, "kind",                           \
    "Records lost to others; memory.name_entries is too small if this grows.")                               \
  X(kPrefetchBytes, "cached_prefetch_bytes_total", kCounter, "", "Bytes fetched ahead of readers.")          \
  X(kPrefetchUsed, "cached_prefetch_used_bytes_total", kCounter, "",                                         \
    "Of these, bytes that somebody read since.")                                                             \
  X(kPrefetchWasted, "cached_prefetch_wasted_bytes_total", kCounter, "",                                     \
    "Of these, bytes that left memory unread. The rest is in memory and waits.")                             \
  X(kPrefetchDropped, "cached_prefetch_dropped_total", kCounter, "",                                         \
    "Read-ahead that was not begun: too much under way, or no slots.")                                       \
  X(kSessions, "cached_sessions", kGauge, "volume", "Clients that are attached.")                            \
  X(kSessionsLimit, "cached_sessions_limit", kGauge, "", "daemon.max_sessions.")                             \
  X(kVolumeBytes, "cached_volume_bytes", kGauge, "volume",                                                   \
    "Size of the volume's data; 0 until it was counted.")                                                    \
  X(kVolumeFiles, "cached_volume_files", kGauge, "volume",                                                   \
    "Files of the volume; 0 until they were counted.")                                                       \
  X(kVolumeReads, "cached_volume_reads_total", kCounter, "volume", "Reads of clients.")                      \
  X(kVolumeReadBytes, "cached_volume_read_bytes_total", kCounter, "volume", "Bytes of these reads.")         \
  X(kVolumeHits, "cached_volume_hits_total", kCounter, "volume",                                             \
    "Pieces that clients found in shared memory.")                                                           \
  X(kVolumeHitBytes, "cached_volume_hit_bytes_total", kCounter, "volume", "Bytes of these pieces.")          \
  X(kVolumeMisses, "cached_volume_misses_total", kCounter, "volume",                                         \
    "Pieces that clients asked the daemon for.")                                                             \
  X(kVolumeMissBytes, "cached_volume_miss_bytes_total", kCounter, "volume", "Bytes of these pieces.")        \
  X(kVolumeLookups, "cached_volume_lookups_total", kCounter, "volume", "Names looked up.")                   \
  X(kVolumeLookupHits, "cached_volume_lookup_hits_total", kCounter, "volume",                                \
    "Of these, answered in shared memory.")                                                                  \
  X(kVolumeAttributeReads, "cached_volume_attribute_reads_total", kCounter, "volume", "Inodes asked for.")   \
  X(kVolumeAttributeHits, "cached_volume_attribute_hits_total", kCounter, "volume",                          \
    "Of these, answered in shared memory.")                                                                  \
  X(kOriginReads, "cached_origin_reads_total", kCounter, "volume", "Reads at the volume's origin.")          \
  X(kOriginReadBytes, "cached_origin_read_bytes_total", kCounter, "volume", "Bytes read there.")             \
  X(kOriginErrors, "cached_origin_errors_total", kCounter, "volume", "Reads there that failed.")             \
  X(kOriginInFlight, "cached_origin_reads_in_flight", kGauge, "volume", "Reads there that have not ended.")  \
  X(kSessionAge, "cached_session_age_seconds", kGauge, "volume,mount,state",                                 \
    "Age of a client's session, which a label names by volume and mount point; state attached or detached.") \
  X(kSessionReads, "cached_session_reads_total", kCounter, "volume,mount", "Reads of that client.")          \
  X(kSessionReadBytes, "cached_session_read_bytes_total", kCounter, "volume,mount", "Their bytes.")          \
  X(kSessionHitBytes, "cached_session_hit_bytes_total", kCounter, "volume,mount",                            \
    "Bytes that it found in shared memory.")                                                                 \
  X(kSessionMissBytes, "cached_session_miss_bytes_total", kCounter, "volume,mount",                          \
    "Bytes that it asked the daemon for.")                                                                   \
  X(kSessionRequests, "cached_session_requests_total", kCounter, "volume,mount",                             \
    "Requests that waited for the daemon.")                                                                  \
  X(kSessionPins, "cached_session_pins", kGauge, "volume,mount", "Slots that the client holds.")             \
  X(kSsdHits, "cached_ssd_hits_total", kCounter, "", "Blocks, or parts of one, read from SSDs.")             \
  X(kSsdHitBytes, "cached_ssd_hit_bytes_total", kCounter, "", "Bytes read from SSDs for readers.")           \
  X(kSsdMisses, "cached_ssd_misses_total", kCounter, "", "Blocks that were on no SSD.")                      \
  X(kSsdRetries, "cached_ssd_retries_total", kCounter, "",                                                   \
    "Reads of SSDs that failed and went to the origin.")                                                     \
  X(kSsdIndexEntries, "cached_ssd_index_entries", kGauge, "", "Blocks that the index of the SSDs knows.")    \
  X(kSsdIndexBytes, "cached_ssd_index_bytes", kGauge, "", "Memory that the index takes.")                    \
  X(kSsdIndexLimit, "cached_ssd_index_limit_bytes", kGauge, "",                                              \
    "The most that it may take (ssd.index_size).")                                                           \
  X(kSsdAdmission, "cached_ssd_admissions_total", kCounter, "result",                                        \
    "Blocks offered for writing: offered, refused (no room in queue or index), written, failed.")            \
  X(kSsdAdmissionProbability, "cached_ssd_admission_probability_ratio", kGauge, "",                          \
    "How likely a block from the origin is to be written now; 1 while there is room.")                       \
  X(kSsdReopenings, "cached_ssd_admission_reopenings_total", kCounter, "",                                   \
    "Times that a change of data set was noticed and everything admitted again.")                            \
  X(kDeviceState, "cached_device_state", kGauge, "device,state",                                             \
    "1 for the state that the device is in: healthy, suspect, offline, waiting, recovering, draining, "      \
    "drained, "                                                                                              \
    "refused; no other state is shown.")                                                                     \
  X(kDeviceHealthy, "cached_device_healthy", kGauge, "device", "1 if the device is in full use, else 0.")    \
  X(kDeviceCapacity, "cached_device_capacity_bytes", kGauge, "device", "What the device can hold.")          \
  X(kDeviceUsed, "cached_device_used_bytes", kGauge, "device", "Bytes of its segments that are not free.")   \
  X(kDeviceLive, "cached_device_live_bytes", kGauge, "device", "Bytes of content that it holds.")            \
  X(kDeviceEntries, "cached_device_entries", kGauge, "device", "Blocks that it holds.")                      \
  X(kDeviceSegmentsFree, "cached_device_segments_free", kGauge, "device", "Segments without content.")       \
  X(kDeviceReads, "cached_device_reads_total", kCounter, "device", "Commands that read.")                    \
  X(kDeviceReadBytes, "cached_device_read_bytes_total", kCounter, "device", "Bytes read.")                   \
  X(kDeviceWrites, "cached_device_writes_total", kCounter, "device", "Commands that wrote.")                 \
  X(kDeviceWriteBytes, "cached_device_write_bytes_total", kCounter, "device",                                \
    "Bytes written, headers and footers included.")                                                          \
  X(kDeviceAdmittedBytes, "cached_device_admitted_bytes_total", kCounter, "device",                          \
    "Of these, content; written by admitted is the write amplification.")                                    \
  X(kDeviceFaults, "cached_device_faults_total", kCounter, "device,kind",                                    \
    "Commands that went wrong: read_error, write_error, short_read, mismatch (a checksum), timeout.")        \
  X(kDeviceReadDuration, "cached_device_read_duration_seconds", kHistogram, "device",                        \
    "How long reads took.")                                                                                  \
  X(kLogDropped, "cached_log_dropped_total", kCounter, "reason",                                             \
    "Lines that are not in the log: limited (too many of one kind), failed (could not be written).")         \
  X(kMountAttached, "cached_mount_attached", kGauge, "volume",                                               \
    "1 while the daemon answers, 0 while it is away.")                                                       \
  X(kMountInodes, "cached_mount_inodes", kGauge, "volume", "Inodes that the kernel holds.")                  \
  X(kMountWorkers, "cached_mount_workers", kGauge, "volume", "Threads that serve requests.")                 \
  X(kMountPageInvalidations, "cached_mount_page_invalidations_total", kCounter, "volume",                    \
    "Times a changed file's pages were taken from the kernel.")                                              \
  X(kMountRefusedReads, "cached_mount_refused_reads_total", kCounter, "volume",                              \
    "READs refused because the file changed in the middle of a read.")                                       \
  X(kMountKernelRequests, "cached_mount_requests_total", kCounter, "volume,operation",                       \
    "Requests of the kernel by operation.")                                                                  \
  X(kMountReads, "cached_mount_reads_total", kCounter, "volume", "Reads asked of the client library.")       \
  X(kMountReadBytes, "cached_mount_read_bytes_total", kCounter, "volume",                                    \
    "Bytes asked of the client library.")                                                                    \
  X(kMountHits, "cached_mount_hits_total", kCounter, "volume", "Pieces found in shared memory.")             \
  X(kMountHitBytes, "cached_mount_hit_bytes_total", kCounter, "volume", "Bytes found in shared memory.")     \
  X(kMountMisses, "cached_mount_misses_total", kCounter, "volume", "Pieces asked of the daemon.")            \
  X(kMountMissBytes, "cached_mount_miss_bytes_total", kCounter, "volume", "Bytes asked of the daemon.")      \
  X(kMountLookups, "cached_mount_lookups_total", kCounter, "volume", "Names looked up.")                     \
  X(kMountLookupHits, "cached_mount_lookup_hits_total", kCounter, "volume",                                  \
    "Names answered from the name table.")                                                                   \
  X(kMountAttributeReads, "cached_mount_attribute_reads_total", kCounter, "volume",                          \
    "Inodes whose attributes were asked for.")                                                               \
  X(kMountAttributeHits, "cached_mount_attribute_hits_total", kCounter, "volume",                            \
    "Attributes answered from the name table.")                                                              \
  X(kMountDaemonRequests, "cached_mount_daemon_requests_total", kCounter, "volume",                          \
    "Requests that waited for the daemon.")                                                                  \
  X(kMountDaemonWakeups, "cached_mount_daemon_wakeups_total", kCounter, "volume",                            \
    "Wake-ups sent to the daemon.")                                                                          \
  X(kMountReattachments, "cached_mount_reattachments_total", kCounter, "volume",                             \
    "Times the session was attached again.")                                                                 \
  X(kMountAccessLogDropped, "cached_mount_access_log_dropped_total", kCounter, "volume",                     \
    "Lines of .accesslog that its readers were too slow for.")

enum class Metric : unsigned {
#define CACHED_METRIC_ENUMERATOR(enumerator, ...) enumerator,
  CACHED_METRICS(CACHED_METRIC_ENUMERATOR)
#undef CACHED_METRIC_ENUMERATOR
      kCount
};

struct MetricInfo {
  Metric metric;
  std::string_view name;
  MetricType type;
  std::string_view labels;  // in order, separated by commas; empty: none
  std::string_view help;
};

// All metrics, in the order of the enum. Any thread.
std::span<const MetricInfo> metric_table();
const MetricInfo& info_of(Metric metric);
// "counter", "gauge" or "histogram".
std::string_view name_of(MetricType type);
// The unit, from the name: "seconds", "bytes", "ratio", or "" for plain numbers.
std::string_view unit_of(const MetricInfo& info);
// Whether a mount's `.stats` shows it, and not the daemon.
bool is_of_mount(const MetricInfo& info);
// The manual, as Markdown (config/METRICS.md).
std::string metric_manual();

}  // namespace cached
