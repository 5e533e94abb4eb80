// Attaching: what fits is taken, and whatever a wrong daemon offers is an error with a sentence, never a
// crash.
#include "shm/attachment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

using ::testing::HasSubstr;

class AttachmentTest : public ::testing::Test {
 protected:
  void offer(std::function<void(Offer*)> spoil) {
    daemon_.spoil_with(std::move(spoil));
    daemon_.start();
  }
  Status connect() { return Client::connect(daemon_.client_options()).status(); }
  // The error when the daemon offers what `spoil` makes of a good offer.
  int error_of(std::function<void(Offer*)> spoil) {
    offer(std::move(spoil));
    const int error = connect().error_number();
    daemon_.kill();
    return error;
  }
  ScriptedDaemon daemon_;
};

TEST_F(AttachmentTest, GoodOfferIsTaken) {
  daemon_.start();
  auto client = Client::connect(daemon_.client_options());
  ASSERT_TRUE(client.ok()) << client.status().message();
  EXPECT_TRUE((*client)->attached());
  EXPECT_EQ((*client)->root().handle, kRoot);
  EXPECT_EQ((*client)->arena().bytes, kArenaBytes);
}

TEST_F(AttachmentTest, HelloSaysWhatWasAskedFor) {
  daemon_.start();
  ClientOptions options = daemon_.client_options();
  options.channels = 3;
  options.queue_depth = 32;
  ASSERT_TRUE(Client::connect(options).ok());
  const Hello hello = daemon_.hellos().at(0);
  EXPECT_EQ(hello.queue_count, 3U);
  EXPECT_EQ(hello.queue_depth, 32U);
  EXPECT_STREQ(hello.volume, "training");
  EXPECT_STREQ(hello.label, "test");
  EXPECT_NE(hello.session_uuid[0], 0U);
}

TEST_F(AttachmentTest, NoDaemonIsAnErrorThatNamesTheSocket) {
  const Status status = connect();
  EXPECT_EQ(status.error_number(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr(daemon_.socket()));
}

TEST_F(AttachmentTest, RefusalIsPassedOn) {
  offer([](Offer* offer) {
    offer->welcome.error_number = EUSERS;
    std::strcpy(offer->welcome.error, "the limit of 64 sessions is reached");
    offer->fds.clear();
  });
  const Status status = connect();
  EXPECT_EQ(status.error_number(), EUSERS);
  EXPECT_THAT(status.message(), HasSubstr("the limit of 64 sessions is reached"));
}

TEST_F(AttachmentTest, RefusalWithoutAnEndOfTextIsRead) {
  EXPECT_EQ(error_of([](Offer* offer) {
              offer->welcome.error_number = EACCES;
              std::memset(offer->welcome.error, 'x', sizeof offer->welcome.error);
            }),
            EACCES);
}

TEST_F(AttachmentTest, WelcomeOfAnotherKindIsRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->welcome.magic = 1; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->welcome.version = 2; }), EPROTO);
}

TEST_F(AttachmentTest, MissingDescriptorsAreRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->fds.pop_back(); }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) {
              offer->fds.clear();
              offer->welcome.fd_count = 0;
            }),
            EPROTO);
}

TEST_F(AttachmentTest, IndexOfAnotherKindIsRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.magic = 1; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.version = 2; }), EPROTO);
}

TEST_F(AttachmentTest, IndexShorterThanItSaysIsRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.total_bytes *= 1000; }), EPROTO);
}

TEST_F(AttachmentTest, EmptyMemfdIsRefused) {
  const UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC));
  for (const unsigned which : {0U, 1U, 2U}) {
    EXPECT_EQ(error_of([&](Offer* offer) { offer->fds[which] = empty.get(); }), EPROTO) << which;
  }
}

TEST_F(AttachmentTest, ArenaShorterThanItSaysIsRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.arena_bytes += 1; }), EPROTO);
}

TEST_F(AttachmentTest, TablesOutsideTheIndexAreRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.blocks.offset_bytes = UINT64_MAX - 63; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.names.offset_bytes += 1 << 20; }), EPROTO);
  EXPECT_EQ(
      error_of([](Offer* offer) { offer->superblock.inodes.buckets_per_partition = uint64_t{1} << 63; }),
      EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.blocks.partitions = 16; }), EPROTO);
}

TEST_F(AttachmentTest, TablesOfAnImpossibleShapeAreRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.blocks.buckets_per_partition = 0; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.blocks.buckets_per_partition = 63; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.blocks.partitions = 0; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.names.record_bytes = 63; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.names.offset_bytes += 1; }), EPROTO);
}

TEST_F(AttachmentTest, ShardsOutOfRangeAreRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.shards = 0; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->superblock.shards = 17; }), EPROTO);
}

TEST_F(AttachmentTest, SessionOfAnotherKindIsRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.magic = 1; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.shards = 2; }), EPROTO);
}

TEST_F(AttachmentTest, SessionAreasOutsideTheSessionAreRefused) {
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.total_bytes *= 2; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.buffers_offset_bytes += uint64_t{1} << 40; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.queues_offset_bytes = UINT64_MAX - 4095; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.queue_stride_bytes = uint64_t{1} << 62; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.queue_count = 0; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.queue_depth = 17; }), EPROTO);
  EXPECT_EQ(error_of([](Offer* offer) { offer->session.buffer_bytes = 4096; }), EPROTO);
}

TEST_F(AttachmentTest, SocketThatNobodyListensOnIsRefused) {
  daemon_.start();
  daemon_.kill();
  EXPECT_EQ(connect().error_number(), ECONNREFUSED);
}

TEST_F(AttachmentTest, SilentDaemonTimesOut) {
  // The spoiling function runs before the answer is sent: here it sits the client's patience out.
  offer([](Offer*) { std::this_thread::sleep_for(std::chrono::milliseconds(400)); });
  ClientOptions options = daemon_.client_options();
  options.daemon_timeout_ms = 100;
  EXPECT_EQ(Client::connect(options).error_number(), ETIMEDOUT);
}

TEST_F(AttachmentTest, ImpossibleOptionsAreRefusedBeforeConnecting) {
  ClientOptions options = daemon_.client_options();
  options.channels = 0;
  EXPECT_EQ(Client::connect(options).error_number(), EINVAL);
  options = daemon_.client_options();
  options.queue_depth = 5;
  EXPECT_EQ(Client::connect(options).error_number(), EINVAL);
  options = daemon_.client_options();
  options.volume.assign(128, 'v');
  EXPECT_EQ(Client::connect(options).error_number(), EINVAL);
}

}  // namespace
}  // namespace cached::shm::test
