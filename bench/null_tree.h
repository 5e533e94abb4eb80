// NullTree: the names and sizes that cached-nullfs shows, in hash tables in memory. Built once, then only
// read.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace cached::bench {

class NullTree {
 public:
  struct Child {
    const std::string* name = nullptr;  // in names_
    uint64_t inode = 0;
  };

  NullTree();
  // Adds a file and the directories above it. EEXIST when the path is there already.
  Status add_file(std::string_view path, uint64_t size_bytes);
  // The inode of `name` in directory `parent`; 0: there is none.
  uint64_t lookup(uint64_t parent, std::string_view name) const;
  bool exists(uint64_t inode) const { return inode >= kRootInode && inode < kRootInode + nodes_.size(); }
  bool is_directory(uint64_t inode) const { return node(inode).directory; }
  uint64_t size_bytes(uint64_t inode) const { return node(inode).size_bytes; }
  // Where in the buffer this file's byte 0 lies, before the modulo.
  uint64_t data_offset(uint64_t inode) const { return node(inode).data_offset; }
  const std::vector<Child>& children(uint64_t directory) const { return node(directory).children; }
  struct stat attributes(uint64_t inode) const;

 private:
  static constexpr uint64_t kRootInode = 1;  // FUSE_ROOT_ID

  struct Node {
    uint64_t size_bytes = 0;
    uint64_t data_offset = 0;
    bool directory = false;
    std::vector<Child> children;
  };

  struct NameInDirectory {
    uint64_t parent;
    std::string_view name;
    bool operator==(const NameInDirectory&) const = default;
  };
  struct HashName {
    size_t operator()(const NameInDirectory& key) const;
  };

  const Node& node(uint64_t inode) const { return nodes_[inode - kRootInode]; }
  uint64_t add_node(uint64_t parent, std::string_view name, Node new_node);
  // The directory `path`, made if it is missing.
  Result<uint64_t> make_directories(std::string_view path);

  const uid_t uid_;  // of everything: whoever runs the server
  const gid_t gid_;
  std::vector<Node> nodes_;
  std::deque<std::string> names_;  // a deque, because the table's keys point into it
  std::unordered_map<NameInDirectory, uint64_t, HashName> inode_of_name_;
};

}  // namespace cached::bench
