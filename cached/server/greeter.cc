// Roots of new sessions, off the session thread: see greeter.h.
#include "cached/server/greeter.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace cached::server {

Result<std::unique_ptr<Greeter>> Greeter::create(const Clock& clock) {
  std::unique_ptr<Greeter> greeter(new Greeter(clock));
  greeter->inbox_->event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!greeter->inbox_->event.valid()) return Status::from_errno("cannot make an eventfd for new sessions");
  return greeter;
}

void Greeter::Inbox::put(Answer answer) {
  {
    const std::lock_guard lock(mutex);
    answers.push_back(std::move(answer));
  }
  const uint64_t one = 1;
  if (::write(event.get(), &one, sizeof one) != sizeof one) log_error("cannot wake the session thread");
}

Status Greeter::ask(uint64_t question, volume::Volume* volume, uint64_t snapshot) {
  const auto running = std::ranges::count_if(
      questions_, [volume](const auto& asked) { return asked.second.volume == volume; });
  if (static_cast<size_t>(running) >= kWaitingPerVolume) {
    return Status(EAGAIN, "the source of volume " + volume->name() + " (" + volume->source() +
                              ") does not answer, and " + std::to_string(running) +
                              " clients wait for it already; try again when it does");
  }
  questions_.emplace(question, Question{volume, clock_.monotonic_ns() + kLimitNs});
  std::unique_ptr<io::BlockingPool>& pool = pools_[volume];
  if (!pool) pool = std::make_unique<io::BlockingPool>("root-" + volume->name(), kThreadsPerVolume);
  pool->submit([inbox = inbox_, question, volume, snapshot] {
    inbox->put({question, volume->root(snapshot)});
  });
  return Status();
}

std::vector<Greeter::Answer> Greeter::take_answers() {
  uint64_t count = 0;
  (void)!::read(inbox_->event.get(), &count, sizeof count);  // empties it; nothing to read is fine
  std::vector<Answer> came;
  {
    const std::lock_guard lock(inbox_->mutex);
    came.swap(inbox_->answers);
  }
  std::erase_if(
      came, [this](const Answer& answer) { return questions_.extract(answer.question).mapped().given_up; });
  const uint64_t now_ns = clock_.monotonic_ns();
  for (auto& [question, asked] : questions_) {
    if (asked.given_up || asked.deadline_ns > now_ns) continue;
    asked.given_up = true;
    came.push_back({question, {volume::Outcome{.error = ETIMEDOUT}}});
  }
  return came;
}

int Greeter::timeout_ms() const {
  uint64_t first_ns = UINT64_MAX;
  for (const auto& [question, asked] : questions_) {
    if (!asked.given_up) first_ns = std::min(first_ns, asked.deadline_ns);
  }
  if (first_ns == UINT64_MAX) return -1;
  const uint64_t now_ns = clock_.monotonic_ns();
  return first_ns > now_ns ? static_cast<int>((first_ns - now_ns) / kNanosecondsPerMillisecond) + 1 : 0;
}

}  // namespace cached::server
