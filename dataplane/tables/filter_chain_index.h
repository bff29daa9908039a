// FilterChainIndex: which filter chain of a listener takes a connection, by Envoy's match order (config.listener.v3.FilterChainMatch):
// destination port, destination IP, server name, transport protocol, application protocols, directly connected source IP, source IP, source
// port. At each step the most specific criterion that matches wins and the search never comes back: a chain for the exact server name whose
// ALPN does not match hides the wildcard's chain. Built once per listener on the control thread; find() is a hash look-up per label of the
// server name and one look at each of the chains that share the name; it does not allocate. REQUIRES: clash() is empty.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dataplane/tables/tables.h"

namespace sluice::tables {

struct ConnectionView {
  SocketAddress local, remote;
  std::string_view server_name;         // lower-cased; empty: none was sent
  std::string_view transport_protocol;  // "tls" or "raw_buffer"
  std::span<const std::string_view> application_protocols;
};

// Why these chains cannot stand together, or one of them at all: two that match the same connections in the same way (which of them served
// would be chance; Envoy refuses the listener), or a server name with a wildcard that is not its whole first label. Empty: they can.
std::string clash(std::span<const std::shared_ptr<const FilterChain>> chains);

class FilterChainIndex {
 public:
  explicit FilterChainIndex(std::span<const std::shared_ptr<const FilterChain>> chains);
  // The chain, or null: the caller takes the listener's default chain or closes (NR filter_chain_not_found).
  const std::shared_ptr<const FilterChain>* find(const ConnectionView& c) const;

 private:
  using Set = std::vector<uint32_t>;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  using ByName = std::unordered_map<std::string, Set, Hash, std::equal_to<>>;
  struct Place {  // one destination port (or none) and one set of destination prefixes
    std::optional<uint16_t> port;
    std::optional<IpPrefix> destination;
    ByName by_name;  // "", "host", ".suffix"
  };
  const Place* place_of(const ConnectionView& c) const;
  std::vector<std::shared_ptr<const FilterChain>> chains_;
  std::vector<Place> places_;
};

}  // namespace sluice::tables
