// What one client asked for of one type, what it has of it, and what it said about it: the part that delta and SotW share (stream.h). Pure.
// Names are kept as their hashes and what the client has as a reference to the version of the world that it was brought to, so that a
// thousand gateways of ten thousand services cost 8 bytes a name and no copy of a version.
#pragma once
#include <deque>
#include <set>
#include <span>

#include "ctrl/plane/resource.h"

namespace sluice::plane {

constexpr size_t kNamesPerStreamMax = 200'000;  // all types together; more end the stream
constexpr size_t kPendingMax = 1024;            // answers of a type without an ACK that are remembered; the oldest is forgotten
constexpr size_t kPendingNamesMax = 64;         // an answer of more is taken to have any name when one is refused
constexpr size_t kReasonBytesMax = 16 * 1024;   // of a NACK's text

// Names that are new, different or gone between two versions.
struct Change {
  std::shared_ptr<const Resources> from;
  std::vector<std::string_view> touched[kTypes];  // in order; of `from` or of the version after it
  bool empty() const;
};
Change difference(std::shared_ptr<const Resources> from, const Resources& to);

// A version of the world, and how it came from the one before, if that is known.
struct Current {
  std::shared_ptr<const Resources> resources;
  std::shared_ptr<const Change> change;
};

struct Item {
  std::string_view name;
  const Resource* resource;
};
struct Due {
  std::vector<Item> changed;         // in the order of names
  std::vector<std::string> gone;     // had by the client
  std::vector<std::string> missing;  // asked for since the last time, and not there
  bool first = false;                // nothing was ever answered
  bool resumed = false;              // the client came with what it has
  bool nothing() const { return changed.empty() && gone.empty() && missing.empty(); }
};

// What is shown of a type: `sluicectl nodes`.
struct TypeReport {
  bool asked = false, wildcard = false;
  size_t names = 0;
  std::string sent_version, sent_nonce;   // of the newest answer
  std::string acknowledged_version;       // of the newest answer that was acknowledged
  std::string nack_reason, nack_version;  // of the last NACK, until what it refused is accepted or gone
  uint64_t answers = 0, acks = 0, nacks = 0;
  size_t pending = 0;  // answers without an ACK or NACK
};

class Subscription {
 public:
  bool asked() const { return asked_; }
  bool wildcard() const { return wildcard_; }
  size_t names() const { return names_.size(); }
  bool covers(const Resource& r) const { return (wildcard_ && !r.by_name_only) || named(r.name_hash); }
  // The first request of the type on this stream; what the client says that it has (delta).
  void open(std::map<std::string, std::string> had = {});
  void set_wildcard(bool on, int type);          // on again: all is due again
  void add(std::span<const std::string> names);  // asked for again: due again
  void drop(std::span<const std::string> names);
  void replace(std::span<const std::string> names);  // SotW: these and no others; only added ones are due
  void narrow(std::span<const std::string> names);   // no others than these
  // Due again although the client has it, if it is (or will be, on this stream) in scope.
  void again(std::string_view name);
  // What the client is owed; it has it from here on.
  Due due(const Current& current, int type);
  // Everything in scope, for answers that say the whole world.
  std::vector<Item> whole(const Resources& r, int type) const;
  const Resources* base() const { return base_.get(); }

  // -- the ledger of answers
  void sent(const std::string& nonce, const std::string& version, std::span<const Item> items);
  void acknowledged(const std::string& nonce);  // an unknown nonce says nothing
  void refused(const std::string& nonce, const std::string& reason, int type);
  void forget_older() { pending_.clear(); }  // the newest answer was acknowledged or refused, and with it all before (SotW)
  const std::string& sent_nonce() const { return report_.sent_nonce; }
  size_t pending() const { return pending_.size(); }
  uint64_t nacks() const { return report_.nacks; }
  bool settled() const { return pending_.empty() && fresh_.empty() && refused_.empty() && !refused_other_; }
  TypeReport report() const;

 private:
  struct Pending {
    std::string nonce, version;
    std::vector<std::string> names;  // of a small answer, sorted
    bool large = false;              // it may have any name
    bool has(const std::string& name) const;
  };
  bool named(uint64_t hash) const;
  bool take(const std::string& nonce);  // out of pending_, into taken_
  bool asked_ = false, wildcard_ = false, answered_ = false;
  std::vector<uint64_t> names_;               // sorted
  std::set<std::string, std::less<>> fresh_;  // asked for since the last answer: due whatever the client has, or said to be missing
  std::set<std::string, std::less<>> again_;  // due whatever the client has
  std::map<std::string, std::string> had_;    // until the first answer
  std::shared_ptr<const Resources> base_;     // the client has what is in scope of it
  std::deque<Pending> pending_;
  std::map<std::string, std::string, std::less<>> refused_;  // name -> nonce of the answer that has it again, or ""
  bool refused_other_ = false;                               // a NACK that named nothing that we know
  Pending taken_;                                            // scratch
  TypeReport report_;
};

}  // namespace sluice::plane
