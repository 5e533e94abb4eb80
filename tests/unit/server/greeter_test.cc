// Roots of new sessions: a source that hangs keeps nobody waiting but who needs it, and those to a deadline.
#include "cached/server/greeter.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <condition_variable>

namespace cached::server {
namespace {

using volume::BytesAnswer;
using volume::DirectoryAnswer;
using volume::InodeAnswer;
using volume::StatisticsAnswer;

// A volume whose root() waits until it is let go; nothing else of it is asked.
class GatedVolume : public volume::Volume {
 public:
  explicit GatedVolume(std::string name, bool open = false) : name_(std::move(name)), open_(open) {}
  void let_go() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  InodeAnswer root(uint64_t snapshot) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
    InodeAnswer answer;
    answer.info.ino = snapshot;
    return answer;
  }

  const std::string& name() const override { return name_; }
  const std::string& source() const override { return name_; }
  uint16_t id() const override { return 1; }
  io::Task<InodeAnswer> lookup(io::Reactor&, shm::Handle, std::string) override { std::abort(); }
  io::Task<InodeAnswer> attributes(io::Reactor&, shm::Handle) override { std::abort(); }
  io::Task<InodeAnswer> resolve(io::Reactor&, std::string) override { std::abort(); }
  io::Task<BytesAnswer> read_link(io::Reactor&, shm::Handle) override { std::abort(); }
  io::Task<BytesAnswer> get_xattr(io::Reactor&, shm::Handle, std::string) override { std::abort(); }
  io::Task<BytesAnswer> list_xattrs(io::Reactor&, shm::Handle) override { std::abort(); }
  io::Task<DirectoryAnswer> read_directory(io::Reactor&, shm::Handle, uint64_t, bool, unsigned) override {
    std::abort();
  }
  io::Task<StatisticsAnswer> statistics(io::Reactor&) override { std::abort(); }
  shm::VolumeStatistics known_statistics() const override { return {}; }
  const origin::OriginCounters& origin_counters() const override { return counters_; }
  io::Task<origin::OpenedObject> open(io::Reactor&, shm::Handle, shm::ObjectId, origin::Opener) override {
    std::abort();
  }

 private:
  const std::string name_;
  origin::OriginCounters counters_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_;
};

class GreeterTest : public testing::Test {
 protected:
  ~GreeterTest() override {
    // The greeter waits for calls that run.
    slow_.let_go();
    greeter_.reset();
  }
  // What comes within five seconds.
  std::vector<Greeter::Answer> next_answers() {
    pollfd polled{greeter_->event_fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&polled, 1, 5000), 1);
    return greeter_->take_answers();
  }

  ManualClock clock_;
  GatedVolume slow_{"slow"};
  GatedVolume fast_{"fast", true};
  std::unique_ptr<Greeter> greeter_ = std::move(Greeter::create(clock_)).value();
};

TEST_F(GreeterTest, RootOfAHealthyVolumeComesWhileAnotherHangs) {
  for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(greeter_->ask(i, &slow_, 0).ok());
  ASSERT_TRUE(greeter_->ask(9, &fast_, 3).ok());
  const auto answers = next_answers();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].question, 9U);
  EXPECT_TRUE(answers[0].root.outcome.ok());
  EXPECT_EQ(answers[0].root.info.ino, 3U);
}

TEST_F(GreeterTest, WhoeverWaitsIsToldAtTheDeadline) {
  ASSERT_TRUE(greeter_->ask(1, &slow_, 0).ok());
  EXPECT_EQ(greeter_->timeout_ms(), 4001);
  clock_.advance_ns(Greeter::kLimitNs - 1);
  EXPECT_TRUE(greeter_->take_answers().empty());
  clock_.advance_ns(1);
  EXPECT_EQ(greeter_->timeout_ms(), 0);
  const auto answers = greeter_->take_answers();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].root.outcome.error, ETIMEDOUT);
  EXPECT_EQ(greeter_->timeout_ms(), -1);
}

TEST_F(GreeterTest, RootThatComesAfterTheDeadlineIsDropped) {
  ASSERT_TRUE(greeter_->ask(1, &slow_, 0).ok());
  clock_.advance_ns(Greeter::kLimitNs);
  ASSERT_EQ(greeter_->take_answers().size(), 1U);
  slow_.let_go();
  EXPECT_TRUE(next_answers().empty());
}

TEST_F(GreeterTest, CallsIntoASourceThatHangsAreBoundedGivenUpOnesIncluded) {
  for (uint64_t i = 0; i < Greeter::kWaitingPerVolume; ++i) ASSERT_TRUE(greeter_->ask(i, &slow_, 0).ok());
  EXPECT_EQ(greeter_->ask(100, &slow_, 0).error_number(), EAGAIN);
  clock_.advance_ns(Greeter::kLimitNs);
  EXPECT_EQ(greeter_->take_answers().size(), Greeter::kWaitingPerVolume);
  EXPECT_EQ(greeter_->ask(101, &slow_, 0).error_number(), EAGAIN);
  EXPECT_TRUE(greeter_->ask(102, &fast_, 0).ok());
  slow_.let_go();
  bool asked = false;
  for (int i = 0; i < 500 && !asked; ++i) {
    (void)greeter_->take_answers();
    asked = greeter_->ask(200 + static_cast<uint64_t>(i), &slow_, 0).ok();
    ::usleep(10'000);
  }
  EXPECT_TRUE(asked);
}

}  // namespace
}  // namespace cached::server
