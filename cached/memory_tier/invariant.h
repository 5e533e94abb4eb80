// CACHED_INVARIANT: stops the process when the daemon's own books contradict themselves. To go on would mean
// to hand out memory that somebody still reads. Never for what a client wrote: that is ignored or ends its
// session.
#pragma once

#include <cstdlib>

#include "base/log.h"

#define CACHED_INVARIANT(condition, message)                                                          \
  do {                                                                                                \
    if (!(condition)) [[unlikely]] {                                                                  \
      ::cached::log_error("memory tier: broken invariant at {}:{}: {}", __FILE__, __LINE__, message); \
      std::abort();                                                                                   \
    }                                                                                                 \
  } while (false)
