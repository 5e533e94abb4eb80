// ask_each_shard() and ask_shards(): one question to every shard, answered on its own thread.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "base/status.h"
#include "cached/server/shard.h"

namespace cached::server {

// What `answer(shard)` returns for each of `shards`, in order; nothing for one that has not answered after a
// second. All are asked at once and have that second together. `answer` is copied, and may run after this
// returned.
template <typename Answer>
auto ask_each_shard(const std::vector<Shard*>& shards, Answer answer)
    -> std::vector<std::optional<std::invoke_result_t<Answer&, Shard&>>> {
  using Value = std::invoke_result_t<Answer&, Shard&>;
  std::vector<std::future<Value>> futures;
  for (Shard* const shard : shards) {
    // Shared, because a shard that answers too late still writes to it.
    auto promise = std::make_shared<std::promise<Value>>();
    futures.push_back(promise->get_future());
    shard->reactor().post([shard, promise, answer]() mutable { promise->set_value(answer(*shard)); });
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  std::vector<std::optional<Value>> values;
  for (std::future<Value>& future : futures) {
    const bool answered = future.wait_until(deadline) == std::future_status::ready;
    values.push_back(answered ? std::optional<Value>(future.get()) : std::nullopt);
  }
  return values;
}

// The same where only all answers together are of use: EIO when one is missing.
template <typename Answer>
auto ask_shards(const std::vector<Shard*>& shards, Answer answer)
    -> Result<std::vector<std::invoke_result_t<Answer&, Shard&>>> {
  std::vector<std::invoke_result_t<Answer&, Shard&>> values;
  for (auto& value : ask_each_shard(shards, std::move(answer))) {
    if (!value) return Status(EIO, "a shard does not answer; the daemon is overloaded or hangs");
    values.push_back(std::move(*value));
  }
  return values;
}

}  // namespace cached::server
