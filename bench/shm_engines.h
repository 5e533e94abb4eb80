// The two engines that share one attached client: `shm` reads through it, `memcpy` copies from its arena.
#pragma once

#include <memory>

#include "bench/engine.h"
#include "shm/client.h"

namespace cached::bench {

// Attaches to the daemon with a channel for each thread that `options` will start.
Result<std::shared_ptr<shm::Client>> connect_client(const BenchOptions& options);

std::unique_ptr<Engine> make_shm_engine(const BenchOptions& options, std::shared_ptr<shm::Client> client);
std::unique_ptr<Engine> make_memcpy_engine(const BenchOptions& options, std::shared_ptr<shm::Client> client);

}  // namespace cached::bench
