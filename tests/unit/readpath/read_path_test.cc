// The read path against a scripted origin, a real reactor and a real memory tier.
#include "cached/readpath/read_path.h"

#include <gtest/gtest.h>

#include <future>

#include "cached/memory_tier/shared_memory.h"
#include "scripted_source.h"

namespace cached::readpath {
namespace {

constexpr uint64_t kArenaBytes = 64 * 1024 * 1024;

class ReadPathTest : public testing::Test {
 protected:
  void SetUp() override { build(kArenaBytes, {}); }

  void build(uint64_t arena_bytes, const ReadPath::Options& options) {
    memory_tier::SharedMemory::Options memory_options;
    memory_options.arena_bytes = arena_bytes;
    memory_options.name_entries = 4096;
    memory_ = std::move(memory_tier::SharedMemory::create(memory_options)).value();
    reactor_ = std::move(io::Reactor::create({.name = "test"})).value();
    memory_tier::MemoryTier::Options tier_options;
    tier_options.arena = memory_->arena();
    tier_options.region_count = memory_->region_count();
    tier_options.scan_hazards = [](std::vector<uint32_t>*) {};
    tier_options.prepare_region = [this](uint64_t region) { return memory_->prepare_region(region); };
    tier_ = std::make_unique<memory_tier::MemoryTier>(tier_options, memory_->block_writer(0));
    read_path_ = std::make_unique<ReadPath>(*reactor_, *tier_, options);
    reactor_->start();
  }

  void TearDown() override {
    reactor_->stop();
    read_path_.reset();
    tier_.reset();
  }

  // Runs `work` on the reactor and waits for it.
  void on_reactor(std::function<void()> work) {
    std::promise<void> done;
    reactor_->post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  ReadRequest request(uint64_t object, uint64_t offset, uint32_t length) {
    ReadRequest request;
    request.volume = 1;
    request.source = &source_;
    request.object = {7, object};
    request.offset = offset;
    request.length = length;
    request.buffer = buffer_.data();
    request.buffer_bytes = buffer_.size();
    return request;
  }

  // Starts a read; its result goes into the future. Never released pins stay pinned.
  std::future<ReadResult> start(const ReadRequest& wanted) {
    auto promise = std::make_shared<std::promise<ReadResult>>();
    on_reactor([&] { io::spawn(run(wanted, promise)); });
    return promise->get_future();
  }

  ReadResult read(uint64_t object, uint64_t offset, uint32_t length) {
    return start(request(object, offset, length)).get();
  }

  void unpin(const ReadResult& result) {
    on_reactor([&] {
      for (const ReadResult::Pinned& piece : result.pieces) read_path_->unpin(piece.slot);
    });
  }

  void expect_bytes(const ReadResult& result, uint64_t object, uint64_t offset, uint32_t length) {
    ASSERT_TRUE(result.outcome.ok());
    uint64_t at = offset;
    if (result.in_buffer) {
      for (uint32_t i = 0; i < length; ++i, ++at) {
        ASSERT_EQ(buffer_[result.buffer_offset + i], expected_byte({7, object}, at)) << "at " << at;
      }
      return;
    }
    for (const ReadResult::Pinned& piece : result.pieces) {
      const std::byte* const bytes = memory_->arena() + piece.extent.arena_offset_bytes;
      for (uint32_t i = 0; i < piece.extent.length; ++i, ++at) {
        ASSERT_EQ(bytes[i], expected_byte({7, object}, at)) << "at " << at;
      }
    }
    EXPECT_EQ(at, offset + length);
  }

  void wait_for_reads(size_t count) {
    for (size_t seen = 0; seen < count;) {
      on_reactor([&] { seen = source_.reads.size(); });
    }
  }

  io::Task<void> run(ReadRequest wanted, std::shared_ptr<std::promise<ReadResult>> promise) {
    promise->set_value(co_await read_path_->read(wanted));
  }

  ScriptedSource source_;
  std::vector<std::byte> buffer_{4 * 1024 * 1024};
  std::unique_ptr<memory_tier::SharedMemory> memory_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<memory_tier::MemoryTier> tier_;
  std::unique_ptr<ReadPath> read_path_;
};

TEST_F(ReadPathTest, UnalignedReadOverSeveralBlocksDeliversItsBytes) {
  const ReadResult result = read(1, 100'001, 600'000);
  expect_bytes(result, 1, 100'001, 600'000);
  unpin(result);
}

TEST_F(ReadPathTest, LastBlockEndsWithTheObject) {
  source_.object_bytes = 3 * shm::kBlockBytes + 777;
  const ReadResult result = read(1, 3 * shm::kBlockBytes, 777);
  expect_bytes(result, 1, 3 * shm::kBlockBytes, 777);
  EXPECT_EQ(read(1, 3 * shm::kBlockBytes, 778).outcome.error, EINVAL);
  unpin(result);
}

TEST_F(ReadPathTest, NeighbouringBlocksAreReadByOneCommand) {
  unpin(read(1, 0, 1024 * 1024));
  EXPECT_EQ(source_.reads.size(), 1U);
  EXPECT_EQ(source_.reads[0]->length, 1024U * 1024);
}

TEST_F(ReadPathTest, SecondReadIsAHit) {
  unpin(read(1, 0, 4096));
  const ReadResult again = read(1, 4096, 8192);
  expect_bytes(again, 1, 4096, 8192);
  EXPECT_EQ(source_.reads.size(), 1U);
  unpin(again);
}

TEST_F(ReadPathTest, FilesThatFollowAreFetchedBeforeTheyAreAskedFor) {
  source_.following_files = {{{.handle = {}, .object = {7, 2}, .offset = 0, .size = 1000},
                              {.handle = {}, .object = {7, 3}, .offset = 5000, .size = 200'000}},
                             {{.handle = {}, .object = {7, 4}, .offset = 0, .size = 9}}};
  unpin(read(1, 0, 4096));
  wait_for_reads(4);
  on_reactor([] {});
  const ReadResult second = read(2, 0, 1000);
  const ReadResult third = read(3, 5000, 200'000);
  const ReadResult fourth = read(4, 0, 9);
  expect_bytes(second, 2, 0, 1000);
  expect_bytes(third, 3, 5000, 200'000);
  expect_bytes(fourth, 4, 0, 9);
  EXPECT_EQ(source_.reads.size(), 4U) << "and none of these was read again";
  for (const ReadResult& result : {second, third, fourth}) unpin(result);
}

TEST_F(ReadPathTest, AReadThatFailsTellsOfFilesThatFollowAllTheSame) {
  source_.open_outcome.error = EACCES;
  source_.following_files = {{{.handle = {}, .object = {7, 2}, .offset = 0, .size = 1000}}};
  EXPECT_EQ(read(1, 0, 4096).outcome.error, EACCES);
  on_reactor([&] { EXPECT_TRUE(source_.following_files.empty()) << "they were taken"; });
}

TEST_F(ReadPathTest, ManyReadersOfABlockCauseOneFetch) {
  source_.hold = true;
  std::vector<std::future<ReadResult>> readers;
  for (int i = 0; i < 50; ++i) readers.push_back(start(request(1, 1000, 5000)));
  wait_for_reads(1);
  on_reactor([&] { source_.release_one(); });
  for (std::future<ReadResult>& reader : readers) {
    const ReadResult result = reader.get();
    expect_bytes(result, 1, 1000, 5000);
    unpin(result);
  }
  EXPECT_EQ(source_.reads.size(), 1U);
  on_reactor([&] { EXPECT_EQ(tier_->stats().slots_pinned, 0U); });
}

TEST_F(ReadPathTest, ErrorReachesAllWaitersAndIsNotRemembered) {
  source_.hold = true;
  source_.next_outcome = {.error = EIO};
  auto first = start(request(1, 0, 4096));
  auto second = start(request(1, 0, 4096));
  wait_for_reads(1);
  on_reactor([&] { source_.release_one(); });
  EXPECT_EQ(first.get().outcome.error, EIO);
  EXPECT_EQ(second.get().outcome.error, EIO);
  source_.hold = false;
  source_.next_outcome = {};
  const ReadResult result = read(1, 0, 4096);
  expect_bytes(result, 1, 0, 4096);
  unpin(result);
}

TEST_F(ReadPathTest, ChangedObjectIsToldApartFromAnError) {
  source_.next_outcome = {.error = ESTALE, .changed = true};
  const ReadResult result = read(1, 0, 4096);
  EXPECT_EQ(result.outcome.error, ESTALE);
  EXPECT_TRUE(result.outcome.changed);
}

TEST_F(ReadPathTest, PartlyFailedReadLeavesNoPins) {
  unpin(read(1, 0, 4096));
  source_.next_outcome = {.error = EIO};
  EXPECT_EQ(read(1, 0, 512 * 1024).outcome.error, EIO);
  on_reactor([&] { EXPECT_EQ(tier_->stats().slots_pinned, 0U); });
}

TEST_F(ReadPathTest, ReadGoesThroughTheBufferWhenAllSlotsArePinned) {
  std::vector<ReadResult> pinned;
  for (uint64_t at = 0; at < kArenaBytes; at += 1024 * 1024)
    pinned.push_back(read(1, at % source_.object_bytes, 1024 * 1024));
  const ReadResult result = read(2, 5'000'123, 1024 * 1024 - 123 - 5'000);
  EXPECT_TRUE(result.in_buffer);
  expect_bytes(result, 2, 5'000'123, 1024 * 1024 - 123 - 5'000);
  for (const ReadResult& held : pinned) unpin(held);
  const ReadResult after = read(2, 5'000'123, 100'000);
  EXPECT_FALSE(after.in_buffer);
  expect_bytes(after, 2, 5'000'123, 100'000);
  unpin(after);
}

TEST_F(ReadPathTest, WaiterForSlotsGetsThemWhenPinsAreGivenBack) {
  TearDown();
  build(kArenaBytes, {.slot_wait_ns = 10'000'000'000});
  std::vector<ReadResult> pinned;
  for (uint64_t at = 0; at < kArenaBytes; at += 1024 * 1024) pinned.push_back(read(1, at, 1024 * 1024));
  auto waiting = start(request(2, 0, 1024 * 1024));
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  for (const ReadResult& held : pinned) unpin(held);
  const ReadResult result = waiting.get();
  EXPECT_FALSE(result.in_buffer);
  expect_bytes(result, 2, 0, 1024 * 1024);
  unpin(result);
}

TEST_F(ReadPathTest, PrefetchMakesTheReadAHit) {
  on_reactor([&] { io::spawn(read_path_->prefetch(request(1, 0, 4 * 1024 * 1024))); });
  wait_for_reads(4);
  const ReadResult result = read(1, 3 * 1024 * 1024, 1024 * 1024);
  expect_bytes(result, 1, 3 * 1024 * 1024, 1024 * 1024);
  EXPECT_EQ(source_.reads.size(), 4U);
  unpin(result);
}

TEST_F(ReadPathTest, ReaderThatJoinsAQueuedPrefetchLiftsItsPriority) {
  TearDown();
  build(kArenaBytes, {.fetches_in_flight = 1});
  source_.hold = true;
  // One command is in flight, three megabytes of read-ahead queue behind it, in order.
  on_reactor([&] { io::spawn(read_path_->prefetch(request(1, 0, 4 * 1024 * 1024))); });
  auto reader = start(request(1, 3 * 1024 * 1024, 4096));
  on_reactor([&] { source_.release_one(); });
  wait_for_reads(2);
  EXPECT_EQ(source_.reads[1]->offset, 3U * 1024 * 1024);
  on_reactor([&] { source_.release_one(); });
  unpin(reader.get());
  wait_for_reads(3);
  on_reactor([&] {
    source_.hold = false;
    source_.release_one();
  });
}

TEST_F(ReadPathTest, HangingSourceOfOneVolumeHoldsUpNoOther) {
  TearDown();
  build(kArenaBytes, {.fetches_in_flight = 2});
  source_.hold = true;
  std::vector<std::future<ReadResult>> hanging;
  for (uint64_t object = 1; object <= 4; ++object) hanging.push_back(start(request(object, 0, 4096)));
  wait_for_reads(2);
  ScriptedSource well;
  ReadRequest other = request(1, 0, 4096);
  other.volume = 2;
  other.source = &well;
  const ReadResult result = start(other).get();
  EXPECT_TRUE(result.outcome.ok());
  unpin(result);
  on_reactor([&] {
    EXPECT_EQ(source_.reads.size(), 2U);
    source_.hold = false;
    // The end of one lets another begin and end, so it is not for release_one() to say which is next.
    const std::deque<std::shared_ptr<ScriptedSource::Read>> held = source_.reads;
    for (const std::shared_ptr<ScriptedSource::Read>& read : held) read->proceed.set();
  });
  for (std::future<ReadResult>& read : hanging) unpin(read.get());
}

TEST_F(ReadPathTest, PrefetchBeyondItsLimitIsDropped) {
  TearDown();
  build(kArenaBytes, {.prefetch_limit_bytes = 2 * 1024 * 1024});
  on_reactor([&] { io::spawn(read_path_->prefetch(request(1, 0, 4 * 1024 * 1024))); });
  on_reactor([&] { EXPECT_EQ(read_path_->stats().prefetch_dropped, 1U); });
  EXPECT_TRUE(source_.reads.empty());
}

TEST_F(ReadPathTest, ReadersOfMoreThanTheArenaAllGetTheirBytes) {
  source_.object_bytes = 256 * 1024 * 1024;
  for (int pass = 0; pass < 2; ++pass) {
    for (uint64_t at = 0; at < source_.object_bytes; at += 4 * 1024 * 1024) {
      const ReadResult result = read(3, at + 12'345, 900'000);
      expect_bytes(result, 3, at + 12'345, 900'000);
      unpin(result);
    }
  }
  on_reactor([&] { EXPECT_EQ(tier_->check(), ""); });
}

}  // namespace
}  // namespace cached::readpath
