// The child that waits for a mount process's death: it ends with that, and holds nothing of it.
#include "mount/death_watch.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace cached::mount {
namespace {

constexpr int kPatienceMs = 20'000;

// A process that has started its watch and sleeps; the watch's process becomes our child when it dies.
class DeathWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    reader_ = UniqueFd(ends[0]);
    UniqueFd writer(ends[1]);
    mount_ = ::fork();
    ASSERT_GE(mount_, 0);
    if (mount_ == 0) {
      if (!DeathWatch::start("/nowhere").ok()) ::_exit(1);
      writer.reset();
      ::pause();
      ::_exit(2);
    }
  }
  void TearDown() override { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }

  // Whether all who had the pipe's other end have closed it.
  bool nobody_holds_the_pipe() const {
    pollfd entry{.fd = reader_.get(), .events = 0, .revents = 0};
    return ::poll(&entry, 1, kPatienceMs) == 1 && (entry.revents & POLLHUP) != 0;
  }

  pid_t mount_ = -1;
  UniqueFd reader_;
};

TEST_F(DeathWatchTest, HoldsNoDescriptorOfTheProcess) {
  EXPECT_TRUE(nobody_holds_the_pipe()) << "while the process and its watch live";
  ::kill(mount_, SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0) {
  }
}

TEST_F(DeathWatchTest, EndsWithTheProcessThatWasKilled) {
  ASSERT_TRUE(nobody_holds_the_pipe());
  ::kill(mount_, SIGKILL);
  int status = -1;
  ASSERT_EQ(::waitpid(mount_, &status, 0), mount_);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  const pid_t watch = ::waitpid(-1, &status, 0);
  EXPECT_GT(watch, 0) << "it lived and came to us";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace cached::mount
