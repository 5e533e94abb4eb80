// A kernel that refuses: a seccomp filter makes a system call fail for one thread.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace cached::io {

enum class Second { kIs, kIsAtLeast };

// From now on `system_call` fails with `error` on this thread where its second argument is as said.
inline bool refuse(int system_call, int error, Second relation, unsigned second) {
  const auto load = [](unsigned offset) { return sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offset}; };
  const auto skip_unless = [](int comparison, unsigned value, uint8_t skipped) {
    return sock_filter{static_cast<uint16_t>(BPF_JMP | BPF_K | comparison), 0, skipped, value};
  };
  const auto answer = [](unsigned action) { return sock_filter{BPF_RET | BPF_K, 0, 0, action}; };
  std::array<sock_filter, 6> filter = {load(offsetof(seccomp_data, nr)),
                                       skip_unless(BPF_JEQ, static_cast<unsigned>(system_call), 3),
                                       load(offsetof(seccomp_data, args) + sizeof(uint64_t)),
                                       skip_unless(relation == Second::kIs ? BPF_JEQ : BPF_JGE, second, 1),
                                       answer(SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
                                       answer(SECCOMP_RET_ALLOW)};
  const sock_fprog program{static_cast<uint16_t>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace cached::io
