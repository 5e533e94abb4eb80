// What each FUSE worker thread owns: its channel to the daemon's shared memory, its counters, its scratch
// memory.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "mount/inode_table.h"
#include "mount/stats.h"
#include "shm/client.h"

namespace cached::mount {

struct Worker {
  std::unique_ptr<shm::Channel> channel;
  OperationCounters counters;
  std::vector<char> directory_buffer;    // a listing's reply
  std::vector<Inode*> directory_inodes;  // inodes referenced in it, to be given back if it cannot be sent
};

// Makes a Worker for each thread that asks, and keeps the counts of those that ended. There is one in a
// process, and it outlives every thread that called current().
class Workers {
 public:
  explicit Workers(shm::Client& client) : client_(client) {}

  // The calling thread's worker; lives until the thread ends. Null if the client has no channel left.
  Worker* current();
  // Requests by operation, ended workers included.
  std::array<uint64_t, kOperations> operations();
  uint64_t count();

 private:
  struct ThreadSlot;
  Worker* create();
  void retire(Worker* worker);

  shm::Client& client_;
  std::mutex mutex_;
  std::unordered_set<Worker*> workers_;
  std::array<uint64_t, kOperations> retired_{};
};

}  // namespace cached::mount
