// Streams of files that are read in order: see file_streams.h.
#include "cached/volume/file_streams.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace cached::volume {
namespace {

constexpr size_t kEarlyReads = 64;  // that are remembered while a directory is listed

}  // namespace

FileOrder::FileOrder(const std::vector<std::string>& names) : by_name_(names.size()) {
  begins_.reserve(names.size());
  for (const std::string& name : names) {
    begins_.push_back(static_cast<uint32_t>(text_.size()));
    text_ += name;
  }
  std::iota(by_name_.begin(), by_name_.end(), 0U);
  std::ranges::sort(by_name_, {}, [this](uint32_t place) { return listed(place); });
}

uint64_t FileOrder::bytes() const {
  return sizeof *this + text_.capacity() + (begins_.capacity() + by_name_.capacity()) * sizeof(uint32_t);
}

std::string_view FileOrder::listed(uint32_t place) const {
  const size_t begin = begins_[place];
  const size_t end = place + 1 < begins_.size() ? begins_[place + 1] : text_.size();
  return std::string_view(text_).substr(begin, end - begin);
}

std::optional<FileOrder::Places> FileOrder::find(std::string_view name) const {
  const auto found =
      std::ranges::lower_bound(by_name_, name, {}, [this](uint32_t place) { return listed(place); });
  if (found == by_name_.end() || listed(*found) != name) return std::nullopt;
  return Places{*found, static_cast<uint32_t>(found - by_name_.begin())};
}

FileStreams::FileStreams() : FileStreams(Window{}) {}

FileStreams::FileStreams(Window window) : window_(window) {}

void FileStreams::forget_oldest() {
  const auto* const oldest = directories_.oldest();
  if (oldest->second.order) order_bytes_ -= oldest->second.order->bytes();
  directories_.erase(shm::Handle(oldest->first));
}

FileStreams::Directory& FileStreams::directory_of(const shm::Handle& directory) {
  if (Directory* const known = directories_.get(directory)) return *known;
  if (directories_.size() == kDirectories) forget_oldest();
  Directory made;
  made.goes_on = std::exchange(came_to_an_end_, false);
  return *directories_.put(directory, std::move(made));
}

bool FileStreams::note(const shm::Handle& directory, const std::string& name) {
  Directory& known = directory_of(directory);
  if (known.names == Names::kKnown) return advance(&known, name) && !std::exchange(known.busy, true);
  if (known.names == Names::kNotToBeHad) return false;
  const bool again = !known.early.empty() && known.early.back() == name;  // the next part of a large file
  if (again || known.early.size() == kEarlyReads) return false;
  known.early.push_back(name);
  if (known.names != Names::kUnknown) return false;
  if (known.early.size() < kReadsBeforeListing && !known.goes_on) return false;
  known.names = Names::kWanted;
  return !std::exchange(known.busy, true);
}

bool FileStreams::wants_order(const shm::Handle& directory) {
  Directory& known = directory_of(directory);
  if (known.names != Names::kWanted) return false;
  known.names = Names::kListing;
  return true;
}

void FileStreams::set_order(const shm::Handle& directory, std::shared_ptr<const FileOrder> order) {
  if (order->bytes() > kOrderBytes) {
    give_up(directory);
    return;
  }
  while (directories_.size() > 0 && order_bytes_ + order->bytes() > kOrderBytes) forget_oldest();
  Directory& known = directory_of(directory);
  if (known.order) order_bytes_ -= known.order->bytes();
  order_bytes_ += order->bytes();
  known.order = std::move(order);
  known.names = Names::kKnown;
  for (const std::string& name : std::exchange(known.early, {})) advance(&known, name);
}

void FileStreams::give_up(const shm::Handle& directory) {
  Directory& known = directory_of(directory);
  known.names = Names::kNotToBeHad;
  known.early.clear();
  known.busy = false;
}

// Takes in a read at `place`.
void FileStreams::Run::follow(uint32_t place, bool goes_on, const Window& limits) {
  const bool near = in_order > 0 && place + kDisorder >= last && place < next + kDisorder;
  if (!near) {
    const bool begins = goes_on && place < kDisorder;
    *this = {.last = place,
             .next = place + 1,
             .end = place + 1,
             .in_order = begins ? kReadsInOrder : 1,
             .window = begins ? limits.longest / 2 : 0};
    return;
  }
  if (place <= last) return;
  ++in_order;
  last = place;
  // What was skipped is another thread's next, or costs little.
  if (place == next) ++next;
  end = std::max(end, next);
}

bool FileStreams::advance(Directory* directory, const std::string& name) {
  const uint32_t size = directory->order->size();
  const std::optional<FileOrder::Places> places = directory->order->find(name);
  if (!places) {
    if (++directory->strangers <= kReadsBeforeListing + size / kNamesToRelistDivisor) return false;
    order_bytes_ -= directory->order->bytes();
    *directory = Directory{};
    return false;
  }
  const bool goes_on = std::exchange(directory->goes_on, false);
  directory->listed.follow(places->listed, goes_on, window_);
  directory->sorted.follow(places->sorted, goes_on, window_);
  Run& run = directory->stream();
  const uint32_t place = &run == &directory->listed ? places->listed : places->sorted;
  const bool all_is_named = place + 1 >= run.next && run.end == run.next;
  if (run.in_order < kReadsInOrder || !all_is_named) return false;
  run.window = std::clamp(2 * run.window, window_.shortest, window_.longest);
  run.end = std::min(run.next + run.window, size);
  return run.end > run.next;
}

std::vector<std::string> FileStreams::take(const shm::Handle& directory, uint32_t count) {
  std::vector<std::string> names;
  Directory& known = directory_of(directory);
  const bool is_listed = known.listed.end > known.listed.next;
  Run& run = is_listed ? known.listed : known.sorted;
  for (; known.order && run.next < run.end && names.size() < count; ++run.next) {
    names.emplace_back(is_listed ? known.order->listed(run.next) : known.order->sorted(run.next));
  }
  if (names.empty()) known.busy = false;
  if (!names.empty() && run.next == known.order->size()) came_to_an_end_ = true;
  return names;
}

bool FileStreams::at_end(const shm::Handle& directory) {
  Directory* const known = directories_.get(directory);
  if (known == nullptr || known->names != Names::kKnown) return false;
  const Run& run = known->stream();
  return run.in_order >= kReadsInOrder && run.next == known->order->size();
}

bool FileStreams::begin(const shm::Handle& directory, std::shared_ptr<const FileOrder> order,
                        const shm::Handle& from) {
  Directory* const before = directories_.get(from);
  if (before == nullptr || directories_.get(directory) != nullptr) return false;
  const bool is_listed = &before->stream() == &before->listed;
  set_order(directory, std::move(order));
  Directory& known = directory_of(directory);
  if (known.names != Names::kKnown) return false;
  known.goes_on = false;
  known.busy = true;
  Run& run = is_listed ? known.listed : known.sorted;
  run = {.last = 0,
         .next = 0,
         .end = std::min(window_.shortest, known.order->size()),
         .in_order = kReadsInOrder,
         .window = window_.longest / 2};
  return true;
}

}  // namespace cached::volume
