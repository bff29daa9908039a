// The answers of translate() as protobuf: parsed strictly (an unknown field of ours is a bug and throws nothing away), serialized
// deterministically, with a version that is the hash of the content, so that every instance on the same directory says the same.
#pragma once
#include <expected>
#include <iterator>
#include <memory>
#include <vector>

#include "ctrl/plane/translate.h"

namespace sluice::plane {

// Bytes that several versions of the world, and the messages on their way to nodes, hold together.
class SharedBytes {
 public:
  SharedBytes() : SharedBytes(std::string()) {}
  SharedBytes(std::string s) : bytes_(std::make_shared<const std::string>(std::move(s))) {}
  operator const std::string&() const { return *bytes_; }
  const std::string& str() const { return *bytes_; }
  size_t size() const { return bytes_->size(); }
  const std::shared_ptr<const std::string>& shared() const { return bytes_; }

 private:
  std::shared_ptr<const std::string> bytes_;
};

struct Resource {
  std::string version;        // 16 hex digits of a hash of `value`
  SharedBytes value;          // the serialized message inside of the Any
  bool by_name_only = false;  // not part of a wildcard's world (another name of what is)
  uint64_t name_hash = 0;     // ResourceTable fills it in
};

// Resources of one type in the order of their names. A copy is cheap and shares what is in it: an entry that did not change from one
// version of the world to the next is the same entry.
class ResourceTable {
 public:
  using Entry = std::pair<const std::string, Resource>;
  using Shared = std::shared_ptr<const Entry>;
  static Shared entry(std::string name, Resource r);  // with its name_hash
  // By reference, in order.
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Entry;
    using reference = const Entry&;
    using pointer = const Entry*;
    using iterator_category = std::bidirectional_iterator_tag;
    Iterator() = default;
    explicit Iterator(const Shared* at) : at_(at) {}
    const Entry& operator*() const { return **at_; }
    const Entry* operator->() const { return at_->get(); }
    const Shared& shared() const { return *at_; }
    Iterator& operator++() { return at_++, *this; }
    Iterator& operator--() { return at_--, *this; }
    Iterator operator++(int) { return Iterator(at_++); }
    Iterator operator--(int) { return Iterator(at_--); }
    bool operator==(const Iterator&) const = default;

   private:
    const Shared* at_ = nullptr;
  };
  Iterator begin() const { return Iterator(list_->data()); }
  Iterator end() const { return Iterator(list_->data() + list_->size()); }
  size_t size() const { return list_->size(); }
  bool empty() const { return list_->empty(); }
  Iterator find(std::string_view name) const;
  bool contains(std::string_view name) const { return find(name) != end(); }
  const Resource& at(std::string_view name) const { return find(name)->second; }  // REQUIRES: contains
  void set(std::string name, Resource r) { put(entry(std::move(name), std::move(r))); }
  void put(Shared e);  // in the place of what has its name
  void erase(std::string_view name);
  bool same(const ResourceTable& o) const { return list_ == o.list_; }  // a copy, unchanged since; false says nothing
  std::string version() const;                                          // of all names and their versions

 private:
  using List = std::vector<Shared>;
  List& own();  // for writing
  std::shared_ptr<List> list_ = std::make_shared<List>();
  uint64_t sum_ = 0;  // over all entries, whatever their order
};

inline constexpr std::string_view kTypeNames[] = {"envoy.config.cluster.v3.Cluster", "envoy.config.endpoint.v3.ClusterLoadAssignment",
                                                  "envoy.config.listener.v3.Listener", "envoy.config.route.v3.RouteConfiguration"};
inline constexpr std::string_view kTypePrefix = "type.googleapis.com/";

constexpr int kTypes = 4;
// "Cluster" etc. by its URL; -1: not ours.
int type_of_url(std::string_view url);

struct Resources {
  ResourceTable of[kTypes];     // by kTypeNames
  std::string version[kTypes];  // of the tables; seal()
  void seal() {
    for (int t = 0; t < kTypes; t++) version[t] = of[t].version();
  }
};
uint64_t name_hash(std::string_view name);
std::string content_hash(std::string_view bytes);  // Resource::version

// What cannot be said in protobuf is an error of ours, named with its resource. Sealed. What did not change since `before` is its entry.
std::expected<Resources, std::string> to_resources(const Answer& a, const Resources* before = nullptr);
// What check cannot see without protobuf: an EnvoyFilter's value that is none of its type. Appends to the issues.
void check_patches(Loaded& l);
// Protojson of one, as golden_diff.py reads it.
std::string to_json(std::string_view type, const std::string& value);
// A Node as JSON (node.json) or as an xDS client sends it, serialized.
std::expected<NodeInfo, std::string> node_from_json(const std::string& json);
NodeInfo node_from_wire(const std::string& serialized);

}  // namespace sluice::plane
