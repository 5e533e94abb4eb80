// Configurations against the machine: sources and devices that are there, that are not, and that are
// something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "cached/config/config.h"

namespace cached {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Configurations whose volume stands in lines 3 to 5 and whose devices follow.
class ConfigMachine : public testing::Test {
 protected:
  ConfigMachine() {
    std::string name = "/tmp/cached_config_test.XXXXXX";
    directory_ = ::mkdtemp(name.data());
    std::ofstream(directory_ + "/file") << "x";
  }
  ~ConfigMachine() override { std::filesystem::remove_all(directory_); }

  static Config parsed(const std::string& source, const std::string& rest = "") {
    const Result<Config> config = parse_config(
        "[memory]\nsize = \"64MiB\"\n[[volume]]\nname = \"a\"\nsource = \"" + source + "\"\n" + rest,
        "test.toml");
    EXPECT_TRUE(config.ok()) << config.status().message();
    return config.ok() ? *config : Config();
  }
  Status check_directory(const std::string& directory) { return check_sources(parsed("dir:" + directory)); }
  Status check_rados(const std::string& conf, const std::string& rest = "") {
    return check_sources(parsed("rados:pool/name", "ceph_conf = \"" + conf + "\"\n" + rest));
  }
  // A [[device]] of two lines, or of three with `size`.
  static std::string device(const std::string& path, const std::string& size = "") {
    return "[[device]]\npath = \"" + path + "\"\n" + (size.empty() ? "" : "size = \"" + size + "\"\n");
  }
  static Status check(const std::string& devices) { return check_devices(parsed("dir:/", devices)); }
  // A sparse file of that size.
  std::string make_file(const std::string& name, uint64_t size_bytes) {
    std::ofstream(directory_ + "/" + name).close();
    std::filesystem::resize_file(directory_ + "/" + name, size_bytes);
    return directory_ + "/" + name;
  }

  std::string directory_;
};

TEST_F(ConfigMachine, DirectoryIsTaken) {
  EXPECT_TRUE(check_directory(directory_).ok());
}

TEST_F(ConfigMachine, MissingDirectoryNamesTheKey) {
  const Status status = check_directory(directory_ + "/none");
  EXPECT_EQ(status.error_number(), EINVAL);
  EXPECT_THAT(status.message(), StartsWith("test.toml:5: key `volume[0].source`: "));
  EXPECT_THAT(status.message(), HasSubstr("does not exist"));
}

TEST_F(ConfigMachine, FileIsNoSource) {
  EXPECT_THAT(check_directory(directory_ + "/file").message(), HasSubstr("not a directory"));
}

TEST_F(ConfigMachine, ReadableFilesOfCephAreTaken) {
  EXPECT_TRUE(check_rados(directory_ + "/file").ok());
  EXPECT_TRUE(check_rados(directory_ + "/file", "keyring = \"" + directory_ + "/file\"\n").ok());
}

TEST_F(ConfigMachine, MissingCephConfNamesTheKey) {
  EXPECT_THAT(check_rados(directory_ + "/none").message(),
              StartsWith("test.toml:6: key `volume[0].ceph_conf`: "));
  EXPECT_THAT(check_rados(directory_).message(), HasSubstr("is not a file"));
}

TEST_F(ConfigMachine, MissingKeyringNamesTheKey) {
  EXPECT_THAT(check_rados(directory_ + "/file", "keyring = \"" + directory_ + "/none\"\n").message(),
              StartsWith("test.toml:7: key `volume[0].keyring`: "));
}

TEST_F(ConfigMachine, PresentFileIsADeviceOfItsOwnSizeOrLess) {
  const std::string file = make_file("ssd", 16 * kMiB);
  EXPECT_TRUE(check(device(file)).ok());
  EXPECT_TRUE(check(device(file, "16MiB")).ok());
  const Status larger = check(device(file, "17MiB"));
  EXPECT_THAT(larger.message(), StartsWith("test.toml:8: key `device[0].size`: "));
  EXPECT_THAT(larger.message(), HasSubstr("at most \"16777216\""));
}

TEST_F(ConfigMachine, PresentFileThatIsTooSmallIsAnError) {
  EXPECT_THAT(check(device(make_file("ssd", 16 * kMiB - 1))).message(),
              StartsWith("test.toml:7: key `device[0].path`: "));
}

TEST_F(ConfigMachine, MissingFileNeedsASize) {
  EXPECT_THAT(check(device(directory_ + "/ssd")).message(), HasSubstr("size = \"1TiB\""));
  EXPECT_TRUE(check(device(directory_ + "/ssd", "16MiB")).ok());
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/ssd")) << "checking changes nothing";
}

TEST_F(ConfigMachine, MissingFileNeedsRoom) {
  const Status status = check(device(directory_ + "/ssd", "128TiB"));
  EXPECT_THAT(status.message(), StartsWith("test.toml:8: key `device[0].size`: "));
  EXPECT_THAT(status.message(), HasSubstr("free"));
}

TEST_F(ConfigMachine, MissingFileNeedsItsDirectory) {
  EXPECT_THAT(check(device(directory_ + "/none/ssd", "1GiB")).message(), HasSubstr("cannot be created"));
}

TEST_F(ConfigMachine, NothingIsCreatedBelowDev) {
  EXPECT_THAT(check(device("/dev/nvme77n1", "1GiB")).message(), HasSubstr("lsblk"));
}

TEST_F(ConfigMachine, DirectoriesAndCharacterDevicesAreNoDevices) {
  EXPECT_THAT(check(device(directory_)).message(), HasSubstr("neither"));
  EXPECT_THAT(check(device("/dev/null")).message(), HasSubstr("neither"));
}

TEST_F(ConfigMachine, OneFileUnderTwoNamesNamesBothLines) {
  const std::string file = make_file("ssd", 16 * kMiB);
  ASSERT_EQ(::symlink("ssd", (directory_ + "/symbolic").c_str()), 0);
  ASSERT_EQ(::link(file.c_str(), (directory_ + "/hard").c_str()), 0);
  for (const char* name : {"/symbolic", "/hard"}) {
    const Status status = check(device(file) + device(directory_ + name));
    EXPECT_THAT(status.message(), StartsWith("test.toml:9: key `device[1].path`: ")) << name;
    EXPECT_THAT(status.message(), HasSubstr("in line 7"));
  }
}

TEST_F(ConfigMachine, OneMissingFileByTwoPathsNamesBothLines) {
  std::filesystem::create_directory_symlink(directory_, directory_ + "/again");
  EXPECT_THAT(
      check(device(directory_ + "/ssd", "16MiB") + device(directory_ + "/again/ssd", "16MiB")).message(),
      HasSubstr("in line 7"));
}

TEST_F(ConfigMachine, ShippedFileIsAsItSays) {
  // The shipped file says what applies when a key is left out.
  const Result<Config> config = load_config(CACHED_SHIPPED_CONFIG);
  ASSERT_TRUE(config.ok()) << config.status().message();
  Config bare = parsed("dir:/srv/datasets");
  bare.memory.size_bytes = config->memory.size_bytes;
  bare.volumes[0].name = config->volumes[0].name;
  const std::vector<ConfigItem> expected = describe_config(bare);
  const std::vector<ConfigItem> items = describe_config(*config);
  ASSERT_EQ(items.size(), expected.size());
  for (size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(items[i].value, expected[i].value) << items[i].key;
    EXPECT_NE(items[i].line, 0U) << items[i].key << " is not documented";
  }
}

// The shipped file with its examples in force.
std::string uncommented(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  for (std::string line; std::getline(file, line);) {
    const bool example = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    text += (example ? line.substr(1) : line) + "\n";
  }
  return text;
}

TEST_F(ConfigMachine, ExamplesOfTheShippedFileAreGoodAndTellTheDefaults) {
  const Result<Config> config = parse_config(uncommented(CACHED_SHIPPED_CONFIG), "shipped");
  ASSERT_TRUE(config.ok()) << config.status().message();
  ASSERT_EQ(config->devices.size(), 3U);
  EXPECT_EQ(config->devices[0].queue_depth, DeviceConfig().queue_depth);
  EXPECT_EQ(config->devices[0].size_bytes, DeviceConfig().size_bytes);
  ASSERT_EQ(config->volumes.size(), 3U);
  Config bare = parsed("rados:datasets/speech");
  bare.volumes[0].name = config->volumes[1].name;
  Config rados = *config;
  rados.volumes = {config->volumes[1]};
  const std::vector<ConfigItem> expected = describe_config(bare);
  const std::vector<ConfigItem> items = describe_config(rados);
  for (const ConfigItem& item : expected) {
    if (!item.key.starts_with("volume[0].")) continue;
    const auto found =
        std::find_if(items.begin(), items.end(), [&](const auto& i) { return i.key == item.key; });
    ASSERT_NE(found, items.end()) << item.key;
    EXPECT_EQ(found->value, item.value) << item.key;
    const std::string key = "volume[1]" + item.key.substr(9);
    EXPECT_TRUE(config->lines.contains(key) || item.key.ends_with("fetch_in_flight"))
        << key << " is not documented";
  }
}

}  // namespace
}  // namespace cached
