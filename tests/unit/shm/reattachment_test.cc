// The daemon's death and return as a client meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <future>

#include "base/clock.h"
#include "scripted_daemon.h"

namespace cached::shm::test {
namespace {

using ::testing::HasSubstr;

constexpr ObjectId kObject{0xA, 0xB};
constexpr Handle kFile{5, 5};

FileReference file() {
  FileReference reference;
  reference.handle = kFile;
  reference.object = kObject;
  return reference;
}

class Reattachment : public ::testing::Test {
 protected:
  void connect(uint64_t timeout_ms = 10'000) {
    ClientOptions options = daemon_.client_options();
    options.daemon_timeout_ms = timeout_ms;
    options.channels = 2;
    auto client = Client::connect(options);
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = std::move(*client);
    channel_ = std::move(client_->open_channel().value());
  }
  void answer_pinned() {
    daemon_.answer_with([this](const Question& question) {
      daemon_.fill_arena(0, kObject, question.submission.offset, question.submission.length);
      return pinned(0, question.submission.length);
    });
  }
  void answer_nothing() {
    daemon_.answer_with([](const Question&) { return std::optional<Completion>(); });
  }
  bool attached_again() {
    return eventually([&] { return client_->counter(Counter::kReattachments) == 1; });
  }
  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 10'000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  static size_t mappings_named(const std::string& name) {
    std::ifstream maps("/proc/self/maps");
    size_t count = 0;
    for (std::string line; std::getline(maps, line);)
      count += line.find("memfd:" + name) != std::string::npos ? 1 : 0;
    return count;
  }
  ScriptedDaemon daemon_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Channel> channel_;
};

TEST_F(Reattachment, HitsGoOnWithoutTheDaemon) {
  daemon_.start();
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  daemon_.kill();
  ASSERT_TRUE(eventually([&] { return !client_->attached(); }));
  auto view = channel_->read(file(), 5, 1000);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(holds(*view, kObject, 5, 1000));
}

TEST_F(Reattachment, RequestInFlightIsRepeatedUnderItsNumber) {
  daemon_.start();
  answer_nothing();
  connect();
  auto result = std::async(std::launch::async, [&] {
    auto view = channel_->read(file(), 7, 1000);
    return view.ok() && holds(*view, kObject, 7, 1000);
  });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(result.get());
  const auto reads = daemon_.submissions(Opcode::kRead);
  ASSERT_EQ(reads.size(), 2U);
  EXPECT_EQ(reads[0].request_number, reads[1].request_number);
  EXPECT_EQ(reads[0].offset, reads[1].offset);
  EXPECT_EQ(client_->counter(Counter::kReattachments), 1U);
}

TEST_F(Reattachment, NewSessionHasTheOldUuidAndTheOldestOpenNumber) {
  daemon_.start();
  answer_nothing();
  connect();
  auto result = std::async(std::launch::async, [&] { return channel_->read(file(), 7, 1000).ok(); });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(result.get());
  const auto hellos = daemon_.hellos();
  ASSERT_EQ(hellos.size(), 2U);
  EXPECT_EQ(std::memcmp(hellos[0].session_uuid, hellos[1].session_uuid, sizeof hellos[0].session_uuid), 0);
  EXPECT_LE(hellos[1].next_request_number, daemon_.submissions(Opcode::kRead)[0].request_number);
}

TEST_F(Reattachment, LookupInFlightIsRepeatedWithItsName) {
  daemon_.start();
  answer_nothing();
  connect();
  auto result = std::async(std::launch::async, [&] { return channel_->lookup(kRoot, "name", {})->exists; });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kLookup, 1));
  daemon_.kill();
  daemon_.answer_with(
      [](const Question& question) { return failure(question.input == "name" ? ENOENT : EIO); });
  daemon_.start();
  EXPECT_FALSE(result.get());
}

TEST_F(Reattachment, IdleChannelLetsTheOldMemoryGo) {
  daemon_.start();
  connect();
  auto idle = std::move(client_->open_channel().value());
  ASSERT_EQ(mappings_named("arena"), 2U);  // the client's and the scripted daemon's
  daemon_.kill();
  daemon_.start();
  ASSERT_TRUE(attached_again());
  EXPECT_TRUE(eventually([&] { return mappings_named("arena") == 2; }));
}

TEST_F(Reattachment, ViewKeepsTheOldMemoryUntilItIsReleased) {
  daemon_.start();
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  auto view = channel_->read(file(), 5, 1000);
  ASSERT_TRUE(view.ok());
  daemon_.kill();
  daemon_.start();
  ASSERT_TRUE(attached_again());
  EXPECT_TRUE(holds(*view, kObject, 5, 1000));
  EXPECT_EQ(mappings_named("arena"), 3U);
  view->release();
  EXPECT_TRUE(eventually([&] { return mappings_named("arena") == 2; }));
}

TEST_F(Reattachment, HitsOfTheOldAttachmentAreReadAnewWhenARequestIsLost) {
  daemon_.start();
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  answer_nothing();
  connect();
  auto result = std::async(std::launch::async, [&] {
    auto view = channel_->read(file(), 0, kBlockBytes + 1000);
    return view.ok() && holds(*view, kObject, 0, kBlockBytes + 1000);
  });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(result.get());
  EXPECT_EQ(daemon_.submissions(Opcode::kRead).at(1).offset, 0U);
}

TEST_F(Reattachment, SilentDaemonIsAnErrorThatSaysSo) {
  daemon_.start();
  answer_nothing();
  connect(200);
  const Status status = channel_->read(file(), 0, 1000).status();
  EXPECT_EQ(status.error_number(), EIO);
  EXPECT_THAT(status.message(), HasSubstr("does not answer since 200 ms"));
  EXPECT_THAT(status.message(), HasSubstr(daemon_.socket()));
}

TEST_F(Reattachment, SilentDaemonIsLeftAndTriedAnew) {
  daemon_.start();
  answer_nothing();
  connect(200);
  ASSERT_FALSE(channel_->read(file(), 0, 1000).ok());
  answer_pinned();
  ASSERT_TRUE(eventually([&] { return client_->attached(); }));
  EXPECT_TRUE(channel_->read(file(), 0, 1000).ok());
  EXPECT_EQ(daemon_.hellos().size(), 2U);
}

TEST_F(Reattachment, CallsFailWhenTheDaemonStaysAway) {
  daemon_.start();
  connect(200);
  daemon_.kill();
  EXPECT_EQ(channel_->read(file(), 0, 1000).error_number(), EIO);
  EXPECT_EQ(channel_->attributes(kFile, {}).error_number(), EIO);
}

TEST_F(Reattachment, AnswerThatNobodyAskedForEndsTheAttachment) {
  daemon_.start();
  std::atomic<int> answers{0};
  daemon_.answer_with([&](const Question& question) {
    daemon_.fill_arena(0, kObject, question.submission.offset, question.submission.length);
    Completion completion = pinned(0, question.submission.length);
    if (answers++ == 0) completion.request_number = 999'999;
    return completion;
  });
  connect();
  EXPECT_TRUE(channel_->read(file(), 0, 1000).ok());
  EXPECT_EQ(daemon_.hellos().size(), 2U);
}

TEST_F(Reattachment, CountersGoOnOverAttachments) {
  daemon_.start();
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  connect();
  ASSERT_TRUE(channel_->read(file(), 0, 10).ok());
  daemon_.kill();
  daemon_.start();
  daemon_.publish_block(kObject, 0, 0, kBlockBytes, 10);
  ASSERT_TRUE(attached_again());
  ASSERT_TRUE(channel_->read(file(), 0, 10).ok());
  EXPECT_EQ(client_->counter(Counter::kReads), 2U);
}

TEST_F(Reattachment, ClientThatWaitsForItsDaemonCanBeClosed) {
  daemon_.start();
  connect();
  daemon_.kill();
  ASSERT_TRUE(eventually([&] { return !client_->attached(); }));
  channel_.reset();
  client_.reset();
}

TEST_F(Reattachment, ManyDeathsUnderLoadLoseNoRead) {
  daemon_.start();
  answer_pinned();
  connect();
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0};
  std::thread reader([&] {
    while (!stop.load()) {
      auto view = channel_->read(file(), 0, 1000);
      if (!view.ok() || !holds(*view, kObject, 0, 1000)) ++failures;
    }
  });
  for (int i = 0; i < 8; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    daemon_.kill();
    daemon_.start();
  }
  stop.store(true);
  reader.join();
  EXPECT_EQ(failures.load(), 0U);
}

TEST_F(Reattachment, AnswerMayTakeAsLongAsTheVolumesSourceMay) {
  daemon_.spoil_with([](Offer* offer) { offer->welcome.answer_timeout_ms = 60'000; });
  daemon_.start();
  answer_nothing();
  connect(200);
  auto reader = std::async(std::launch::async, [&] {
    auto view = channel_->read(file(), 0, 1000);
    return view.ok() ? view->bytes() : 0;
  });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  EXPECT_EQ(reader.wait_for(std::chrono::milliseconds(1000)), std::future_status::timeout);
  Completion completion = pinned(0, 1000);
  completion.request_number = daemon_.submissions(Opcode::kRead).front().request_number;
  daemon_.send({completion});
  EXPECT_EQ(reader.get(), 1000U);
  EXPECT_TRUE(client_->attached());
  EXPECT_EQ(client_->counter(Counter::kReattachments), 0U);
}

TEST_F(Reattachment, DaemonThatIsSilentForLongerThanItsSourceMayIsGivenUp) {
  daemon_.spoil_with([](Offer* offer) { offer->welcome.answer_timeout_ms = 600; });
  daemon_.start();
  answer_nothing();
  connect(100);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(channel_->read(file(), 0, 1000).error_number(), EIO);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(600));
  EXPECT_TRUE(attached_again());
}

TEST_F(Reattachment, DaemonThatDiesWhileItsSourceHangsIsWaitedFor) {
  daemon_.spoil_with([](Offer* offer) { offer->welcome.answer_timeout_ms = 60'000; });
  daemon_.start();
  answer_nothing();
  connect(500);
  auto reader = std::async(std::launch::async, [&] { return channel_->read(file(), 0, 1000).ok(); });
  ASSERT_TRUE(daemon_.await_submissions(Opcode::kRead, 1));
  EXPECT_EQ(reader.wait_for(std::chrono::milliseconds(700)), std::future_status::timeout);
  daemon_.kill();
  answer_pinned();
  daemon_.start();
  EXPECT_TRUE(reader.get());
}

}  // namespace
}  // namespace cached::shm::test
