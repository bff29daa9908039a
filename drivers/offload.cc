#include "drivers/offload.h"

#include <algorithm>

#include "dataplane/packet/chain.h"
#include "dataplane/packet/checksum.h"

namespace sluice::drivers {
namespace {

constexpr uint32_t kIpTotalLength = 2, kIpChecksum = 10, kIpSource = 12, kIpDestination = 16;  // offsets in the IPv4 header
constexpr uint32_t kTcpSequence = 4, kTcpFlags = 13, kTcpChecksum = 16;                        // and in TCP's
constexpr uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;

template <class T>
Be<T>& field(rte_mbuf* m, uint32_t offset) {
  return *rte_pktmbuf_mtod_offset(m, Be<T>*, offset);
}
// A folded sum goes into the header as it lies in memory, so no byte order is involved.
void store_checksum(rte_mbuf* m, uint32_t offset, uint16_t folded) {
  const uint16_t complement = uint16_t(~folded);
  std::memcpy(rte_pktmbuf_mtod_offset(m, uint8_t*, offset), &complement, 2);
}

}  // namespace

void fill_checksums(rte_mbuf* m, uint64_t flags) {
  const uint64_t due = m->ol_flags & flags;
  const uint32_t l3 = m->l2_len, l4 = l3 + m->l3_len;
  if (due & RTE_MBUF_F_TX_IP_CKSUM) {
    SLUICE_DCHECK(m->data_len >= l4 && m->l3_len >= 20);
    field<uint16_t>(m, l3 + kIpChecksum) = 0;
    store_checksum(m, l3 + kIpChecksum, checksum_fold(checksum_add({rte_pktmbuf_mtod_offset(m, const uint8_t*, l3), m->l3_len})));
    m->ol_flags &= ~RTE_MBUF_F_TX_IP_CKSUM;
  }
  if ((due & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_TCP_CKSUM) {
    SLUICE_DCHECK(m->data_len >= l4 + 20);
    // The pseudo-header's sum is already in the checksum field, so the sum over the whole segment is the sum over both.
    store_checksum(m, l4 + kTcpChecksum, checksum_fold(checksum_add_chain(m, l4, m->pkt_len - l4)));
    m->ol_flags &= ~RTE_MBUF_F_TX_L4_MASK;
  }
}

rte_mbuf* linearise(rte_mbuf* m, rte_mempool* pool) {
  rte_mbuf* flat = rte_pktmbuf_alloc(pool);
  if (flat == nullptr) return nullptr;
  flat->data_off = kMbufHeadroom;
  if (m->pkt_len > rte_pktmbuf_tailroom(flat)) {
    rte_pktmbuf_free(flat);
    return nullptr;
  }
  uint8_t* to = rte_pktmbuf_mtod(flat, uint8_t*);
  for (const rte_mbuf* s = m; s != nullptr; s = s->next) {
    std::memcpy(to, rte_pktmbuf_mtod(s, const uint8_t*), s->data_len);
    to += s->data_len;
  }
  flat->data_len = uint16_t(m->pkt_len);
  flat->pkt_len = m->pkt_len;
  flat->port = m->port;
  flat->ol_flags = m->ol_flags;
  flat->tx_offload = m->tx_offload;
  flat->vlan_tci = m->vlan_tci;
  rte_pktmbuf_free(m);
  return flat;
}

unsigned segment(rte_mbuf* m, rte_mempool* pool, std::array<rte_mbuf*, kCutsMax>& out) {
  const uint32_t l3 = m->l2_len, l4 = l3 + m->l3_len, headers = l4 + m->l4_len;
  if (m->tso_segsz == 0 || m->l3_len < 20 || m->l4_len < 20 || m->data_len < headers || m->pkt_len < headers) return 0;
  const uint32_t payload = m->pkt_len - headers;
  const uint32_t cuts = std::max<uint32_t>(1, (payload + m->tso_segsz - 1) / m->tso_segsz);
  if (cuts > kCutsMax || headers + m->tso_segsz > kMbufDataRoom - kMbufHeadroom) return 0;
  if (rte_pktmbuf_alloc_bulk(pool, out.data(), cuts) != 0) return 0;

  const rte_mbuf* from = m;  // the payload's reader
  uint32_t at = headers;
  const uint32_t first_seq = field<uint32_t>(m, l4 + kTcpSequence);
  const uint8_t tcp_flags = *rte_pktmbuf_mtod_offset(m, uint8_t*, l4 + kTcpFlags);
  const Ipv4 src{field<uint32_t>(m, l3 + kIpSource)}, dst{field<uint32_t>(m, l3 + kIpDestination)};
  for (uint32_t i = 0, done = 0; i < cuts; i++) {
    rte_mbuf* cut = out[i];
    const uint32_t n = std::min<uint32_t>(m->tso_segsz, payload - done);
    cut->data_off = kMbufHeadroom;
    cut->data_len = uint16_t(headers + n);
    cut->pkt_len = cut->data_len;
    cut->tx_offload = m->tx_offload;
    cut->ol_flags = (m->ol_flags & ~RTE_MBUF_F_TX_TCP_SEG) | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
    uint8_t* to = rte_pktmbuf_mtod(cut, uint8_t*);
    std::memcpy(to, rte_pktmbuf_mtod(m, const uint8_t*), headers);
    for (uint32_t left = n; left > 0;) {
      while (at >= from->data_len) {
        at -= from->data_len;
        from = from->next;
      }
      const uint32_t take = std::min<uint32_t>(left, from->data_len - at);
      std::memcpy(to + headers + (n - left), rte_pktmbuf_mtod_offset(from, const uint8_t*, at), take);
      at += take;
      left -= take;
    }
    field<uint16_t>(cut, l3 + kIpTotalLength) = uint16_t(m->l3_len + m->l4_len + n);
    field<uint32_t>(cut, l4 + kTcpSequence) = first_seq + done;
    uint8_t f = tcp_flags;
    if (i + 1 < cuts) f &= uint8_t(~(kFin | kPsh));
    if (i > 0) f &= uint8_t(~kCwr);
    *rte_pktmbuf_mtod_offset(cut, uint8_t*, l4 + kTcpFlags) = f;
    store_checksum(cut, l4 + kTcpChecksum, uint16_t(~checksum_fold(checksum_pseudo(src, dst, 6, uint16_t(m->l4_len + n)))));
    done += n;
  }
  rte_pktmbuf_free(m);
  return cuts;
}

}  // namespace sluice::drivers
