// ask_shards(): one question to every shard, answered on its own thread.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <vector>

#include "base/status.h"
#include "cached/server/shard.h"

namespace cached::server {

// What `answer(shard)` returns for each of `shards`, in order. All are asked at once; EIO when one does not
// answer within a second. `answer` is copied, and may run after this returned with EIO.
template <typename Answer>
auto ask_shards(const std::vector<Shard*>& shards, Answer answer)
    -> Result<std::vector<std::invoke_result_t<Answer&, Shard&>>> {
  using Value = std::invoke_result_t<Answer&, Shard&>;
  std::vector<std::future<Value>> futures;
  for (Shard* const shard : shards) {
    // Shared, because a shard that answers too late still writes to it.
    auto promise = std::make_shared<std::promise<Value>>();
    futures.push_back(promise->get_future());
    shard->reactor().post([shard, promise, answer]() mutable { promise->set_value(answer(*shard)); });
  }
  std::vector<Value> values;
  for (std::future<Value>& future : futures) {
    if (future.wait_for(std::chrono::seconds(1)) != std::future_status::ready)
      return Status(EIO, "a shard does not answer; the daemon is overloaded or hangs");
    values.push_back(future.get());
  }
  return values;
}

}  // namespace cached::server
