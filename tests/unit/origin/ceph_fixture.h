// A real Ceph cluster for tests: scripts/ceph-cluster.sh brings it up once for the test program and takes it
// down at its end, whatever the tests did to it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "cached/origin/rados_store.h"

namespace cached::origin {

// The program's cluster. A test that stops a process of it lets it go on before it ends (Stopped does).
class CephCluster : public testing::Environment {
 public:
  static constexpr const char* kPool = "data";
  static constexpr const char* kMetadataPool = "meta";
  static constexpr const char* kErasureCodedPool = "coded";

  static CephCluster& instance() {
    static CephCluster* const cluster = new CephCluster;  // owned by GoogleTest
    return *cluster;
  }

  void SetUp() override {
    std::string path = "/var/tmp/cached-ceph-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    ASSERT_EQ(script("start", "--osds 2 --osd-size 4GiB --pool data --pool meta --ec-pool coded --owner " +
                                  std::to_string(::getpid())),
              0);
  }
  void TearDown() override {
    EXPECT_EQ(script("stop", ""), 0);
    EXPECT_FALSE(std::filesystem::exists(directory_)) << "the script left something behind";
  }

  std::string conf_file() const { return directory_ + "/ceph.conf"; }
  std::string keyring() const { return directory_ + "/keyring"; }
  const std::string& directory() const { return directory_; }

  // A command of the administrator: ceph("osd pool create x").
  int ceph(const std::string& arguments) const {
    return std::system(
        ("ceph --conf " + conf_file() + " " + arguments + " >>" + directory_ + "/start.log 2>&1").c_str());
  }

  // Makes the OSDs report that they are full ("full -1") or what is true ("none").
  void pretend_full(const std::string& how) const {
    for (const char* osd : {"osd.0", "osd.1"}) {
      ASSERT_EQ(ceph("daemon " + directory_ + "/" + osd + ".asok injectfull " + how), 0);
    }
  }

  // Sends a signal to "osd" (all of them) or "mon".
  void signal_all(const std::string& kind, int signal) const {
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with(kind) || entry.path().extension() != ".pid") continue;
      std::ifstream file(entry.path());
      pid_t pid = 0;
      file >> pid;
      ASSERT_GT(pid, 1);
      ASSERT_EQ(::kill(pid, signal), 0);
      if (signal == SIGSTOP) wait_until_stopped(pid);
    }
  }

 private:
  // Until no thread of the process runs any more: the signal takes effect when one of them gets round to it,
  // and the others answer requests until then.
  static void wait_until_stopped(pid_t pid) {
    while (any_thread_runs(pid)) ::usleep(1000);
  }

  static bool any_thread_runs(pid_t pid) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
      std::ifstream file(task.path() / "stat");
      const std::string stat{std::istreambuf_iterator<char>(file), {}};
      const size_t name_end = stat.rfind(") ");
      if (name_end != std::string::npos && stat[name_end + 2] != 'T') return true;
    }
    return false;
  }

  int script(const std::string& command, const std::string& options) const {
    return std::system(
        (std::string(CEPH_CLUSTER_SCRIPT) + " " + command + " " + directory_ + " " + options).c_str());
  }

  std::string directory_;
};

// All processes of a kind are stopped (SIGSTOP) while this lives.
class Stopped {
 public:
  explicit Stopped(std::string kind) : kind_(std::move(kind)) {
    CephCluster::instance().signal_all(kind_, SIGSTOP);
  }
  ~Stopped() { resume(); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;
  void resume() {
    if (!stopped_) return;
    stopped_ = false;
    CephCluster::instance().signal_all(kind_, SIGCONT);
  }

 private:
  const std::string kind_;
  bool stopped_ = true;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Bytes that differ at every place and for every seed.
inline std::string pattern(size_t length, uint64_t seed) {
  std::string bytes(length, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

inline constexpr uint32_t kReadyTimeoutMs = 60'000;

// Options for a store with a namespace of the running test's own.
inline RadosOptions options_for_test() {
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  RadosOptions options;
  options.conf_file = CephCluster::instance().conf_file();
  options.keyring = CephCluster::instance().keyring();
  options.pool = CephCluster::kPool;
  options.metadata_pool = CephCluster::kMetadataPool;
  options.rados_namespace = std::string(test.test_suite_name()) + "." + test.name();
  options.origin_timeout_ms = 60'000;
  return options;
}

inline std::shared_ptr<RadosStore> open_store(const RadosOptions& options) {
  Result<std::shared_ptr<RadosStore>> store = RadosStore::open(options);
  EXPECT_TRUE(store.ok()) << store.status().message();
  return store.ok() ? *store : nullptr;
}

inline std::shared_ptr<RadosStore> ready_store(const RadosOptions& options) {
  std::shared_ptr<RadosStore> store = open_store(options);
  if (store) {
    const Status ready = store->wait_ready(kReadyTimeoutMs);
    EXPECT_TRUE(ready.ok()) << ready.message();
  }
  return store;
}

// Expects an operation to have ended well, with its message if not.
#define EXPECT_OK(call)                             \
  do {                                              \
    const auto ended_ = (call);                     \
    EXPECT_TRUE(ended_.ok()) << message_of(ended_); \
  } while (false)

inline std::string message_of(const Status& status) {
  return status.message();
}
template <typename T>
std::string message_of(const Result<T>& result) {
  return result.status().message();
}

}  // namespace cached::origin
