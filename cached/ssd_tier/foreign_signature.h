// Names what a device holds that is not ours, by the signatures of the common file systems, volume managers
// and partition tables. Pure functions over the device's first and last MiB.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace cached::ssd_tier {

// "an ext4 file system", "a partition table (GPT)", ...; nothing if no known signature is there. `head` is
// the device's first MiB.
std::optional<std::string> signature_in_head(std::span<const std::byte> head);

// The same for signatures at the end of a device. `tail` is its last MiB, up to its very end.
std::optional<std::string> signature_in_tail(std::span<const std::byte> tail);

}  // namespace cached::ssd_tier
