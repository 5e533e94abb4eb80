// Notices: packets on the session socket, and what a client makes of them.
#include "shm/notice.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>
#include <thread>

#include "base/unique_fd.h"
#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

Notice notice(NoticeKind kind, uint64_t number) {
  return {.kind = kind, .handle = {1, number}, .told_at_ns = 100 + number};
}

class NoticePackets : public ::testing::Test {
 protected:
  NoticePackets() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    daemon_.reset(pair[0]);
    client_.reset(pair[1]);
  }
  int error_after(const NoticePacket& packet, size_t bytes) {
    EXPECT_EQ(::send(daemon_.get(), &packet, bytes, 0), static_cast<ssize_t>(bytes));
    return receive_notices(client_.get()).error_number();
  }
  UniqueFd daemon_;
  UniqueFd client_;
};

TEST_F(NoticePackets, ArriveAsTheyWereSent) {
  const std::vector<Notice> sent{notice(NoticeKind::kInode, 5), notice(NoticeKind::kEntries, 6)};
  ASSERT_TRUE(send_notices(daemon_.get(), sent).ok());
  const Result<std::vector<Notice>> received = receive_notices(client_.get());
  ASSERT_TRUE(received.ok());
  ASSERT_EQ(received->size(), 2U);
  EXPECT_EQ((*received)[1].kind, NoticeKind::kEntries);
  EXPECT_EQ((*received)[1].handle, (Handle{1, 6}));
  EXPECT_EQ((*received)[1].told_at_ns, 106U);
}

TEST_F(NoticePackets, ManyTakeSeveralPackets) {
  const std::vector<Notice> sent(2 * kMaximumNotices + 1, notice(NoticeKind::kInode, 1));
  ASSERT_TRUE(send_notices(daemon_.get(), sent).ok());
  size_t received = 0;
  for (int packet = 0; packet < 3; ++packet) received += receive_notices(client_.get())->size();
  EXPECT_EQ(received, sent.size());
  EXPECT_EQ(receive_notices(client_.get()).error_number(), EAGAIN);
}

TEST_F(NoticePackets, FullSocketIsSaidAndNotWaitedFor) {
  const std::vector<Notice> one{notice(NoticeKind::kInode, 1)};
  Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i) status = send_notices(daemon_.get(), one);
  EXPECT_EQ(status.error_number(), EAGAIN);
}

TEST_F(NoticePackets, WhatIsNoneIsRefused) {
  NoticePacket packet;
  packet.count = 1;
  packet.notices[0] = notice(NoticeKind::kInode, 1);
  EXPECT_EQ(error_after(packet, packet_bytes(1)), 0);
  EXPECT_EQ(error_after(packet, 8), EPROTO);
  EXPECT_EQ(error_after(packet, packet_bytes(2)), EPROTO) << "longer than its count says";
  NoticePacket many = packet;
  many.count = kMaximumNotices + 1;
  EXPECT_EQ(error_after(many, sizeof many), EPROTO);
  NoticePacket other = packet;
  other.magic = kHelloMagic;
  EXPECT_EQ(error_after(other, packet_bytes(1)), EPROTO);
  NoticePacket unknown = packet;
  unknown.notices[0].kind = static_cast<NoticeKind>(9);
  EXPECT_EQ(error_after(unknown, packet_bytes(1)), EPROTO);
}

TEST_F(NoticePackets, EndOfFileIsNoPacket) {
  daemon_.reset();
  EXPECT_EQ(receive_notices(client_.get()).error_number(), ECONNRESET);
}

class ClientNotices : public ::testing::Test {
 protected:
  void connect() {
    auto client = Client::connect(daemon_.client_options());
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = std::move(*client);
    client_->on_notices([this](const std::vector<Notice>& notices) {
      const std::lock_guard lock(mutex_);
      told_.insert(told_.end(), notices.begin(), notices.end());
    });
  }
  bool eventually_told(NoticeKind kind) {
    for (int i = 0; i < 5000; ++i) {
      {
        const std::lock_guard lock(mutex_);
        for (const Notice& one : told_) {
          if (one.kind == kind) return true;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  size_t told() {
    const std::lock_guard lock(mutex_);
    return told_.size();
  }
  bool attached_again() {
    for (int i = 0; i < 10'000; ++i) {
      if (client_->counter(Counter::kReattachments) == 1) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  ScriptedDaemon daemon_;
  std::mutex mutex_;
  std::vector<Notice> told_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientNotices, ArePassedOnAndTheSessionGoesOn) {
  daemon_.start();
  connect();
  EXPECT_EQ(daemon_.hellos().back().flags, kHelloWantsNotices);
  daemon_.tell({notice(NoticeKind::kInode, 3)});
  EXPECT_TRUE(eventually_told(NoticeKind::kInode));
  daemon_.tell({notice(NoticeKind::kEntries, 4)});
  EXPECT_TRUE(eventually_told(NoticeKind::kEntries));
  EXPECT_TRUE(client_->attached());
}

TEST_F(ClientNotices, EndWhenTheirHandlerIsTakenAway) {
  daemon_.start();
  connect();
  client_->on_notices(nullptr);
  daemon_.tell({notice(NoticeKind::kInode, 3)});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(told(), 0U);
  EXPECT_TRUE(client_->attached());
}

TEST_F(ClientNotices, NewAttachmentOutdatesEverythingWhereChangesAreTold) {
  daemon_.spoil_with([](Offer* offer) { offer->welcome.flags = kWelcomeTellsChanges; });
  daemon_.start();
  connect();
  EXPECT_TRUE(client_->tells_changes());
  EXPECT_EQ(told(), 0U);
  daemon_.kill();
  daemon_.start();
  EXPECT_TRUE(eventually_told(NoticeKind::kEverything));
}

TEST_F(ClientNotices, NewAttachmentSaysNothingWhereNoChangesAreTold) {
  daemon_.start();
  connect();
  EXPECT_FALSE(client_->tells_changes());
  daemon_.kill();
  daemon_.start();
  ASSERT_TRUE(attached_again());
  EXPECT_EQ(told(), 0U);
}

}  // namespace
}  // namespace cached::shm::test
