// NullTree: see null_tree.h.
#include "bench/null_tree.h"

#include <unistd.h>
#include <xxhash.h>

namespace cached::bench {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr int64_t kChangedAtSeconds = 1'700'000'000;

}  // namespace

size_t NullTree::HashName::operator()(const NameInDirectory& key) const {
  return XXH3_64bits_withSeed(key.name.data(), key.name.size(), key.parent);
}

NullTree::NullTree() : uid_(::getuid()), gid_(::getgid()) {
  nodes_.push_back({.directory = true, .children = {}});
}

uint64_t NullTree::lookup(uint64_t parent, std::string_view name) const {
  const auto found = inode_of_name_.find({parent, name});
  return found == inode_of_name_.end() ? 0 : found->second;
}

uint64_t NullTree::add_node(uint64_t parent, std::string_view name, Node new_node) {
  const uint64_t inode = kRootInode + nodes_.size();
  names_.emplace_back(name);
  nodes_[parent - kRootInode].children.push_back({.name = &names_.back(), .inode = inode});
  inode_of_name_.emplace(NameInDirectory{parent, names_.back()}, inode);
  nodes_.push_back(std::move(new_node));
  return inode;
}

Result<uint64_t> NullTree::make_directories(std::string_view path) {
  uint64_t directory = kRootInode;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (name.empty()) continue;
    uint64_t next = lookup(directory, name);
    if (next == 0) next = add_node(directory, name, {.directory = true, .children = {}});
    if (!is_directory(next)) return Status(ENOTDIR, std::string(name) + " is a file and cannot hold others");
    directory = next;
  }
  return directory;
}

Status NullTree::add_file(std::string_view path, uint64_t size_bytes) {
  const size_t slash = path.rfind('/');
  Result<uint64_t> parent = make_directories(slash == std::string_view::npos ? "" : path.substr(0, slash));
  if (!parent.ok()) return parent.status();
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (name.empty() || lookup(*parent, name) != 0)
    return Status(EEXIST, std::string(path) + ": empty or named twice");
  // Files start at different pages of the buffer, so that a tree's reads spread over it as they do over an
  // arena.
  const uint64_t data_offset = XXH3_64bits(path.data(), path.size()) / kPageBytes * kPageBytes;
  add_node(*parent, name, {.size_bytes = size_bytes, .data_offset = data_offset, .children = {}});
  return Status();
}

struct stat NullTree::attributes(uint64_t inode) const {
  const Node& of = node(inode);
  struct stat status {};
  status.st_ino = inode;
  status.st_mode = of.directory ? (S_IFDIR | 0755) : (S_IFREG | 0644);
  status.st_nlink = of.directory ? 2 : 1;
  status.st_uid = uid_;
  status.st_gid = gid_;
  status.st_size = static_cast<off_t>(of.size_bytes);
  status.st_blocks = static_cast<blkcnt_t>((of.size_bytes + 511) / 512);
  status.st_blksize = kPageBytes;
  status.st_atim.tv_sec = status.st_mtim.tv_sec = status.st_ctim.tv_sec = kChangedAtSeconds;
  return status;
}

}  // namespace cached::bench
