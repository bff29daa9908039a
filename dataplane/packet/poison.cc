#include "dataplane/packet/poison.h"

#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

#include <cstring>

#include "dataplane/packet/pool.h"

#if defined(SLUICE_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace sluice {

#if defined(SLUICE_ADDRESS_SANITIZER)
namespace {

// By layout, for a new pool's mbufs are enqueued before they are initialised.
void* room_of(void* mbuf) { return static_cast<char*>(mbuf) + sizeof(rte_mbuf) + kMbufPrivateBytes; }

const rte_mempool_ops& ring() {
  static const rte_mempool_ops* found = [] {
    for (uint32_t i = 0; i < rte_mempool_ops_table.num_ops; i++)
      if (std::strcmp(rte_mempool_ops_table.ops[i].name, "ring_mp_mc") == 0) return &rte_mempool_ops_table.ops[i];
    return static_cast<rte_mempool_ops*>(nullptr);
  }();
  SLUICE_ASSERT(found != nullptr);
  return *found;
}

int make(rte_mempool* mp) { return ring().alloc(mp); }
void drop(rte_mempool* mp) { ring().free(mp); }
int enqueue(rte_mempool* mp, void* const* objects, unsigned n) {
  for (unsigned i = 0; i < n; i++) __asan_poison_memory_region(room_of(objects[i]), kMbufDataRoom);
  return ring().enqueue(mp, objects, n);
}
int dequeue(rte_mempool* mp, void** objects, unsigned n) {
  const int failed = ring().dequeue(mp, objects, n);
  if (failed == 0)
    for (unsigned i = 0; i < n; i++) __asan_unpoison_memory_region(room_of(objects[i]), kMbufDataRoom);
  return failed;
}
unsigned count(const rte_mempool* mp) { return ring().get_count(mp); }

}  // namespace

const char* mbuf_pool_ops() {
  static constexpr const char* kName = "sluice_poison";
  static const bool registered = [] {
    rte_mempool_ops ops{};
    std::strcpy(ops.name, kName);
    ops.alloc = make;
    ops.free = drop;
    ops.enqueue = enqueue;
    ops.dequeue = dequeue;
    ops.get_count = count;
    return rte_mempool_register_ops(&ops) >= 0;
  }();
  SLUICE_ASSERT(registered);
  return kName;
}

void unpoison_all(rte_mempool* pool) {
  rte_mempool_obj_iter(
      pool, [](rte_mempool*, void*, void* mbuf, unsigned) { __asan_unpoison_memory_region(room_of(mbuf), kMbufDataRoom); }, nullptr);
}
#else
const char* mbuf_pool_ops() { return rte_mbuf_best_mempool_ops(); }
void unpoison_all(rte_mempool*) {}
#endif

}  // namespace sluice
