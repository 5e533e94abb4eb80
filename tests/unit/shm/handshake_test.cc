// Packets of the handshake over a socket pair.
#include "shm/handshake.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

namespace cached::shm {
namespace {

class Handshake : public ::testing::Test {
 protected:
  Handshake() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    here_.reset(fds[0]);
    there_.reset(fds[1]);
  }
  UniqueFd here_;
  UniqueFd there_;
  std::vector<UniqueFd> received_;
};

TEST_F(Handshake, PacketArrivesAsItWasSent) {
  Hello hello;
  hello.queue_count = 17;
  ASSERT_TRUE(send_packet(here_.get(), &hello, sizeof hello, {}).ok());
  Hello arrived;
  ASSERT_TRUE(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).ok());
  EXPECT_EQ(arrived.queue_count, 17U);
  EXPECT_TRUE(received_.empty());
}

TEST_F(Handshake, ShortPacketIsRefused) {
  ASSERT_TRUE(send_packet(here_.get(), "abc", 3, {}).ok());
  Hello arrived;
  EXPECT_EQ(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).error_number(), EPROTO);
}

TEST_F(Handshake, LongPacketIsRefused) {
  const std::string long_packet(sizeof(Hello) + 1, 'x');
  ASSERT_TRUE(send_packet(here_.get(), long_packet.data(), long_packet.size(), {}).ok());
  Hello arrived;
  EXPECT_EQ(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).error_number(), EPROTO);
}

TEST_F(Handshake, DescriptorsArriveCloseOnExec) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const Welcome welcome;
  ASSERT_TRUE(send_packet(here_.get(), &welcome, sizeof welcome, {event.get(), event.get()}).ok());
  Welcome arrived;
  ASSERT_TRUE(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).ok());
  ASSERT_EQ(received_.size(), 2U);
  EXPECT_EQ(::fcntl(received_[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  const uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
  uint64_t count = 0;
  EXPECT_EQ(::read(received_[1].get(), &count, sizeof count), 8);
  EXPECT_EQ(count, 1U);
}

TEST_F(Handshake, DescriptorsOfARefusedPacketAreClosed) {
  UniqueFd pipe_read;
  UniqueFd pipe_write;
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  pipe_read.reset(fds[0]);
  pipe_write.reset(fds[1]);
  ASSERT_TRUE(send_packet(here_.get(), "abc", 3, {pipe_write.get()}).ok());
  Hello arrived;
  EXPECT_EQ(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).error_number(), EPROTO);
  received_.clear();
  pipe_write.reset();
  char byte = 0;
  EXPECT_EQ(::read(pipe_read.get(), &byte, 1), 0) << "a writer is left";
}

TEST_F(Handshake, TooManyDescriptorsAreNotSent) {
  const Welcome welcome;
  const std::vector<int> many(kMaximumHandshakeFds + 1, here_.get());
  EXPECT_EQ(send_packet(here_.get(), &welcome, sizeof welcome, many).error_number(), EINVAL);
}

TEST_F(Handshake, EndOfFileIsAReset) {
  here_.reset();
  Hello arrived;
  EXPECT_EQ(receive_packet(there_.get(), &arrived, sizeof arrived, &received_).error_number(), ECONNRESET);
}

TEST_F(Handshake, SendingToNobodyIsAnErrorAndNoSignal) {
  there_.reset();
  const Hello hello;
  EXPECT_EQ(send_packet(here_.get(), &hello, sizeof hello, {}).error_number(), EPIPE);
}

}  // namespace
}  // namespace cached::shm
