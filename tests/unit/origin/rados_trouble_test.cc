// Tests of RadosStore when something is wrong: OSDs that hang, monitors that are gone, keys and pools that
// are wrong, and closing in the middle of it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <future>
#include <regex>
#include <sstream>
#include <thread>

#include "cached/origin/rados_store.h"
#include "tests/unit/io/reactor_fixture.h"
#include "tests/unit/origin/captured_log.h"
#include "tests/unit/origin/ceph_fixture.h"
#include "tests/unit/origin/remember_frame.h"

namespace cached::origin {
namespace {

constexpr uint32_t kShortTimeoutMs = 2000;

ObjectName data(const std::string& name) {
  return {Pool::kData, name};
}

// Waits until `condition` holds; a minute is far beyond what anything here takes.
bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class RadosTroubleTest : public testing::Test {
 protected:
  // A file for one test, removed with the cluster.
  std::string write_file(const std::string& name, const std::string& content) {
    const std::string path = CephCluster::instance().directory() + "/" + name;
    std::ofstream(path) << content;
    return path;
  }
  static std::string content_of(const std::string& path) {
    std::ostringstream content;
    content << std::ifstream(path).rdbuf();
    return content.str();
  }
  // Expects that a store with `options` fails for a reason of one line that contains `text`, and its
  // operations with it.
  void expect_failure(const RadosOptions& options, int error, const std::string& text) {
    const std::shared_ptr<RadosStore> store = open_store(options);
    const Status ready = store->wait_ready(kReadyTimeoutMs);
    EXPECT_EQ(ready.error_number(), error) << ready.message();
    EXPECT_NE(ready.message().find(text), std::string::npos) << ready.message();
    EXPECT_EQ(ready.message().find('\n'), std::string::npos);
    EXPECT_EQ(store->state().phase, StoreState::Phase::kFailed);
    EXPECT_NE(store->state().why.find(text), std::string::npos) << store->state().why;
    const Status stat = store->stat(data("o")).wait().status();
    EXPECT_EQ(stat.error_number(), error);
    EXPECT_NE(stat.message().find(text), std::string::npos) << stat.message();
    EXPECT_EQ(log_.count(text), log_.lines().size());
  }

  CapturedLog log_;
};

TEST_F(RadosTroubleTest, ReadWaitsForAStoppedOsdAndSucceedsWhenItGoesOn) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  const std::string content = pattern(1 << 20, 8);
  EXPECT_OK(store->write_full(data("o"), bytes_of(content)).wait());
  Stopped osds("osd");
  std::string buffer(content.size(), '#');
  std::promise<Result<uint64_t>> promise;
  std::future<Result<uint64_t>> ended = promise.get_future();
  store->read(data("o"), 0, {{buffer.data(), buffer.size()}}).start([&](Result<uint64_t> result) {
    promise.set_value(std::move(result));
  });
  EXPECT_EQ(ended.wait_for(std::chrono::milliseconds(500)), std::future_status::timeout);
  osds.resume();
  EXPECT_OK(ended.get());
  EXPECT_TRUE(buffer == content);
}

TEST_F(RadosTroubleTest, AttemptThatTimedOutIsRetriedAndSucceedsWhenTheOsdGoesOn) {
  RadosOptions options = options_for_test();
  options.origin_timeout_ms = 40'000;  // attempts of 10 s
  const std::shared_ptr<RadosStore> store = ready_store(options);
  EXPECT_OK(store->write_full(data("o"), bytes_of("content")).wait());
  Stopped osds("osd");
  std::string buffer(7, '#');
  std::promise<Result<uint64_t>> promise;
  store->read(data("o"), 0, {{buffer.data(), buffer.size()}}).start([&](Result<uint64_t> result) {
    promise.set_value(std::move(result));
  });
  ASSERT_TRUE(eventually([&] {
    return log_.count(
               "object `o`: cannot read now: Connection timed out; trying again until 40 s have passed") == 1;
  }));
  EXPECT_GT(store->counters().retries, 0U);
  osds.resume();
  EXPECT_OK(promise.get_future().get());
  EXPECT_EQ(buffer, "content");
  EXPECT_EQ(log_.count("answers again"), 1U);
}

TEST_F(RadosTroubleTest, OperationsFailAfterTheTimeoutAndAreLoggedOnce) {
  RadosOptions options = options_for_test();
  const std::shared_ptr<RadosStore> writer = ready_store(options);
  for (int i = 0; i < 64; ++i) EXPECT_OK(writer->write_full(data(std::to_string(i)), bytes_of("x")).wait());
  options.origin_timeout_ms = kShortTimeoutMs;
  const std::shared_ptr<RadosStore> store = ready_store(options);
  Stopped osds("osd");
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> timed_out{0};
  std::array<char, 64> buffers{};
  {
    CallWindow window(64);
    for (size_t i = 0; i < buffers.size(); ++i) {
      window.start<uint64_t>(
          store->read(data(std::to_string(i)), 0, {{&buffers[i], 1}}),
          [&](const Result<uint64_t>& result) { timed_out += result.error_number() == ETIMEDOUT ? 1 : 0; });
    }
  }
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(timed_out, 64);
  EXPECT_GE(took, std::chrono::milliseconds(kShortTimeoutMs) - std::chrono::milliseconds(1000));
  EXPECT_LT(took, std::chrono::seconds(60));
  EXPECT_EQ(log_.count("trying again"), 1U);
  EXPECT_LE(log_.count("gave up"), 3U);  // one for each number of seconds that it may round to
  EXPECT_LE(log_.lines().size(), 4U);
}

TEST_F(RadosTroubleTest, BeginningReadsNeverBlocksHoweverManyBytesAreInFlight) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  EXPECT_OK(store->write_full(data("o"), bytes_of(pattern(4 << 20, 9))).wait());
  Stopped osds("osd");
  // 256 MiB: librados by itself would block at 100 MB.
  constexpr unsigned kReads = 64;
  std::string buffer(kMaximumReadBytes, '#');
  std::atomic<unsigned> ended{0};
  for (unsigned i = 0; i < kReads; ++i) {
    store->read(data("o"), 0, {{buffer.data(), buffer.size()}}).start([&](const Result<uint64_t>&) {
      ++ended;
    });
  }
  EXPECT_EQ(store->counters().in_flight, kReads);
  store->close();
  EXPECT_EQ(ended, kReads);
}

TEST_F(RadosTroubleTest, GuardedSwitchThatTimedOutAndHappenedCountsAsMade) {
  RadosOptions options = options_for_test();
  options.origin_timeout_ms = 8000;  // attempts of 2 s
  const std::shared_ptr<RadosStore> store = ready_store(options);
  const ObjectName head{Pool::kMetadata, "head"};
  EXPECT_OK(store->create(head, bytes_of("one")).wait());
  const uint64_t version = store->read_small(head, 100).wait()->version;
  Stopped osds("osd");
  std::promise<Status> promise;
  const std::string next = "two";
  store->replace(head, version, bytes_of(next)).start([&](Status status) {
    promise.set_value(std::move(status));
  });
  // The first attempt lies in the OSD's socket; the second will find the first's result.
  ASSERT_TRUE(eventually([&] { return store->counters().retries > 0; }));
  osds.resume();
  EXPECT_OK(promise.get_future().get());
  EXPECT_EQ(store->read_small(head, 100).wait()->bytes, "two");
}

TEST_F(RadosTroubleTest, FullClusterRefusesWritesAtOnceAndServesReads) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  EXPECT_OK(store->write_full(data("o"), bytes_of("content")).wait());
  CephCluster::instance().pretend_full("full -1");
  // Until there is a map that says so, writes succeed; what takes no more room than before always does.
  Status refused;
  int written = 0;
  EXPECT_TRUE(eventually([&] {
    refused = store->write_full(data("p" + std::to_string(++written)), bytes_of("content")).wait();
    return !refused.ok();
  }));
  EXPECT_EQ(refused.error_number(), ENOSPC) << refused.message();
  std::string buffer(7, '#');
  EXPECT_OK(store->read(data("o"), 0, {{buffer.data(), buffer.size()}}).wait());
  EXPECT_OK(store->remove(data("o")).wait());
  CephCluster::instance().pretend_full("none");
  EXPECT_TRUE(eventually([&] { return store->write_full(data("q"), bytes_of("content")).wait().ok(); }));
}

TEST_F(RadosTroubleTest, MonitorThatIsGoneAtFirstIsWaitedFor) {
  const Stopped stopped("mon");
  RadosOptions options = options_for_test();
  const std::shared_ptr<RadosStore> store = open_store(options);
  EXPECT_EQ(store->state().phase, StoreState::Phase::kConnecting);
  ASSERT_TRUE(eventually([&] { return store->state().phase == StoreState::Phase::kFailed; }));
  EXPECT_NE(store->state().why.find("no monitor of " + options.conf_file + " answers"), std::string::npos);
  std::promise<Status> promise;
  store->write_full(data("o"), bytes_of("content")).start([&](Status status) {
    promise.set_value(std::move(status));
  });
  std::future<Status> ended = promise.get_future();
  EXPECT_EQ(ended.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  CephCluster::instance().signal_all("mon", SIGCONT);
  EXPECT_OK(ended.get());
  EXPECT_EQ(store->state().phase, StoreState::Phase::kReady);
  EXPECT_EQ(log_.count("no monitor"), 1U);
  EXPECT_EQ(log_.count("is ready"), 1U);
}

TEST_F(RadosTroubleTest, OperationsFailWithTheReasonWhenNoMonitorAnswersInTime) {
  RadosOptions options = options_for_test();
  const std::string conf = content_of(options.conf_file);
  options.conf_file = write_file(
      "nobody.conf", std::regex_replace(conf, std::regex("127\\.0\\.0\\.1:[0-9]+"), "127.0.0.1:1"));
  options.origin_timeout_ms = kShortTimeoutMs;
  const std::shared_ptr<RadosStore> store = open_store(options);
  const Status status = store->stat(data("o")).wait().status();
  EXPECT_EQ(status.error_number(), ETIMEDOUT);
  EXPECT_NE(status.message().find("no monitor of "), std::string::npos) << status.message();
}

TEST_F(RadosTroubleTest, MissingConfigurationIsNamed) {
  RadosOptions options = options_for_test();
  options.conf_file = "/nonexistent/ceph.conf";
  expect_failure(options, ENOENT, "/nonexistent/ceph.conf");
}

TEST_F(RadosTroubleTest, MissingKeyringIsNamed) {
  RadosOptions options = options_for_test();
  options.keyring = "/nonexistent/keyring";
  expect_failure(options, ENOENT, "cannot read the keyring /nonexistent/keyring of client.admin");
}

TEST_F(RadosTroubleTest, WrongKeyIsNamed) {
  RadosOptions options = options_for_test();
  options.keyring = write_file("wrong", "[client.admin]\n\tkey = AQAs5AZrJwR/ORAAhCUlA2HTtLsaEvBQMWnVnA==\n");
  expect_failure(options, EACCES, "refuse client.admin with the key in " + options.keyring);
}

TEST_F(RadosTroubleTest, UserWithoutAKeyIsNamed) {
  RadosOptions options = options_for_test();
  options.user = "client.nobody";
  expect_failure(options, EACCES,
                 "refuse client.nobody with the key in " + options.keyring + ", or it has none");
}

TEST_F(RadosTroubleTest, MissingPoolIsNamedAndUsedOnceItIsThere) {
  RadosOptions options = options_for_test();
  options.metadata_pool = "later";
  const std::shared_ptr<RadosStore> store = open_store(options);
  EXPECT_EQ(store->wait_ready(kReadyTimeoutMs).error_number(), ENOENT);
  EXPECT_NE(store->state().why.find("pool `later` does not exist"), std::string::npos);
  EXPECT_EQ(store->stat(data("o")).wait().error_number(), ENOENT);
  ASSERT_EQ(CephCluster::instance().ceph("osd pool create later 8 8 replicated --size 1"), 0);
  EXPECT_TRUE(eventually([&] { return store->state().phase == StoreState::Phase::kReady; }));
  EXPECT_OK(store->write_full({Pool::kMetadata, "o"}, bytes_of("content")).wait());
  EXPECT_EQ(log_.count("does not exist"), 1U + log_.count("object `o`"));
}

TEST_F(RadosTroubleTest, UserWithoutRightsIsRefusedWithTheObjectsName) {
  ASSERT_EQ(CephCluster::instance().ceph(
                "auth get-or-create client.reader mon 'allow r' osd 'allow r pool=data' -o " +
                CephCluster::instance().directory() + "/reader"),
            0);
  RadosOptions options = options_for_test();
  options.user = "reader";
  options.keyring = CephCluster::instance().directory() + "/reader";
  const std::shared_ptr<RadosStore> store = ready_store(options);
  const Status status = store->write_full(data("o"), bytes_of("content")).wait();
  EXPECT_EQ(status.error_number(), EPERM) << status.message();
  EXPECT_NE(status.message().find("cannot write object `o`"), std::string::npos) << status.message();
}

TEST_F(RadosTroubleTest, OptionsThatCanNeverWorkAreRefused) {
  RadosOptions options = options_for_test();
  options.pool.clear();
  EXPECT_EQ(RadosStore::open(options).error_number(), EINVAL);
  options = options_for_test();
  options.origin_timeout_ms = kMinimumOriginTimeoutMs - 1;
  EXPECT_EQ(RadosStore::open(options).error_number(), EINVAL);
}

TEST_F(RadosTroubleTest, CloseWithOperationsInFlightEndsThemAll) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  EXPECT_OK(store->write_full(data("o"), bytes_of(pattern(1 << 20, 10))).wait());
  for (int round = 0; round < 20; ++round) {
    const std::shared_ptr<RadosStore> closed = ready_store(options_for_test());
    constexpr int kReads = 16;
    std::vector<std::string> buffers(kReads, std::string(1 << 20, '#'));
    std::atomic<int> ended{0};
    for (std::string& buffer : buffers) {
      closed->read(data("o"), 0, {{buffer.data(), buffer.size()}}).start([&](const Result<uint64_t>& result) {
        EXPECT_TRUE(result.ok() || result.error_number() == ECANCELED);
        ++ended;
      });
    }
    closed->close();
    EXPECT_EQ(ended, kReads);
  }
}

TEST_F(RadosTroubleTest, ClosedStoreRefusesOperations) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  store->close();
  EXPECT_EQ(store->stat(data("o")).wait().error_number(), ECANCELED);
  EXPECT_EQ(store->list(Pool::kData, "", [](const std::string&) { return true; }).error_number(), ECANCELED);
}

TEST_F(RadosTroubleTest, CloseWhileItConnectsEndsWaitingOperations) {
  const Stopped stopped("mon");
  const std::shared_ptr<RadosStore> store = open_store(options_for_test());
  int error = 0;
  store->stat(data("o")).start([&](const Result<uint64_t>& result) { error = result.error_number(); });
  store->close();
  EXPECT_EQ(error, ECANCELED);
}

TEST_F(RadosTroubleTest, ReactorMayStopBeforeItsReadsEnd) {
  const std::shared_ptr<RadosStore> store = ready_store(options_for_test());
  EXPECT_OK(store->write_full(data("o"), bytes_of("content")).wait());
  const std::unique_ptr<io::Reactor> reactor = io::make_reactor({.name = "test"});
  reactor->start();
  Stopped osds("osd");
  std::string buffer(7, '#');
  bool went_on = false;
  auto body = [&]() -> io::Task<void> {
    co_await io::RememberFrame{};
    std::vector<iovec> iovecs{{buffer.data(), buffer.size()}};
    (void)co_await store->read(data("o"), 0, std::move(iovecs)).on(*reactor);
    went_on = true;
  };
  reactor->post([&body] { io::spawn(body()); });
  io::settle(*reactor);
  reactor->stop();
  osds.resume();
  store->close();
  EXPECT_FALSE(went_on);
  EXPECT_EQ(store->counters().in_flight, 0U);
}

}  // namespace
}  // namespace cached::origin
