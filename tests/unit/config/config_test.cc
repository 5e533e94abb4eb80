// Configuration files, good and bad: what is taken, and that each mistake gives one line with file, line and
// key.
#include "cached/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace cached {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kVolume = "[[volume]]\nname = \"data\"\nsource = \"dir:/\"\n";
constexpr const char* kMemory = "[memory]\nsize = \"64MiB\"\n";

Config good(const std::string& text) {
  const Result<Config> config = parse_config(text, "test.toml");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : Config();
}

// The error that `text` gives; checks that it is one line.
std::string bad(const std::string& text) {
  const Result<Config> config = parse_config(text, "test.toml");
  EXPECT_FALSE(config.ok()) << text;
  EXPECT_EQ(config.error_number(), EINVAL);
  EXPECT_THAT(config.status().message(), Not(HasSubstr("\n")));
  return config.status().message();
}

TEST(Config, SmallestFileGetsDefaults) {
  const Config config = good(std::string(kMemory) + kVolume);
  EXPECT_EQ(config.daemon.socket, "/run/cached/cached.sock");
  EXPECT_EQ(config.daemon.control_socket, "/run/cached/control.sock");
  EXPECT_EQ(config.daemon.state_dir, "/var/lib/cached");
  EXPECT_EQ(config.daemon.group, "cached");
  EXPECT_EQ(config.daemon.max_sessions, 256U);
  EXPECT_EQ(config.memory.size_bytes, 64 * kMiB);
  EXPECT_FALSE(config.memory.huge_pages);
  ASSERT_EQ(config.volumes.size(), 1U);
  EXPECT_EQ(config.volumes[0].name, "data");
  EXPECT_EQ(config.volumes[0].directory, "/");
  EXPECT_EQ(config.volumes[0].settle_ms, 2000U);
  EXPECT_EQ(config.volumes[0].threads, 8U);
}

TEST(Config, EveryKeyIsRead) {
  const Config config = good(
      "[daemon]\nsocket = \"/a/s\"\ncontrol_socket = \"/a/c\"\nstate_dir = \"/a/d\"\ngroup = \"\"\n"
      "shards = 16\nmax_sessions = 3\n"
      "[memory]\nsize = \"67MiB\"\nhuge_pages = true\nindex_entries = 5\nname_entries = 2000\n"
      "[[volume]]\nname = \"a.B_1-\"\nsource = \"dir:/x y\"\nsettle_ms = 0\nthreads = 64\nopen_files = 16\n"
      "known_inodes = 1000\nfetch_in_flight = 1\n[[volume]]\nname = \"b\"\nsource = \"dir:/y\"\n"
      "[log]\ntarget = \"file\"\nfile = \"/a/log\"\nlevel = \"debug\"\nformat = \"json\"\nrotate_size = "
      "\"1MiB\"\n"
      "rotate_files = 2\nlines_per_kind = 0\n[metrics]\nlisten = \"[::1]:9477\"\n");
  EXPECT_EQ(config.daemon.socket, "/a/s");
  EXPECT_EQ(config.daemon.control_socket, "/a/c");
  EXPECT_EQ(config.daemon.group, "");
  const LogOptions log = config.log.options("me");
  EXPECT_EQ(log.program, "me");
  EXPECT_EQ(log.target, LogTarget::kFile);
  EXPECT_EQ(log.format, LogFormat::kJson);
  EXPECT_EQ(log.file, "/a/log");
  EXPECT_EQ(log.level, "debug");
  EXPECT_EQ(log.rotate_bytes, kMiB);
  EXPECT_EQ(log.rotate_files, 2U);
  EXPECT_EQ(log.lines_per_kind, 0U);
  EXPECT_EQ(config.metrics.listen, "[::1]:9477");
  EXPECT_EQ(config.daemon.shards, 16U);
  EXPECT_EQ(effective_shards(config.daemon), 16U);
  EXPECT_EQ(config.memory.size_bytes, 66 * kMiB) << "rounded down to a whole region";
  EXPECT_TRUE(config.memory.huge_pages);
  EXPECT_EQ(config.memory.index_entries, 5U);
  EXPECT_EQ(config.volumes[0].directory, "/x y");
  EXPECT_EQ(config.volumes[0].fetch_in_flight, 1U);
  EXPECT_EQ(config.volumes[1].name, "b");
  EXPECT_EQ(config.lines.at("memory.size"), 9U);
  EXPECT_EQ(config.lines.at("volume[1].name"), 22U);
}

TEST(Config, AutomaticShardsAreWithinLimits) {
  EXPECT_GE(effective_shards(DaemonConfig()), 1U);
  EXPECT_LE(effective_shards(DaemonConfig()), 8U);
}

// One mistake in a file, and what its error must say. `line` is counted in `text`.
struct Mistake {
  const char* what;
  std::string text;
  uint32_t line;
  const char* key;
  const char* hint;
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.what;
}

class ConfigMistake : public testing::TestWithParam<Mistake> {};

TEST_P(ConfigMistake, NamesFileLineAndKey) {
  const Mistake& mistake = GetParam();
  const std::string message = bad(mistake.text);
  EXPECT_THAT(message,
              StartsWith("test.toml:" + std::to_string(mistake.line) + ": key `" + mistake.key + "`: "));
  EXPECT_THAT(message, HasSubstr(mistake.hint));
}

std::string with_daemon(const std::string& line) {
  return std::string(kMemory) + kVolume + "[daemon]\n" + line + "\n";
}
std::string with_section(const std::string& section, const std::string& line) {
  return std::string(kMemory) + kVolume + "[" + section + "]\n" + line + "\n";
}
std::string with_size(const std::string& value) {
  return std::string(kVolume) + "[memory]\nsize = " + value + "\n";
}
std::string with_volume(const std::string& line) {
  return std::string(kMemory) + kVolume + line + "\n";
}
std::string with_name(const std::string& name) {
  return std::string(kMemory) + "[[volume]]\nname = \"" + name + "\"\nsource = \"dir:/\"\n";
}
std::string with_source(const std::string& source) {
  return std::string(kMemory) + "[[volume]]\nname = \"a\"\nsource = \"" + source + "\"\n";
}

std::string with_ssd(const std::string& line) {
  return std::string(kMemory) + kVolume + "[ssd]\n" + line + "\n";
}
std::string with_device(const std::string& lines, const std::string& path = "/a/b") {
  return std::string(kMemory) + kVolume + "[[device]]\npath = \"" + path + "\"\n" + lines + "\n";
}
std::string many_devices(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += "[[device]]\npath = \"/d" + std::to_string(i) + "\"\n";
  return text;
}
std::string with_rados(const std::string& line) {
  return with_source("rados:pool/name") + line + "\n";
}

const std::vector<Mistake> kMistakes = {
    {"unknown section", std::string(kMemory) + kVolume + "[disk]\nx = 1\n", 6, "disk", "[[device]]"},
    {"unknown key at the top", std::string("top = 1\n") + kMemory + kVolume, 1, "top", "not known"},
    {"unknown daemon key", with_daemon("sockett = \"/x\""), 7, "daemon.sockett", "control_socket"},
    {"unknown memory key", with_size("\"64MiB\"\nhuge = true"), 6, "memory.huge", "huge_pages"},
    {"unknown volume key", with_volume("cache = true"), 6, "volume[0].cache", "settle_ms"},
    {"section that is a value", std::string("daemon = 3\n") + kMemory + kVolume, 1, "daemon", "[daemon]"},
    {"volume in single brackets", std::string(kMemory) + "[volume]\nname = \"a\"\n", 3, "volume",
     "[[volume]]"},
    {"volumes as a list of text", std::string("volume = [\"a\"]\n") + kMemory, 1, "volume", "[[volume]]"},
    {"size without quotes", with_size("1073741824"), 5, "memory.size", "quotes"},
    {"size without quotes and with unit", with_size("64MiB"), 5, "memory.size", "quotes"},
    {"size that is none", with_size("\"much\""), 5, "memory.size", "64GiB"},
    {"size with an odd unit", with_size("\"64Mib/s\""), 5, "memory.size", "unit"},
    {"size below zero", with_size("\"-64MiB\""), 5, "memory.size", "not a size"},
    {"size too small", with_size("\"63MiB\""), 5, "memory.size", "impossible size"},
    {"size larger than the machine", with_size("\"9000TiB\""), 5, "memory.size", "impossible size"},
    {"size beyond 64 bits", with_size("\"99999999TiB\""), 5, "memory.size", "2^64"},
    {"huge_pages as text", with_size("\"64MiB\"\nhuge_pages = \"yes\""), 6, "memory.huge_pages",
     "true or false"},
    {"number as text", with_daemon("shards = \"4\""), 7, "daemon.shards", "whole number"},
    {"number with a fraction", with_daemon("shards = 1.5"), 7, "daemon.shards", "whole number"},
    {"negative number", with_daemon("max_sessions = -1"), 7, "daemon.max_sessions", "1 to"},
    {"too many shards", with_daemon("shards = 17"), 7, "daemon.shards", "0 to 16"},
    {"text as number", with_daemon("socket = 5"), 7, "daemon.socket", "text in quotes"},
    {"relative socket", with_daemon("socket = \"cached.sock\""), 7, "daemon.socket", "absolute"},
    {"socket path too long", with_daemon("socket = \"/" + std::string(107, 's') + "\""), 7, "daemon.socket",
     "107"},
    {"sockets that are one", with_daemon("control_socket = \"/run/cached/cached.sock\""), 7,
     "daemon.control_socket", "same path"},
    {"relative state_dir", with_daemon("state_dir = \"\""), 7, "daemon.state_dir", "absolute"},
    {"log level", with_section("log", "level = \"loud\""), 7, "log.level", "warning"},
    {"log target", with_section("log", "target = \"syslog\""), 7, "log.target", "journal"},
    {"log format", with_section("log", "format = \"xml\""), 7, "log.format", "json"},
    {"log file", with_section("log", "file = \"log\""), 7, "log.file", "absolute"},
    {"log target without its file", with_section("log", "target = \"file\""), 7, "log.target", "no file"},
    {"log file without its target", with_section("log", "file = \"/a\""), 7, "log.file", "no effect"},
    {"rotation of small files", with_section("log", "rotate_size = \"1KiB\""), 7, "log.rotate_size", "64KiB"},
    {"metrics on a name", with_section("metrics", "listen = \"localhost:9477\""), 7, "metrics.listen",
     "address"},
    {"metrics without a port", with_section("metrics", "listen = \"127.0.0.1\""), 7, "metrics.listen",
     "port"},
    {"metrics on no port", with_section("metrics", "listen = \"127.0.0.1:70000\""), 7, "metrics.listen",
     "port"},
    {"group", with_daemon("group = \"a b\""), 7, "daemon.group", "group"},
    {"control characters are shown", with_section("log", "level = \"a\\nb\""), 7, "log.level", "a\\x0ab"},
    {"memory section missing", kVolume, 1, "memory.size", "missing"},
    {"memory size missing", std::string(kVolume) + "[memory]\nhuge_pages = false\n", 4, "memory.size",
     "missing"},
    {"no volume", kMemory, 1, "volume", "missing"},
    {"volume without name", std::string(kMemory) + "[[volume]]\nsource = \"dir:/\"\n", 3, "volume[0].name",
     "missing"},
    {"volume without source", std::string(kMemory) + "[[volume]]\nname = \"a\"\n", 3, "volume[0].source",
     "missing"},
    {"volume twice", std::string(kMemory) + kVolume + kVolume, 7, "volume[1].name", "line 4"},
    {"empty name", with_name(""), 4, "volume[0].name", "letters"},
    {"name with a slash", with_name("a/b"), 4, "volume[0].name", "letters"},
    {"name with a blank", with_name("a b"), 4, "volume[0].name", "letters"},
    {"name too long", with_name(std::string(101, 'n')), 4, "volume[0].name", "100"},
    {"unknown scheme", with_source("s3:bucket"), 5, "volume[0].source", "rados:POOL/NAME"},
    {"no scheme", with_source("/data"), 5, "volume[0].source", "dir:/absolute/path"},
    {"relative source", with_source("dir:data"), 5, "volume[0].source", "absolute"},
    {"settle too long", with_volume("settle_ms = 60001"), 6, "volume[0].settle_ms", "0 to 60000"},
    {"no threads", with_volume("threads = 0"), 6, "volume[0].threads", "1 to 64"},
    {"ssd as a list", std::string(kMemory) + kVolume + "[[ssd]]\n", 6, "ssd", "[ssd]"},
    {"unknown ssd key", with_ssd("depth = 1"), 7, "ssd.depth", "device_timeout_ms, index_size"},
    {"device time-out too short", with_ssd("device_timeout_ms = 9"), 7, "ssd.device_timeout_ms",
     "10 to 60000"},
    {"device time-out too long", with_ssd("device_timeout_ms = 60001"), 7, "ssd.device_timeout_ms", "10 to"},
    {"index too small", with_ssd("index_size = \"1023KiB\""), 7, "ssd.index_size", "impossible size"},
    {"index larger than the machine", with_ssd("index_size = \"9000TiB\""), 7, "ssd.index_size", "half"},
    {"device in single brackets", std::string(kMemory) + kVolume + "[device]\npath = \"/a\"\n", 6, "device",
     "[[device]]"},
    {"devices as a list of text", std::string("device = [\"/a\"]\n") + kMemory + kVolume, 1, "device",
     "[[device]]"},
    {"device without path", std::string(kMemory) + kVolume + "[[device]]\nsize = \"1GiB\"\n", 6,
     "device[0].path", "missing"},
    {"relative device", with_device("", "sdb"), 7, "device[0].path", "absolute"},
    {"unknown device key", with_device("depth = 3"), 8, "device[0].depth", "path, size, queue_depth"},
    {"device size without quotes", with_device("size = 1000"), 8, "device[0].size", "quotes"},
    {"device too small", with_device("size = \"15MiB\""), 8, "device[0].size", "16.0 MiB"},
    {"device too large", with_device("size = \"129TiB\""), 8, "device[0].size", "impossible size"},
    {"no queue depth", with_device("queue_depth = 0"), 8, "device[0].queue_depth", "1 to 1024"},
    {"queue depth too large", with_device("queue_depth = 1025"), 8, "device[0].queue_depth", "1 to 1024"},
    {"device twice", with_device("[[device]]\npath = \"//a/./b\""), 9, "device[1].path", "line 7"},
    {"33 devices", std::string(kMemory) + kVolume + many_devices(33), 6, "device", "the limit is 32"},
    {"rados source without name", with_source("rados:pool"), 5, "volume[0].source", "rados:POOL/NAME"},
    {"rados source without pool", with_source("rados:/name"), 5, "volume[0].source", "rados:POOL/NAME"},
    {"rados pool with a blank", with_source("rados:a b/name"), 5, "volume[0].source", "name of a pool"},
    {"rados data set with a slash", with_source("rados:pool/a/b"), 5, "volume[0].source", "letters"},
    {"rados data set without letters", with_source("rados:pool/"), 5, "volume[0].source", "letters"},
    {"dir key in a rados volume", with_rados("settle_ms = 1"), 6, "volume[0].settle_ms",
     "is for dir: volumes"},
    {"threads in a rados volume", with_rados("threads = 1"), 6, "volume[0].threads", "is for dir: volumes"},
    {"rados key in a dir volume", with_volume("ceph_user = \"a\""), 6, "volume[0].ceph_user",
     "is for rados: and juicefs: volumes"},
    {"rados time-out in a dir volume", with_volume("origin_timeout_ms = 5000"), 6,
     "volume[0].origin_timeout_ms", "is for rados: and juicefs: volumes"},
    {"juicefs source without Redis", with_source("juicefs:host/1"), 5, "volume[0].source",
     "juicefs:redis://"},
    {"password in the source", with_source("juicefs:redis://:secret@host/1"), 5, "volume[0].source",
     "password_file"},
    {"juicefs source with a bad port", with_source("juicefs:redis://host:99999/1"), 5, "volume[0].source",
     "port"},
    {"juicefs source with a bad database", with_source("juicefs:redis://host/x"), 5, "volume[0].source",
     "database"},
    {"juicefs source with a relative socket", with_source("juicefs:unix://run/s"), 5, "volume[0].source",
     "absolute"},
    {"juicefs key in a dir volume", with_volume("tracking = true"), 6, "volume[0].tracking",
     "is for juicefs: volumes"},
    {"juicefs key in a rados volume", with_rados("password_file = \"/p\""), 6, "volume[0].password_file",
     "is for juicefs: volumes"},
    {"unknown key in a rados volume", with_rados("user = \"a\""), 6, "volume[0].user",
     "name, source, fetch_in_flight, ceph_conf, ceph_user, keyring, origin_timeout_ms, metadata_pool, "
     "namespace"},
    {"whole name of a Ceph user", with_rados("ceph_user = \"client.admin\""), 6, "volume[0].ceph_user",
     "leave out"},
    {"no Ceph user", with_rados("ceph_user = \"\""), 6, "volume[0].ceph_user", "such as \"admin\""},
    {"relative ceph.conf", with_rados("ceph_conf = \"ceph.conf\""), 6, "volume[0].ceph_conf", "absolute"},
    {"relative keyring", with_rados("keyring = \"keyring\""), 6, "volume[0].keyring", "absolute"},
    {"metadata pool with a slash", with_rados("metadata_pool = \"a/b\""), 6, "volume[0].metadata_pool",
     "name of a pool"},
    {"namespace too long", with_rados("namespace = \"" + std::string(129, 'n') + "\""), 6,
     "volume[0].namespace", "128"},
    {"origin time-out too short", with_rados("origin_timeout_ms = 999"), 6, "volume[0].origin_timeout_ms",
     "1000 to"},
    {"key twice", with_size("\"64MiB\"\nsize = \"65MiB\""), 6, "memory.size", "once"},
    {"quote missing", with_size("\"64MiB"), 5, "memory.size", "TOML"},
    {"no value", with_daemon("shards ="), 7, "daemon.shards", "TOML"},
};

INSTANTIATE_TEST_SUITE_P(Mistakes, ConfigMistake, testing::ValuesIn(kMistakes));

TEST(Config, DevicesAreReadInOrder) {
  const Config config = good(std::string(kMemory) + kVolume +
                             "[ssd]\ndevice_timeout_ms = 10\nindex_size = \"1MiB\"\n"
                             "[[device]]\npath = \"/dev/a\"\n"
                             "[[device]]\npath = \"/x/../y//b\"\nsize = \"16MiB\"\nqueue_depth = 1\n");
  EXPECT_EQ(config.ssd.device_timeout_ms, 10U);
  EXPECT_EQ(effective_index_bytes(config.ssd), kMiB);
  ASSERT_EQ(config.devices.size(), 2U);
  EXPECT_EQ(config.devices[0].path, "/dev/a");
  EXPECT_EQ(config.devices[0].size_bytes, 0U);
  EXPECT_EQ(config.devices[0].queue_depth, 64U);
  EXPECT_EQ(config.devices[1].path, "/y/b");
  EXPECT_EQ(config.devices[1].size_bytes, 16 * kMiB);
  EXPECT_EQ(config.devices[1].queue_depth, 1U);
  EXPECT_EQ(config.lines.at("device[1].size"), 13U);
}

TEST(Config, WithoutDevicesThereAreDefaultsForSome) {
  const Config config = good(std::string(kMemory) + kVolume);
  EXPECT_TRUE(config.devices.empty());
  EXPECT_EQ(config.ssd.device_timeout_ms, 1000U);
  EXPECT_GT(effective_index_bytes(config.ssd), 0U);
}

TEST(Config, MostDevicesAreTaken) {
  EXPECT_EQ(good(std::string(kMemory) + kVolume + many_devices(32)).devices.size(), 32U);
}

TEST(Config, RadosVolumeGetsDefaults) {
  const VolumeConfig volume = good(with_source("rados:.pool:1/name")).volumes.at(0);
  EXPECT_EQ(volume.kind, VolumeKind::kRados);
  EXPECT_EQ(volume.rados.pool, ".pool:1");
  EXPECT_EQ(volume.rados.dataset, "name");
  EXPECT_EQ(volume.rados.ceph_conf, "/etc/ceph/ceph.conf");
  EXPECT_EQ(volume.rados.ceph_user, "admin");
  EXPECT_EQ(volume.rados.keyring, "");
  EXPECT_EQ(volume.rados.metadata_pool, ".pool:1") << "the pool of the source";
  EXPECT_EQ(volume.rados.rados_namespace, "");
  EXPECT_EQ(volume.rados.origin_timeout_ms, 60'000U);
}

TEST(Config, RadosKeysAreRead) {
  const VolumeConfig volume =
      good(with_rados("fetch_in_flight = 9\nceph_conf = \"/c\"\nceph_user = \"u.1\"\nkeyring = \"/k\"\n"
                      "metadata_pool = \"m\"\nnamespace = \"n\"\norigin_timeout_ms = 1000"))
          .volumes.at(0);
  EXPECT_EQ(volume.fetch_in_flight, 9U);
  EXPECT_EQ(volume.rados.ceph_conf, "/c");
  EXPECT_EQ(volume.rados.ceph_user, "u.1");
  EXPECT_EQ(volume.rados.keyring, "/k");
  EXPECT_EQ(volume.rados.metadata_pool, "m");
  EXPECT_EQ(volume.rados.rados_namespace, "n");
  EXPECT_EQ(volume.rados.origin_timeout_ms, 1000U);
}

TEST(Config, JuicefsSourcesAreTakenApart) {
  const JuicefsVolumeConfig tcp =
      good(with_source("juicefs:redis://r.example.org:7000/3")).volumes.at(0).juicefs;
  EXPECT_EQ(tcp.redis_host, "r.example.org");
  EXPECT_EQ(tcp.redis_port, 7000);
  EXPECT_EQ(tcp.redis_database, 3U);
  EXPECT_TRUE(tcp.tracking);
  EXPECT_EQ(good(with_source("juicefs:redis://[::1]")).volumes.at(0).juicefs.redis_host, "::1");
  const VolumeConfig socket = good(with_source("juicefs:unix:///run/redis.sock?db=2")).volumes.at(0);
  EXPECT_EQ(socket.kind, VolumeKind::kJuicefs);
  EXPECT_EQ(socket.juicefs.redis_socket, "/run/redis.sock");
  EXPECT_EQ(socket.juicefs.redis_database, 2U);
}

TEST(Config, FirstOfSeveralMistakesIsNamed) {
  EXPECT_THAT(bad(std::string(kMemory) + kVolume + "[daemon]\nzzz = 1\naaa = 2\n"),
              HasSubstr("test.toml:7:"));
}

TEST(Config, LongestNameIsTaken) {
  EXPECT_EQ(good(with_name(std::string(100, 'n'))).volumes[0].name.size(), 100U);
}

TEST(Config, FileThatIsMissingIsNamed) {
  const Result<Config> config = load_config("/nonexistent/cached.toml");
  EXPECT_EQ(config.error_number(), ENOENT);
  EXPECT_THAT(config.status().message(), StartsWith("/nonexistent/cached.toml: "));
}

TEST(Config, FileThatIsHugeOrADirectoryIsAnError) {
  EXPECT_EQ(load_config("/").error_number(), EISDIR);
  EXPECT_EQ(load_config("/dev/zero").error_number(), EINVAL);
}

// The value that describe_config() gives for `key`; "" if it does not list it.
std::string described(const std::string& text, const std::string& key) {
  for (const ConfigItem& item : describe_config(good(text))) {
    if (item.key == key) return item.value;
  }
  return "";
}

TEST(Config, DescriptionTellsWhereValuesComeFrom) {
  const std::vector<ConfigItem> items = describe_config(good(std::string(kMemory) + kVolume));
  ASSERT_EQ(items.size(), 6U + 7U + 1U + 5U + 2U + 7U);
  EXPECT_EQ(items[0].key, "daemon.socket");
  EXPECT_EQ(items[0].value, "\"/run/cached/cached.sock\"");
  EXPECT_EQ(items[0].line, 0U);
  EXPECT_EQ(items[14].key, "memory.size");
  EXPECT_EQ(items[14].value, "\"64MiB\"");
  EXPECT_EQ(items[14].line, 2U);
}

TEST(Config, DescriptionShowsKeysOfTheKindOfSourceOnly) {
  EXPECT_EQ(described(with_rados(""), "volume[0].metadata_pool"), "\"pool\"");
  EXPECT_EQ(described(with_rados(""), "volume[0].settle_ms"), "");
  EXPECT_EQ(described(std::string(kMemory) + kVolume, "volume[0].ceph_conf"), "");
}

TEST(Config, DescriptionShowsSizesToTheByte) {
  EXPECT_EQ(described(with_device("size = \"268435457\""), "device[0].size"), "\"268435457\"");
  EXPECT_EQ(described(with_device("size = \"262145KiB\""), "device[0].size"), "\"262145KiB\"");
  EXPECT_EQ(described(with_device("size = \"3TiB\""), "device[0].size"), "\"3072GiB\"");
  EXPECT_EQ(described(with_device(""), "device[0].size"), "\"0\"");
}

}  // namespace
}  // namespace cached
