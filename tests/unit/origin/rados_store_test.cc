// Tests of RadosStore's operations on a cluster that is well.
#include "cached/origin/rados_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <thread>

#include "tests/unit/io/reactor_fixture.h"
#include "tests/unit/origin/ceph_fixture.h"

namespace cached::origin {
namespace {

class RadosStoreTest : public testing::Test {
 protected:
  void SetUp() override { store_ = ready_store(options_for_test()); }

  static ObjectName data(const std::string& name) { return {Pool::kData, name}; }
  static ObjectName metadata(const std::string& name) { return {Pool::kMetadata, name}; }

  // Reads `length` bytes as one string; the errno as text if that fails.
  std::string read(const std::string& name, uint64_t offset, uint64_t length) {
    std::string buffer(length, '#');
    const Result<uint64_t> got = store_->read(data(name), offset, {{buffer.data(), buffer.size()}}).wait();
    if (!got.ok()) return "errno " + std::to_string(got.error_number());
    return buffer.substr(0, *got);
  }

  std::shared_ptr<RadosStore> store_;
};

TEST_F(RadosStoreTest, ReadsBackWhatWasWritten) {
  const std::string content = pattern(4 << 20, 1);
  ASSERT_TRUE(store_->write_full(data("o"), bytes_of(content)).wait().ok());
  EXPECT_TRUE(read("o", 0, content.size()) == content);
  EXPECT_EQ(read("o", 12345, 100), content.substr(12345, 100));
}

TEST_F(RadosStoreTest, WriteFullReplacesALongerObject) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("a long one")).wait());
  EXPECT_OK(store_->write_full(data("o"), bytes_of("short")).wait());
  EXPECT_EQ(read("o", 0, 100), "short");
}

TEST_F(RadosStoreTest, ReadBeyondTheEndIsShort) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("0123456789")).wait());
  EXPECT_EQ(read("o", 8, 100), "89");
  EXPECT_EQ(read("o", 10, 100), "");
  EXPECT_EQ(read("o", 1000, 100), "");
}

TEST_F(RadosStoreTest, ReadOfAMissingObjectIsENOENT) {
  EXPECT_EQ(read("missing", 0, 10), "errno " + std::to_string(ENOENT));
}

TEST_F(RadosStoreTest, ReadOfNothingReadsNothing) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("0123456789")).wait());
  EXPECT_EQ(read("o", 0, 0), "");
}

TEST_F(RadosStoreTest, ReadOfMoreThanTheLimitIsRefused) {
  std::string buffer(kMaximumReadBytes + 1, '\0');
  EXPECT_EQ(store_->read(data("o"), 0, {{buffer.data(), buffer.size()}}).wait().error_number(), EINVAL);
}

TEST_F(RadosStoreTest, NamesThatRadosCannotHaveAreRefused) {
  EXPECT_EQ(store_->stat(data("")).wait().error_number(), EINVAL);
  EXPECT_EQ(store_->stat(data(std::string("a\0b", 3))).wait().error_number(), EINVAL);
  EXPECT_EQ(store_->stat(data(std::string(kMaximumNameBytes + 1, 'n'))).wait().error_number(), EINVAL);
}

// Pieces of a size each, in reverse order of address with a gap between, so that no two are neighbours.
std::vector<iovec> scattered(std::string* memory, size_t pieces, size_t size) {
  memory->assign(pieces * (size + 1), '#');
  std::vector<iovec> iovecs;
  for (size_t i = pieces; i-- > 0;) iovecs.push_back({memory->data() + i * (size + 1), size});
  return iovecs;
}

std::string gathered(const std::vector<iovec>& iovecs) {
  std::string content;
  for (const iovec& piece : iovecs) content.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  return content;
}

TEST_F(RadosStoreTest, ReadFillsScatteredBuffersInOrder) {
  const std::string content = pattern(4 << 20, 2);
  EXPECT_OK(store_->write_full(data("o"), bytes_of(content)).wait());
  std::string memory;
  const std::vector<iovec> iovecs = scattered(&memory, 32, 128 << 10);
  const Result<uint64_t> got = store_->read(data("o"), 0, iovecs).wait();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, content.size());
  EXPECT_TRUE(gathered(iovecs) == content);
}

TEST_F(RadosStoreTest, ShortReadLeavesTheRestOfScatteredBuffersAlone) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("0123456789")).wait());
  std::string memory;
  const std::vector<iovec> iovecs = scattered(&memory, 4, 4);
  const Result<uint64_t> got = store_->read(data("o"), 0, iovecs).wait();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, 10U);
  EXPECT_EQ(gathered(iovecs), "0123456789######");
}

TEST_F(RadosStoreTest, NeighbouringBuffersAreFilledAsOne) {
  const std::string content = pattern(1 << 20, 3);
  EXPECT_OK(store_->write_full(data("o"), bytes_of(content)).wait());
  std::string memory(content.size(), '#');
  std::vector<iovec> iovecs;
  for (size_t at = 0; at < memory.size(); at += 128 << 10) iovecs.push_back({memory.data() + at, 128 << 10});
  EXPECT_OK(store_->read(data("o"), 0, iovecs).wait());
  EXPECT_TRUE(memory == content);
}

TEST_F(RadosStoreTest, CoroutineReadEndsOnItsReactor) {
  const std::string content = pattern(1 << 20, 4);
  EXPECT_OK(store_->write_full(data("o"), bytes_of(content)).wait());
  const std::unique_ptr<io::Reactor> reactor = io::make_reactor({.name = "test"});
  reactor->start();
  std::string buffer(content.size(), '#');
  auto read = [&]() -> io::Task<bool> {
    std::vector<iovec> iovecs{{buffer.data(), buffer.size()}};
    const Result<uint64_t> got = co_await store_->read(data("o"), 0, std::move(iovecs)).on(*reactor);
    co_return got.ok() && *got == content.size() && reactor->on_own_thread();
  };
  EXPECT_TRUE(io::run_on(*reactor, read));
  EXPECT_TRUE(buffer == content);
}

TEST_F(RadosStoreTest, StatTellsTheLength) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("0123456789")).wait());
  const Result<uint64_t> size = store_->stat(data("o")).wait();
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, 10U);
  EXPECT_EQ(store_->stat(data("missing")).wait().error_number(), ENOENT);
}

TEST_F(RadosStoreTest, CreateRefusesAnObjectThatIsThere) {
  EXPECT_OK(store_->create(metadata("o"), bytes_of("first")).wait());
  EXPECT_EQ(store_->create(metadata("o"), bytes_of("second")).wait().error_number(), EEXIST);
  EXPECT_EQ(store_->read_small(metadata("o"), 100).wait()->bytes, "first");
}

TEST_F(RadosStoreTest, RemoveRemoves) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("content")).wait());
  EXPECT_OK(store_->remove(data("o")).wait());
  EXPECT_EQ(store_->remove(data("o")).wait().error_number(), ENOENT);
}

TEST_F(RadosStoreTest, ReadSmallRefusesALongerObject) {
  EXPECT_OK(store_->write_full(metadata("o"), bytes_of("0123456789")).wait());
  EXPECT_EQ(store_->read_small(metadata("o"), 10).wait()->bytes, "0123456789");
  EXPECT_EQ(store_->read_small(metadata("o"), 9).wait().error_number(), EFBIG);
  EXPECT_EQ(store_->read_small(metadata("missing"), 9).wait().error_number(), ENOENT);
}

TEST_F(RadosStoreTest, ReplaceSucceedsWithTheCurrentVersionOnly) {
  EXPECT_OK(store_->create(metadata("head"), bytes_of("one")).wait());
  const Result<VersionedBytes> one = store_->read_small(metadata("head"), 100).wait();
  ASSERT_TRUE(one.ok());
  EXPECT_OK(store_->replace(metadata("head"), one->version, bytes_of("two")).wait());
  EXPECT_EQ(store_->replace(metadata("head"), one->version, bytes_of("three")).wait().error_number(),
            ECANCELED);
  const Result<VersionedBytes> two = store_->read_small(metadata("head"), 100).wait();
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two->bytes, "two");
  EXPECT_NE(two->version, one->version);
}

TEST_F(RadosStoreTest, ReplaceOfAMissingObjectIsENOENT) {
  EXPECT_EQ(store_->replace(metadata("missing"), 1, bytes_of("x")).wait().error_number(), ENOENT);
}

TEST_F(RadosStoreTest, VersionIsNotUsedAgainWhenAnObjectIsMadeAgain) {
  EXPECT_OK(store_->create(metadata("head"), bytes_of("old")).wait());
  const uint64_t old_version = store_->read_small(metadata("head"), 100).wait()->version;
  EXPECT_OK(store_->remove(metadata("head")).wait());
  EXPECT_OK(store_->create(metadata("head"), bytes_of("new")).wait());
  EXPECT_EQ(store_->replace(metadata("head"), old_version, bytes_of("late")).wait().error_number(),
            ECANCELED);
  EXPECT_EQ(store_->read_small(metadata("head"), 100).wait()->bytes, "new");
}

TEST_F(RadosStoreTest, OfTwoContendersForTheGuardedSwitchExactlyOneWinsEachRound) {
  const std::shared_ptr<RadosStore> other = ready_store(options_for_test());
  EXPECT_OK(store_->create(metadata("head"), bytes_of("start")).wait());
  for (int round = 0; round < 50; ++round) {
    const uint64_t version = store_->read_small(metadata("head"), 100).wait()->version;
    const std::string a = "a" + std::to_string(round);
    const std::string b = "b" + std::to_string(round);
    Status a_ended;
    std::thread contender([&] { a_ended = store_->replace(metadata("head"), version, bytes_of(a)).wait(); });
    const Status b_ended = other->replace(metadata("head"), version, bytes_of(b)).wait();
    contender.join();
    ASSERT_NE(a_ended.ok(), b_ended.ok()) << a_ended.message() << " / " << b_ended.message();
    EXPECT_EQ(store_->read_small(metadata("head"), 100).wait()->bytes, a_ended.ok() ? a : b);
  }
}

TEST_F(RadosStoreTest, AttributesAreKept) {
  EXPECT_OK(store_->write_full(metadata("o"), bytes_of("content")).wait());
  EXPECT_EQ(store_->get_xattr(metadata("o"), "key").wait().error_number(), ENOENT);
  EXPECT_OK(store_->set_xattr(metadata("o"), "key", std::string("va\0lue", 6)).wait());
  const Result<std::string> value = store_->get_xattr(metadata("o"), "key").wait();
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, std::string("va\0lue", 6));
}

TEST_F(RadosStoreTest, TableIsReadInPagesInOrderOfKey) {
  std::vector<OmapEntry> entries;
  for (char key = 'a'; key <= 'j'; ++key) entries.push_back({std::string(1, key), std::string(3, key)});
  EXPECT_OK(store_->omap_set(metadata("table"), entries).wait());
  const Result<OmapPage> first = store_->omap_get(metadata("table"), "", 6).wait();
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first->entries.size(), 6U);
  EXPECT_TRUE(first->more);
  const Result<OmapPage> second = store_->omap_get(metadata("table"), first->entries.back().key, 6).wait();
  ASSERT_TRUE(second.ok());
  ASSERT_EQ(second->entries.size(), 4U);
  EXPECT_FALSE(second->more);
  EXPECT_EQ(second->entries.front().key, "g");
  EXPECT_EQ(second->entries.front().value, "ggg");
}

TEST_F(RadosStoreTest, TableForgetsRemovedKeys) {
  EXPECT_OK(store_->omap_set(metadata("table"), {{"a", "1"}, {"b", "2"}, {"c", "3"}}).wait());
  EXPECT_OK(store_->omap_remove(metadata("table"), {"a", "c", "unknown"}).wait());
  const Result<OmapPage> page = store_->omap_get(metadata("table"), "", 10).wait();
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->entries.size(), 1U);
  EXPECT_EQ(page->entries.front().key, "b");
}

TEST_F(RadosStoreTest, ListFindsAllObjectsWithThePrefixInTheNamespaceOnly) {
  RadosOptions elsewhere = options_for_test();
  elsewhere.rados_namespace += ".other";
  EXPECT_OK(ready_store(elsewhere)->write_full(data("a/elsewhere"), bytes_of("x")).wait());
  std::set<std::string> written;
  {
    CallWindow window(16);
    for (int i = 0; i < 1500; ++i) {
      const std::string name = (i % 3 == 0 ? "b/" : "a/") + std::to_string(i);
      if (i % 3 != 0) written.insert(name);
      window.start<void>(store_->write_full(data(name), bytes_of("x")),
                         [](const Status& status) { EXPECT_TRUE(status.ok()) << status.message(); });
    }
  }
  std::set<std::string> found;
  EXPECT_OK(
      store_->list(Pool::kData, "a/", [&](const std::string& name) { return found.insert(name).second; }));
  EXPECT_EQ(found, written);
}

TEST_F(RadosStoreTest, ListEndsWhenTheVisitorHasSeenEnough) {
  for (const char* name : {"a", "b", "c"}) EXPECT_OK(store_->write_full(data(name), bytes_of("x")).wait());
  int visited = 0;
  EXPECT_OK(store_->list(Pool::kData, "", [&](const std::string&) { return ++visited < 2; }));
  EXPECT_EQ(visited, 2);
}

TEST_F(RadosStoreTest, DataPoolMayBeErasureCoded) {
  RadosOptions options = options_for_test();
  options.pool = CephCluster::kErasureCodedPool;
  const std::shared_ptr<RadosStore> store = ready_store(options);
  const std::string content = pattern((4 << 20) - 77, 5);
  EXPECT_OK(store->write_full(data("o"), bytes_of("to be replaced")).wait());
  EXPECT_OK(store->write_full(data("o"), bytes_of(content)).wait());
  EXPECT_EQ(store->create(data("o"), bytes_of("x")).wait().error_number(), EEXIST);
  std::string buffer(100'000, '#');
  EXPECT_OK(store->read(data("o"), 1'234'567, {{buffer.data(), buffer.size()}}).wait());
  EXPECT_EQ(buffer, content.substr(1'234'567, buffer.size()));
  EXPECT_OK(store->omap_set(metadata("table"), {{"key", "value"}}).wait());
  EXPECT_EQ(*store->stat(data("o")).wait(), content.size());
  EXPECT_OK(store->remove(data("o")).wait());
}

TEST_F(RadosStoreTest, WindowKeepsNoMoreInFlightThanItsLimit) {
  std::atomic<int> ended{0};
  uint64_t most = 0;
  CallWindow window(4);
  for (int i = 0; i < 100; ++i) {
    window.start<void>(store_->write_full(data("o" + std::to_string(i)), bytes_of("x")),
                       [&ended](const Status& status) { ended += status.ok() ? 1 : 0; });
    most = std::max<uint64_t>(most, store_->counters().in_flight);
  }
  window.drain();
  EXPECT_EQ(ended, 100);
  EXPECT_LE(most, 4U);
}

TEST_F(RadosStoreTest, CountsOperationsAndBytes) {
  EXPECT_OK(store_->write_full(data("o"), bytes_of("0123456789")).wait());
  EXPECT_EQ(read("o", 5, 100), "56789");
  EXPECT_EQ(read("missing", 0, 100), "errno " + std::to_string(ENOENT));
  EXPECT_OK(store_->stat(data("o")).wait());
  const StoreCounters& counters = store_->counters();
  EXPECT_EQ(counters.writes, 1U);
  EXPECT_EQ(counters.written_bytes, 10U);
  EXPECT_EQ(counters.reads, 2U);
  EXPECT_EQ(counters.read_bytes, 5U);
  EXPECT_EQ(counters.others, 1U);
  EXPECT_EQ(counters.errors, 0U);
  EXPECT_EQ(counters.in_flight, 0U);
}

}  // namespace
}  // namespace cached::origin
