// Kept resources: what the control plane said and the gateway accepted, on disk, so that a restart serves without the control plane
// (architecture section 5). Secrets are not kept here (the caller leaves them out). Two generations: DIR/resources.1 is the newest,
// DIR/resources.2 the one before; save() writes a new file whole, syncs it, and renames, so that a crash at any instant leaves at least one
// good generation. Files are 0600, the folder 0700. load() takes the newest generation that is whole, has the right checksum and is this
// node's; each refused one is named in `problems`.
//
// Format (little-endian): "SLUICEK1", owner (u32 bytes + text), count u32, then per resource: type u8, name u32 + text, version u32 + text,
// body u32 + bytes; last 16 bytes: checksum of all before (two SipHash-2-4 under fixed keys: it finds damage, it does not authenticate).
// Thread: control. Cost: one pass over the bytes; a 10 MB world takes a few ms plus the disk's sync.
#pragma once
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "ctrl/xds/client.h"

namespace sluice::agent {

struct KeptResource {
  xds::Type type = xds::Type::kCluster;
  std::string name, version, bytes;
  bool operator==(const KeptResource&) const = default;
};

constexpr size_t kKeptBytesMax = size_t{1} << 30;

class Kept {
 public:
  // `owner` is the node id: another node's file is not used.
  Kept(std::string dir, std::string owner) : dir_(std::move(dir)), owner_(std::move(owner)) {}

  std::expected<void, std::string> save(const std::vector<KeptResource>& resources) const;

  struct Loaded {
    std::vector<KeptResource> resources;
    std::string from;                   // the file; empty: nothing could be loaded
    std::vector<std::string> problems;  // one line per file that was there and was not used
  };
  Loaded load() const;

 private:
  std::string dir_, owner_;
};

// The format, for tests.
constexpr size_t kKeptChecksumBytes = 16;
std::string kept_checksum(std::string_view bytes);
std::string encode_kept(std::string_view owner, const std::vector<KeptResource>& resources);
std::expected<std::vector<KeptResource>, std::string> decode_kept(std::string_view file, std::string_view owner);

}  // namespace sluice::agent
