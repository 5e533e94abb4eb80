// Sessions: who is let in, what ends a session, and what a session's end gives back.
#include <sys/wait.h>

#include <future>

#include "daemon_fixture.h"
#include "shm/futex.h"

namespace cached::server {
namespace {

class SessionTest : public DaemonFixture {
 protected:
  // What the daemon answers to a hello that was good before `spoil`.
  int answer_to(const std::function<void(shm::Hello*)>& spoil) {
    RawClient client(socket_path());
    shm::Hello hello = RawClient::good_hello();
    spoil(&hello);
    return client.greet(hello);
  }
  // Whether a session whose queue 0 got `submission` is ended.
  void expect_violation(const std::function<void(RawClient&, shm::Submission*)>& spoil) {
    RawClient client(socket_path());
    ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
    const shm::InodeInfo info = client.look_up_file();
    shm::Submission submission = client.read_of(info, 0, 4096);
    spoil(client, &submission);
    client.submit(0, submission);
    EXPECT_TRUE(client.hung_up());
    expect_honest_service();
  }
};

TEST_F(SessionTest, HonestClientIsServed) {
  expect_honest_service();
}

TEST_F(SessionTest, WrongMagicIsRefused) {
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->magic = 1; }), EPROTO);
}
TEST_F(SessionTest, OtherVersionIsRefused) {
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->version = 99; }), EPROTO);
}
TEST_F(SessionTest, UnknownVolumeIsRefused) {
  EXPECT_EQ(answer_to([](shm::Hello* h) { std::strcpy(h->volume, "other"); }), ENOENT);
}
TEST_F(SessionTest, UnterminatedVolumeIsRefused) {
  EXPECT_EQ(answer_to([](shm::Hello* h) { std::memset(h->volume, 'x', sizeof h->volume); }), EINVAL);
}
TEST_F(SessionTest, GeometryOutsideTheLimitsIsRefused) {
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->queue_count = 0; }), EINVAL);
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->queue_count = 65; }), EINVAL);
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->queue_depth = 7; }), EINVAL);
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->queue_depth = 1U << 31; }), EINVAL);
  EXPECT_EQ(answer_to([](shm::Hello* h) { h->buffer_bytes = UINT64_MAX; }), EINVAL);
}
TEST_F(SessionTest, ShortHelloIsRefused) {
  RawClient client(socket_path());
  ASSERT_EQ(::send(client.socket(), "hi", 2, 0), 2);
  shm::Welcome welcome;
  std::vector<UniqueFd> fds;
  ASSERT_TRUE(shm::receive_packet(client.socket(), &welcome, sizeof welcome, &fds).ok());
  EXPECT_EQ(welcome.error_number, EPROTO);
  EXPECT_TRUE(fds.empty());
}
TEST_F(SessionTest, SessionLimitIsSaid) {
  start_server(1);
  RawClient first(socket_path());
  ASSERT_EQ(first.greet(RawClient::good_hello()), 0);
  EXPECT_EQ(answer_to([](shm::Hello*) {}), EUSERS);
}

TEST_F(SessionTest, SecondDaemonOnTheSocketIsRefusedAndTheFirstGoesOn) {
  const auto second =
      SessionServer::create({socket_path(), "", 10}, *memory_, pointers_, {{"data", volume_.get()}});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error_number(), EADDRINUSE);
  expect_honest_service();
}

TEST_F(SessionTest, UnknownOpcodeEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) { s->opcode = static_cast<shm::Opcode>(200); });
}
TEST_F(SessionTest, BufferOutsideTheSessionEndsIt) {
  expect_violation([](RawClient&, shm::Submission* s) { s->buffer_offset = 0xFFFFF000; });
}
TEST_F(SessionTest, ReadWithTooSmallABufferEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) { s->buffer_length = s->length; });
}
TEST_F(SessionTest, ReadOfTooMuchEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) {
    s->length = 1024 * 1024 + 1;
    s->buffer_length = 2 * 1024 * 1024;
  });
}
TEST_F(SessionTest, ReadAcrossAnExtentEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) { s->offset = shm::kExtentBytes - 1; });
}
TEST_F(SessionTest, OffsetBeyondTheLargestObjectEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) { s->offset = UINT64_MAX - 8191; });
}
TEST_F(SessionTest, InputLongerThanItsBufferEndsTheSession) {
  expect_violation([](RawClient&, shm::Submission* s) { s->input_length = s->buffer_length + 1; });
}
TEST_F(SessionTest, RingThatRunsBackwardsEndsTheSession) {
  expect_violation(
      [](RawClient& c, shm::Submission*) { c.queue(0).control().submission_tail.store(0xFFFFFF00); });
}
TEST_F(SessionTest, MoreRequestsThanDepthEndTheSession) {
  expect_violation([](RawClient& c, shm::Submission* s) {
    for (int i = 0; i < 40; ++i) {
      s->request_number = 1000 + static_cast<uint64_t>(i);
      c.submit(0, *s);  // completions are never consumed
      ::usleep(2000);
    }
  });
}

TEST_F(SessionTest, RequestForAForgottenHandleSaysSo) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  shm::InodeInfo info = client.look_up_file();
  info.handle.low ^= 1;
  client.submit(0, client.read_of(info, 0, 4096));
  const auto completion = client.wait(0);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->status, -ESTALE);
  EXPECT_TRUE(completion->flags & shm::kCompletionHandleUnknown);
}

TEST_F(SessionTest, AClientThatWaitsIsWokenAndNotAgainBeforeItSaysSoAnew) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  const shm::InodeInfo info = client.look_up_file();
  shm::QueueControl& control = client.queue(0).control();
  for (int round = 0; round < 3; ++round) {
    const uint32_t tail = control.completion_tail.load();
    control.client_waiting.store(1);
    std::future<bool> woken = std::async(std::launch::async, [&] {
      return shm::futex_wait(control.completion_tail, tail, 5 * kNanosecondsPerSecond);
    });
    ::usleep(50'000);  // it sleeps by then
    client.submit(0, client.read_of(info, 0, 4096));
    EXPECT_TRUE(woken.get());
    EXPECT_TRUE(eventually([&] { return control.client_waiting.load() == 0; }));
    ASSERT_TRUE(client.wait(0));
  }
}

TEST_F(SessionTest, PinsLastUntilRelease) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  const shm::Submission read = client.read_of(client.look_up_file(), 0, 50'000);
  client.submit(0, read);
  const auto completion = client.wait(0);
  ASSERT_TRUE(completion && completion->status == 0 && (completion->flags & shm::kCompletionPinned));
  EXPECT_EQ(pinned_slots(), 1U);
  shm::Submission release;
  release.request_number = 77;
  release.opcode = shm::Opcode::kRelease;
  release.pinned_request = read.request_number;
  client.submit(0, release);
  EXPECT_TRUE(eventually([&] { return pinned_slots() == 0; }));
}

class FewPinsTest : public SessionTest {
 protected:
  FewPinsTest() { pins_per_session_ = 1; }
};

TEST_F(FewPinsTest, SessionWithAllItsPinsGetsBytesInItsBuffer) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  const shm::InodeInfo file = client.look_up_file();
  client.submit(0, client.read_of(file, 0, 50'000));
  const auto first = client.wait(0);
  ASSERT_TRUE(first && first->status == 0 && (first->flags & shm::kCompletionPinned));
  client.submit(0, client.read_of(file, 1000, 20'000));
  const auto second = client.wait(0);
  ASSERT_TRUE(second && second->status == 0 && (second->flags & shm::kCompletionInBuffer));
  EXPECT_EQ(second->result, 20'000U);
  EXPECT_EQ(std::memcmp(client.queue(0).buffer() + second->buffer_offset, content().data() + 1000, 20'000),
            0);
  EXPECT_EQ(pinned_slots(), 1U);
}

TEST_F(SessionTest, PinsOutliveTheSocketAndEndWithTheProcess) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    RawClient client(socket_path());
    if (client.greet(RawClient::good_hello()) != 0) ::_exit(1);
    client.submit(0, client.read_of(client.look_up_file(), 0, 50'000));
    if (!client.wait(0)) ::_exit(2);
    client.close();
    if (::write(ready[1], "x", 1) != 1) ::_exit(3);
    for (;;) ::pause();
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::usleep(200'000);
  EXPECT_EQ(pinned_slots(), 1U);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return pinned_slots() == 0 && server_->sessions().empty(); }));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(SessionTest, ClientsDescriptorsOfIndexAndArenaCannotBeWritten) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  for (int i : {0, 1}) {
    const int fd = client.fds()[static_cast<size_t>(i)].get();
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    const UniqueFd again(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR));
    if (again.valid()) {
      EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again.get(), 0), MAP_FAILED);
      EXPECT_LT(::pwrite(again.get(), "x", 1, 0), 0);
    }
  }
  EXPECT_NE(::ftruncate(client.fds()[2].get(), 0), 0);
}

TEST_F(SessionTest, EntriesOfRandomBytesHurtNobodyElse) {
  uint64_t state = 12345;
  const auto random = [&] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int session = 0; session < 60; ++session) {
    RawClient client(socket_path());
    ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
    const shm::InodeInfo info = client.look_up_file();
    for (int entry = 0; entry < 50; ++entry) {
      shm::Submission submission = client.read_of(info, 0, 4096);
      auto* const words = reinterpret_cast<uint64_t*>(&submission);
      // A few fields at random, so that many entries get past the first checks.
      for (unsigned changes = random() % 3; changes > 0; --changes) {
        words[random() % (sizeof submission / 8)] = random() >> (random() % 64);
      }
      submission.opcode = static_cast<shm::Opcode>(1 + random() % 11);
      const shm::QueueView view = client.queue(random() % 2);
      view.hazard(random() % shm::kHazardsPerQueue).store(random() >> (random() % 64));
      view.control().touch_head.store(random() % 1000);
      view.touch(random()).store(static_cast<uint32_t>(random()));
      client.submit(random() % 2, submission);
      view.control().completion_head.store(view.control().completion_tail.load());
    }
  }
  expect_honest_service();
}

// Notices
TEST_F(SessionTest, CountersThatNobodyCanHaveReachedSpoilNoSum) {
  RawClient client(socket_path());
  ASSERT_EQ(client.greet(RawClient::good_hello()), 0);
  const auto hits = static_cast<unsigned>(shm::Counter::kHits);
  client.queue(0).counter(hits).store(41);
  client.queue(1).counter(hits).store(UINT64_MAX / 3);
  ASSERT_TRUE(eventually([&] { return !server_->sessions().empty(); })) << "it is listed after its Welcome";
  EXPECT_EQ(server_->snapshot().sum(shm::Counter::kHits), 41U);
}

// ----------------------------------------------------------------------------------------------------

class NoticeTest : public SessionTest {
 protected:
  void tell(std::vector<shm::Notice> notices) {
    std::promise<void> told;
    shards_[0]->reactor().post([&] {
      shards_[0]->tell(*volume_, notices);
      told.set_value();
    });
    told.get_future().get();
  }
  static std::unique_ptr<RawClient> listener(const std::string& path) {
    auto client = std::make_unique<RawClient>(path);
    shm::Hello hello = RawClient::good_hello();
    hello.flags = shm::kHelloWantsNotices;
    EXPECT_EQ(client->greet(hello), 0);
    return client;
  }
  static bool readable(const RawClient& client, int timeout_ms) {
    pollfd polled{client.socket(), POLLIN, 0};
    return ::poll(&polled, 1, timeout_ms) == 1;
  }
};

TEST_F(NoticeTest, ReachThoseWhoWantThem) {
  const auto listening = listener(socket_path());
  RawClient silent(socket_path());
  ASSERT_EQ(silent.greet(RawClient::good_hello()), 0);
  tell({{.kind = shm::NoticeKind::kInode, .handle = {1, 2}, .told_at_ns = 3}});
  ASSERT_TRUE(readable(*listening, 5000));
  const auto notices = shm::receive_notices(listening->socket());
  ASSERT_TRUE(notices.ok()) << notices.status().message();
  EXPECT_EQ(notices->front().told_at_ns, 3U);
  EXPECT_FALSE(readable(silent, 50));
}

TEST_F(NoticeTest, OneWhoDoesNotReadIsToldOfEverythingWhenItDoes) {
  const auto listening = listener(socket_path());
  const std::vector<shm::Notice> many(64,
                                      {.kind = shm::NoticeKind::kInode, .handle = {1, 2}, .told_at_ns = 3});
  for (int i = 0; i < 2000; ++i) tell(many);  // more than a socket takes
  // It comes last, when there is room again; the first one may be for what was told before the Welcome was
  // out.
  shm::NoticeKind last{};
  while (readable(*listening, 500)) {
    const auto notices = shm::receive_notices(listening->socket());
    ASSERT_TRUE(notices.ok()) << notices.status().message();
    last = notices->front().kind;
  }
  EXPECT_EQ(last, shm::NoticeKind::kEverything);
  tell({{.kind = shm::NoticeKind::kEntries, .handle = {1, 2}, .told_at_ns = 3}});
  ASSERT_TRUE(readable(*listening, 5000));
  EXPECT_EQ(shm::receive_notices(listening->socket())->front().kind, shm::NoticeKind::kEntries);
}

}  // namespace
}  // namespace cached::server
