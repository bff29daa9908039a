// Every discarded packet, record, request and resource has a reason from this one enum and a counter; reasons add up to in minus out.
// A new reason needs: a line here (its name is the metric label) and a test that produces it. Grouped by the folder that counts it.
#pragma once
#include <cstdint>
#include <string_view>

namespace sluice {

// clang-format off
#define SLUICE_DROP_REASONS(X) \
  /* drivers */ \
  X(kPortTxFull, "port_tx_full") X(kPortLinearise, "port_linearise_no_mbuf") X(kPortOversize, "port_oversize") \
  X(kFanoutFull, "fanout_ring_full") X(kImpairLoss, "impair_loss") \
  /* net */ \
  X(kEthTruncated, "eth_truncated") X(kEthNotOurs, "eth_not_ours") X(kEthTypeUnknown, "eth_type_unknown") X(kVlanUnknown, "vlan_unknown") \
  X(kArpMalformed, "arp_malformed") X(kArpNotOurs, "arp_not_ours") X(kArpTableFull, "arp_table_full") X(kArpQueueFull, "arp_queue_full") \
  X(kArpUnresolved, "arp_unresolved") X(kIpTruncated, "ip_truncated") X(kIpBadVersion, "ip_bad_version") \
  X(kIpBadHeaderLength, "ip_bad_header_length") X(kIpBadLength, "ip_bad_length") X(kIpBadChecksum, "ip_bad_checksum") \
  X(kIpFragment, "ip_fragment") X(kIpOptions, "ip_options") X(kIpNotOurs, "ip_not_ours") X(kIpBadSource, "ip_bad_source") \
  X(kIpTtlZero, "ip_ttl_zero") X(kIpProtocolUnknown, "ip_protocol_unknown") X(kNoRoute, "no_route") X(kIcmpMalformed, "icmp_malformed") \
  X(kIcmpRateLimited, "icmp_rate_limited") X(kIcmpIgnored, "icmp_ignored") X(kIpv6, "ipv6_not_supported") \
  /* tcp */ \
  X(kTcpTruncated, "tcp_truncated") X(kTcpBadOffset, "tcp_bad_data_offset") X(kTcpBadChecksum, "tcp_bad_checksum") \
  X(kTcpBadOptions, "tcp_bad_options") X(kTcpBadFlags, "tcp_bad_flags") X(kTcpNoConnection, "tcp_no_connection") \
  X(kTcpNotListening, "tcp_not_listening") X(kTcpOutOfWindow, "tcp_out_of_window") X(kTcpPaws, "tcp_paws") X(kTcpDuplicate, "tcp_duplicate") \
  X(kTcpOutOfOrderFull, "tcp_out_of_order_full") X(kTcpReceiveFull, "tcp_receive_full") X(kTcpNoMbuf, "tcp_no_mbuf") \
  X(kTcpTableFull, "tcp_table_full") X(kTcpSynTableFull, "tcp_syn_table_full") X(kTcpTimeWait, "tcp_time_wait") X(kTcpBadRst, "tcp_bad_rst") \
  X(kTcpRstLimited, "tcp_rst_limited") X(kTcpAfterClose, "tcp_data_after_close") X(kTcpNoPorts, "tcp_no_source_ports") \
  X(kTcpBadAck, "tcp_bad_ack") X(kTcpWrongWorker, "tcp_wrong_worker") \
  /* tls-offload */ \
  X(kTlsHelloMalformed, "tls_hello_malformed") X(kTlsHelloTooLong, "tls_hello_too_long") X(kTlsHelloTimeout, "tls_hello_timeout") \
  X(kTlsNoChain, "tls_no_filter_chain") X(kTlsHandshakeFailed, "tls_handshake_failed") X(kTlsHandshakeTimeout, "tls_handshake_timeout") \
  X(kTlsQueueFull, "tls_handshake_queue_full") X(kTlsBadRecord, "tls_bad_record_mac") X(kTlsRecordOverflow, "tls_record_overflow") \
  X(kTlsUnexpected, "tls_unexpected_message") X(kTlsTruncated, "tls_truncated") X(kTlsAlert, "tls_fatal_alert") \
  X(kTlsKeyLimit, "tls_key_limit") X(kTlsNoMbuf, "tls_no_mbuf") \
  /* http, proxy */ \
  X(kHttpRefused, "http_refused") X(kHttpHeaderTimeout, "http_header_timeout") X(kHttpIdleTimeout, "http_idle_timeout") \
  X(kExchangeFull, "exchange_table_full") X(kConnFull, "connection_table_full") X(kLogRingFull, "access_log_ring_full") \
  X(kDrained, "drained")
// clang-format on

enum class Drop : uint16_t {
#define X(id, name) id,
  SLUICE_DROP_REASONS(X)
#undef X
      kCount
};

constexpr std::string_view kDropNames[] = {
#define X(id, name) name,
    SLUICE_DROP_REASONS(X)
#undef X
};

constexpr std::string_view name_of(Drop d) { return kDropNames[size_t(d)]; }

}  // namespace sluice
