// Reading through a channel: hits, misses in both forms, and answers that cannot be.
#include <gtest/gtest.h>

#include <cstring>

#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

constexpr ObjectId kObject{0xA, 0xB};
constexpr Handle kFile{5, 5};

class ChannelRead : public ::testing::Test {
 protected:
  ChannelRead() { daemon_.start(); }
  void connect() { connect(daemon_.client_options()); }
  void connect(const ClientOptions& options) {
    auto client = Client::connect(options);
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = std::move(*client);
    auto channel = client_->open_channel();
    ASSERT_TRUE(channel.ok());
    channel_ = std::move(*channel);
  }
  static FileReference file(uint64_t layout_base = 0) {
    FileReference reference;
    reference.handle = kFile;
    reference.object = kObject;
    reference.layout_base = layout_base;
    return reference;
  }
  // The daemon answers READs with extents at arena offset 1 MiB + the offset in the object.
  void answer_pinned() {
    daemon_.answer_with([this](const Question& question) {
      const Submission& read = question.submission;
      daemon_.fill_arena(1024 * 1024 + read.offset % kExtentBytes, kObject, read.offset, read.length);
      return pinned(1024 * 1024 + read.offset % kExtentBytes, read.length);
    });
  }
  void answer_in_buffer() {
    daemon_.answer_with([](const Question& question) { return in_buffer(question, kObject); });
  }
  uint64_t counter(Counter counter) const { return client_->counter(counter); }

  ScriptedDaemon daemon_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(ChannelRead, HitAsksNobody) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  auto view = channel_->read(file(), 1000, 5000);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_TRUE(holds(*view, kObject, 1000, 5000));
  EXPECT_TRUE(daemon_.submissions().empty());
  EXPECT_EQ(counter(Counter::kHits), 1U);
  EXPECT_EQ(counter(Counter::kHitBytes), 5000U);
  EXPECT_EQ(counter(Counter::kRequests), 0U);
}

TEST_F(ChannelRead, HitSpansBlocks) {
  daemon_.publish_block(kObject, 2, 0, kBlockBytes, 10);
  daemon_.publish_block(kObject, 3, 0, 70'000, 100);
  connect();
  auto view = channel_->read(file(), 3 * kBlockBytes - 100, 70'100);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->iovec_count(), 2U);
  EXPECT_TRUE(holds(*view, kObject, 3 * kBlockBytes - 100, 70'100));
}

TEST_F(ChannelRead, HitIsMadeOfPiecesOfABlock) {
  for (uint32_t chunk = 0; chunk < 8; ++chunk) {
    daemon_.publish_block(kObject, 0, chunk * kChunkBytes, kChunkBytes, 10 + 7 * chunk);
  }
  connect();
  auto view = channel_->read(file(), 1, kBlockBytes - 2);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->iovec_count(), 8U);
  EXPECT_TRUE(holds(*view, kObject, 1, kBlockBytes - 2));
  EXPECT_EQ(counter(Counter::kHits), 8U);
}

TEST_F(ChannelRead, FileMayStartInTheMiddleOfABlock) {
  daemon_.publish_block(kObject, 1, 0, kBlockBytes, 10);
  connect();
  auto view = channel_->read(file(kBlockBytes + 777), 10, 1000);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, kBlockBytes + 787, 1000));
}

TEST_F(ChannelRead, EmptyReadIsAnEmptyView) {
  connect();
  auto view = channel_->read(file(), 10, 0);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->iovec_count(), 0U);
}

TEST_F(ChannelRead, ViewHoldsHazardsUntilItIsReleased) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  daemon_.publish_block(kObject, 1, 0, kBlockBytes, 50);
  connect();
  {
    auto view = channel_->read(file(), kBlockBytes - 1, 2);
    ASSERT_TRUE(view.ok());
    EXPECT_EQ(daemon_.published_hazards(), 2U);
  }
  EXPECT_EQ(daemon_.published_hazards(), 0U);
}

TEST_F(ChannelRead, NextReadIntoTheSameVariableKeepsItsOwnView) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  auto view = channel_->read(file(), 0, 100);
  view = channel_->read(file(), 5000, 100);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 5000, 100));
  EXPECT_EQ(daemon_.published_hazards(), 1U);
}

TEST_F(ChannelRead, TouchesNameThePagesUsedOnceInARow) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  daemon_.publish_block(kObject, 1, 0, kBlockBytes, 50);
  connect();
  for (const uint64_t offset : {0UL, 4096UL, kBlockBytes, uint64_t{0}})
    (void)channel_->read(file(), offset, 100);
  EXPECT_EQ(daemon_.touches(), (std::vector<uint32_t>{10, 50, 10}));
}

TEST_F(ChannelRead, CountersReachTheSession) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  for (int i = 0; i < 100; ++i) (void)channel_->read(file(), 0, 100);
  EXPECT_GE(daemon_.session_counter(Counter::kReads), 63U);
  EXPECT_EQ(counter(Counter::kReads), 100U);
  channel_.reset();
  EXPECT_EQ(daemon_.session_counter(Counter::kReads), 100U);
  EXPECT_EQ(counter(Counter::kReads), 100U);
}

TEST_F(ChannelRead, RecordOutsideTheArenaIsAMiss) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, kArenaBytes / kPageBytes - 1);
  answer_pinned();
  connect();
  auto view = channel_->read(file(), 0, 100);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 0, 100));
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).size(), 1U);
}

TEST_F(ChannelRead, MissComesInPinnedExtentsThatAreGivenBack) {
  answer_pinned();
  connect();
  auto view = channel_->read(file(), 100, 200'000);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_TRUE(holds(*view, kObject, 100, 200'000));
  EXPECT_TRUE(daemon_.submissions(Opcode::kRelease).empty());
  view->release();
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRelease, 1));
  EXPECT_EQ(daemon_.submissions(Opcode::kRelease)[0].pinned_request,
            daemon_.submissions(Opcode::kRead)[0].request_number);
  EXPECT_EQ(counter(Counter::kMisses), 2U);
  EXPECT_EQ(counter(Counter::kMissBytes), 200'000U);
}

TEST_F(ChannelRead, MissComesInTheBuffer) {
  answer_in_buffer();
  connect();
  auto view = channel_->read(file(), 100, kMaximumReadBytes);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_TRUE(holds(*view, kObject, 100, kMaximumReadBytes));
  view->release();
  EXPECT_TRUE(daemon_.submissions(Opcode::kRelease).empty());
}

TEST_F(ChannelRead, OnlyTheMissingBytesAreAskedFor) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  daemon_.publish_block(kObject, 3, 0, kBlockBytes, 100);
  answer_in_buffer();
  connect();
  auto view = channel_->read(file(), 1000, 4 * kBlockBytes - 2000);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 1000, 4 * kBlockBytes - 2000));
  const Submission read = daemon_.submissions(Opcode::kRead).at(0);
  EXPECT_EQ(read.offset, kBlockBytes);
  EXPECT_EQ(read.length, 2 * kBlockBytes);
  EXPECT_EQ(daemon_.published_hazards(), 2U);
}

TEST_F(ChannelRead, PiecesInsideTheMissingRangeAreLetGo) {
  daemon_.publish_block(kObject, 1, 0, kBlockBytes, 10);
  answer_in_buffer();
  connect();
  auto view = channel_->read(file(), 0, 3 * kBlockBytes);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 0, 3 * kBlockBytes));
  EXPECT_EQ(daemon_.published_hazards(), 0U);
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).size(), 1U);
}

TEST_F(ChannelRead, RequestsDoNotCrossExtents) {
  answer_in_buffer();
  connect();
  const uint64_t offset = kExtentBytes - 300'000;
  auto view = channel_->read(file(), offset, kMaximumReadBytes);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_TRUE(holds(*view, kObject, offset, kMaximumReadBytes));
  const auto reads = daemon_.submissions(Opcode::kRead);
  ASSERT_EQ(reads.size(), 2U);
  EXPECT_EQ(reads[0].length, 300'000U);
  EXPECT_EQ(reads[1].offset, kExtentBytes);
  EXPECT_GE(reads[1].buffer_offset, reads[0].buffer_offset + reads[0].length + kReadBufferSlackBytes);
  EXPECT_GE(reads[1].buffer_length, reads[1].length + kReadBufferSlackBytes);
}

TEST_F(ChannelRead, FailureOfOneRequestGivesTheOthersPinsBack) {
  daemon_.answer_with([](const Question& question) {
    if (question.submission.offset == kExtentBytes) return failure(ENODATA);
    return pinned(0, question.submission.length);
  });
  connect();
  EXPECT_EQ(channel_->read(file(), kExtentBytes - 1000, 2000).error_number(), ENODATA);
  EXPECT_TRUE(daemon_.await_submissions(Opcode::kRelease, 1));
}

TEST_F(ChannelRead, LayoutThatOnlyTheDaemonKnowsIsNotProbed) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  answer_in_buffer();
  connect();
  FileReference reference = file(12345);
  reference.layout = LayoutKind::kAsk;
  auto view = channel_->read(reference, 100, 1000);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).at(0).offset, 100U);
}

TEST_F(ChannelRead, StaleHandleIsToldFromAChangedObject) {
  connect();
  daemon_.answer_with([](const Question&) { return failure(ESTALE, kCompletionHandleUnknown); });
  EXPECT_EQ(channel_->read(file(), 0, 10).error_number(), ESTALE);
  EXPECT_EQ(channel_->trouble(), Trouble::kHandleUnknown);
  daemon_.answer_with([](const Question&) { return failure(ESTALE, kCompletionObjectChanged); });
  EXPECT_EQ(channel_->read(file(), 0, 10).error_number(), ESTALE);
  EXPECT_EQ(channel_->trouble(), Trouble::kObjectChanged);
  answer_pinned();
  EXPECT_TRUE(channel_->read(file(), 0, 10).ok());
  EXPECT_EQ(channel_->trouble(), Trouble::kNone);
}

// An answer to a READ of 1000 bytes that cannot be true.
class ImpossibleAnswer : public ChannelRead, public ::testing::WithParamInterface<int> {};

TEST_P(ImpossibleAnswer, IsAnErrorAndTheChannelGoesOn) {
  const int kind = GetParam();
  daemon_.answer_with([kind](const Question& question) { return impossible(kind, question.submission); });
  connect();
  EXPECT_EQ(channel_->read(file(), 0, 1000).error_number(), EIO);
  answer_pinned();
  EXPECT_TRUE(channel_->read(file(), 0, 1000).ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImpossibleAnswer, ::testing::Range(0, kImpossibleKinds));

TEST_F(ChannelRead, LimitsAreChecked) {
  connect();
  EXPECT_EQ(channel_->read(file(), 0, kMaximumReadBytes + 1).error_number(), EINVAL);
  EXPECT_EQ(channel_->read(file(), UINT64_MAX - 5, 10).error_number(), EINVAL);
  EXPECT_EQ(channel_->read(file(UINT64_MAX - 5), 10, 10).error_number(), EINVAL);
}

TEST_F(ChannelRead, BufferTooSmallForTheReadIsSaid) {
  ClientOptions options = daemon_.client_options();
  options.buffer_bytes = kMinimumBufferBytes;
  answer_in_buffer();
  connect(options);
  EXPECT_EQ(channel_->read(file(), 0, kMinimumBufferBytes).error_number(), EINVAL);
  EXPECT_TRUE(channel_->read(file(), 0, 1000).ok());
}

TEST_F(ChannelRead, ManyMissesWrapTheRing) {
  ClientOptions options = daemon_.client_options();
  options.queue_depth = 4;
  answer_pinned();
  connect(options);
  for (uint64_t i = 0; i < 500; ++i) {
    auto view = channel_->read(file(), i * 1000, 1000);
    ASSERT_TRUE(view.ok()) << view.status().message();
    ASSERT_TRUE(holds(*view, kObject, i * 1000, 1000));
  }
  EXPECT_TRUE(daemon_.await_submissions(Opcode::kRelease, 500));
}

TEST_F(ChannelRead, PrefetchAsksForWhatIsMissingExtentByExtent) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  channel_->prefetch(file(), 0, kExtentBytes + 1000);
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kPrefetch, 2));
  const auto hints = daemon_.submissions(Opcode::kPrefetch);
  EXPECT_EQ(hints[0].offset, kBlockBytes);
  EXPECT_EQ(hints[0].length, kExtentBytes - kBlockBytes);
  EXPECT_EQ(hints[1].offset, kExtentBytes);
  EXPECT_EQ(hints[1].length, 1000U);
}

TEST_F(ChannelRead, PrefetchOfWhatIsInMemoryAsksNobody) {
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  answer_pinned();
  connect();
  channel_->prefetch(file(), 0, kBlockBytes);
  ASSERT_TRUE(channel_->read(file(), kBlockBytes, 10).ok());  // comes after what would have been sent
  EXPECT_TRUE(daemon_.submissions(Opcode::kPrefetch).empty());
}

TEST_F(ChannelRead, PrefetchesBeyondTheRingAreDropped) {
  ClientOptions options = daemon_.client_options();
  options.queue_depth = 4;
  answer_pinned();
  connect(options);
  for (int i = 0; i < 1000; ++i) channel_->prefetch(file(), kExtentBytes * 5, 1000);
  EXPECT_TRUE(channel_->read(file(), 0, 1000).ok());
}

TEST_F(ChannelRead, ChannelsHaveALimitAndAreReused) {
  connect();
  EXPECT_EQ(client_->open_channel().error_number(), EAGAIN);
  answer_pinned();
  ASSERT_TRUE(channel_->read(file(), 0, 1000).ok());
  channel_.reset();
  auto again = client_->open_channel();
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE((*again)->read(file(), 0, 1000).ok());
}

TEST_F(ChannelRead, ThreadsReadThroughChannelsOfTheirOwn) {
  for (uint32_t block = 0; block < 8; ++block)
    daemon_.publish_block(kObject, block, 0, kBlockBytes, 600 + 32 * block);
  answer_in_buffer();
  ClientOptions options = daemon_.client_options();
  options.channels = 4;
  connect(options);
  channel_.reset();
  std::vector<std::thread> threads;
  std::atomic<unsigned> wrong{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      auto channel = std::move(client_->open_channel().value());
      for (uint64_t i = 0; i < 200; ++i) {
        const uint64_t offset = (i * 37 + t * 11) % 16 * (kBlockBytes / 2 + 1);
        auto view = channel->read(file(), offset, 3000);
        if (!view.ok() || !holds(*view, kObject, offset, 3000)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(counter(Counter::kReads), 800U);
}

}  // namespace
}  // namespace cached::shm::test
