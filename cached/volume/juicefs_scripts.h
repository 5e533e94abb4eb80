// The questions that JuicefsVolume asks Redis, each one Lua script and so one round trip and one moment.
//
// `inode(ino)` gives attributes, the first slice records of a file that has one chunk (one more than
// kFewSlices tells that there are more), and whether there are xattrs. Redis answers false as nil.
#pragma once

#include <string>

namespace cached::volume::juicefs {

enum class Script : unsigned { kLookup, kInodes, kScan, kMap, kXattrs, kTotals, kCount };

inline const std::string kInodeFunction = R"(
local function inode(ino)
  local a = redis.call('GET', 'i' .. ino)
  if not a then return false, false, 0 end
  local slices = false
  if #a >= 59 and math.floor(a:byte(2) / 16) == 1 then
    local length = 0
    for i = 52, 59 do length = length * 256 + a:byte(i) end
    if length > 0 and length <= 67108864 then
      slices = table.concat(redis.call('LRANGE', 'c' .. ino .. '_0', 0, 8))
    end
  end
  return a, slices, redis.call('EXISTS', 'x' .. ino)
end
local function child(v)
  local ino = 0
  for i = 2, #v do ino = ino * 256 + v:byte(i) end
  return string.format('%.0f', ino)
end
)";

// ARGV: parent, name. {entry, attributes, slices, xattrs, entries in the parent}
inline const std::string kLookupScript = kInodeFunction + R"(
local n = redis.call('HLEN', 'd' .. ARGV[1])
local v = redis.call('HGET', 'd' .. ARGV[1], ARGV[2])
if not v or #v ~= 9 then return {v, false, false, 0, n} end
local a, s, x = inode(child(v))
return {v, a, s, x, n}
)";

// ARGV: inodes. {attributes, slices, xattrs} for each, one after another.
inline const std::string kInodesScript = kInodeFunction + R"(
local r = {}
for i = 1, #ARGV do
  local a, s, x = inode(ARGV[i])
  r[#r + 1] = a; r[#r + 1] = s; r[#r + 1] = x
end
return r
)";

// ARGV: directory, cursor, count, "1" for attributes. {cursor, then name, entry (, attributes, slices,
// xattrs) each}
inline const std::string kScanScript = kInodeFunction + R"(
local f = redis.call('HSCAN', 'd' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local r = {f[1]}
local e = f[2]
for i = 1, #e, 2 do
  r[#r + 1] = e[i]; r[#r + 1] = e[i + 1]
  if ARGV[4] == '1' then
    local a, s, x = false, false, 0
    if #e[i + 1] == 9 then a, s, x = inode(child(e[i + 1])) end
    r[#r + 1] = a; r[#r + 1] = s; r[#r + 1] = x
  end
end
return r
)";

// ARGV: inode, first chunk, chunks. {attributes, slices of each chunk}
inline const std::string kMapScript = R"(
local r = {redis.call('GET', 'i' .. ARGV[1])}
for i = ARGV[2], ARGV[2] + ARGV[3] - 1 do
  r[#r + 1] = table.concat(redis.call('LRANGE', 'c' .. ARGV[1] .. '_' .. string.format('%.0f', i), 0, -1))
end
return r
)";

// ARGV: inode, and a name or none. {attributes, access ACL, default ACL, the value or the names}
inline const std::string kXattrsScript = R"(
local function number(a, from)
  local n = 0
  for i = from, from + 3 do n = n * 256 + a:byte(i) end
  return n
end
local a = redis.call('GET', 'i' .. ARGV[1])
if not a then return {false} end
local access, default = false, false
if #a >= 80 then
  if number(a, 72) > 0 then access = redis.call('HGET', 'acl', number(a, 72)) end
  if number(a, 76) > 0 then default = redis.call('HGET', 'acl', number(a, 76)) end
end
if ARGV[2] then return {a, access, default, redis.call('HGET', 'x' .. ARGV[1], ARGV[2])} end
return {a, access, default, redis.call('HKEYS', 'x' .. ARGV[1])}
)";

// ARGV: directory, cursor, count. {cursor, bytes of all files that lie in it, files of this batch, then
// directories of this batch}. JuiceFS keeps the bytes up to date, where it keeps statistics of directories.
inline const std::string kTotalsScript = kInodeFunction + R"(
local f = redis.call('HSCAN', 'd' .. ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local r = {f[1], redis.call('HGET', 'dirDataLength', ARGV[1]), 0}
for i = 2, #f[2], 2 do
  local v = f[2][i]
  if #v == 9 and v:byte(1) == 1 then r[3] = r[3] + 1 end
  if #v == 9 and v:byte(1) == 2 then r[#r + 1] = child(v) end
end
return r
)";

}  // namespace cached::volume::juicefs
