// Tests of a kernel that refuses: seccomp filters make io_uring's calls fail for one thread.
#include <sys/syscall.h>

#include <chrono>
#include <thread>
#include <vector>

#include "tests/unit/io/reactor_fixture.h"
#include "tests/unit/io/refuse.h"

namespace cached::io {
namespace {

Status create_where_setup_fails_with(int error) {
  Status status;
  std::thread([&] {
    ASSERT_TRUE(refuse(__NR_io_uring_setup, error, Second::kIsAtLeast, 0));
    status = Reactor::create(Reactor::Options{.name = "refused"}).status();
  }).join();
  return status;
}

TEST(ReactorSetup, DisabledIoUringIsAnErrorThatSaysHowToEnableIt) {
  const Status status = create_where_setup_fails_with(EPERM);
  EXPECT_EQ(status.error_number(), EPERM);
  EXPECT_NE(status.message().find("sysctl kernel.io_uring_disabled=0"), std::string::npos)
      << status.message();
  EXPECT_EQ(status.message().find("reactor refused: "), 0U) << status.message();
}

TEST(ReactorSetup, MissingIoUringIsAnErrorThatNamesTheKernelNeeded) {
  const Status status = create_where_setup_fails_with(ENOSYS);
  EXPECT_EQ(status.error_number(), ENOSYS);
  EXPECT_NE(status.message().find("Linux 5.11"), std::string::npos) << status.message();
}

TEST(ReactorSetup, RefusedFlagsAreAllTriedBeforeTheKernelIsCalledTooOld) {
  const Status status = create_where_setup_fails_with(EINVAL);
  EXPECT_EQ(status.error_number(), ENOSYS);
  EXPECT_NE(status.message().find("too old"), std::string::npos) << status.message();
}

class ReactorSubmitTest : public ReactorTest {
 protected:
  // Makes submissions fail, by the number of their entries; the wake-up read may be one of them.
  void refuse_submissions(int error, Second relation, unsigned entries) {
    bool refusing = false;
    reactor().post([&] { refusing = refuse(__NR_io_uring_enter, error, relation, entries); });
    settle(reactor());
    ASSERT_TRUE(refusing);
  }
  // Begins `count` reads of one byte in one turn.
  std::vector<std::future<int>> begin_reads(size_t count) {
    std::promise<void> held;
    std::promise<void> release;
    reactor().post([&held, released = release.get_future().share()] {
      held.set_value();
      released.wait();
    });
    held.get_future().wait();
    std::vector<std::future<int>> reads;
    for (size_t i = 0; i < count; ++i) {
      reads.push_back(start_on(reactor(), [&] { return read_some(reactor(), file_.get(), &byte_, 1, 0); }));
    }
    release.set_value();
    return reads;
  }
  static std::vector<int> results_of(std::vector<std::future<int>> reads) {
    std::vector<int> results;
    for (std::future<int>& read : reads) results.push_back(read.get());
    return results;
  }

 private:
  const UniqueFd file_ = file_with("a");
  char byte_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Rings, ReactorSubmitTest, testing::Bool(), ring_name);

TEST_P(ReactorSubmitTest, RefusedSubmissionIsTheResultOfItsOperations) {
  refuse_submissions(EOPNOTSUPP, Second::kIsAtLeast, 10);
  EXPECT_EQ(results_of(begin_reads(3)), std::vector<int>(3, 1));
  EXPECT_EQ(results_of(begin_reads(10)), std::vector<int>(10, -EOPNOTSUPP));
  EXPECT_EQ(results_of(begin_reads(3)), std::vector<int>(3, 1));
}

TEST_P(ReactorSubmitTest, SubmissionRefusedForLackOfMemoryIsTriedAgain) {
  refuse_submissions(EAGAIN, Second::kIs, 7);
  for (const size_t count : {6U, 7U}) {
    std::vector<std::future<int>> reads = begin_reads(count);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // One more makes it another number, which is not refused.
    EXPECT_EQ(results_of(begin_reads(1)), std::vector<int>(1, 1));
    EXPECT_EQ(results_of(std::move(reads)), std::vector<int>(count, 1));
  }
}

}  // namespace
}  // namespace cached::io
