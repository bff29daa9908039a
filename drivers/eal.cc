#include "drivers/eal.h"

#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <semaphore>

#include "dataplane/base/check.h"
#include "drivers/log_capture.h"
#include "drivers/port_spec.h"

namespace sluice::drivers {
namespace {

constexpr const char* kHugepages2M = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

uint64_t read_number(const std::string& path) {
  uint64_t v = 0;
  std::ifstream(path) >> v;
  return v;
}

uint64_t available_mib() {
  std::ifstream f("/proc/meminfo");
  for (std::string word; f >> word;)
    if (word == "MemAvailable:") {
      uint64_t kib = 0;
      f >> kib;
      return kib / 1024;
    }
  return 0;
}

}  // namespace

std::expected<Eal, std::string> Eal::start(const EalOptions& o) {
  const uint64_t free_pages = read_number(std::string(kHugepages2M) + "free_hugepages");
  const uint64_t total_pages = read_number(std::string(kHugepages2M) + "nr_hugepages");
  const uint64_t pages_due = (o.memory_mib + 1) / 2 + 16;  // EAL's own structures besides what is asked for
  const std::string page_cure = "sysctl -w vm.nr_hugepages=" + std::to_string(total_pages - free_pages + pages_due);
  const bool hugepages = o.memory == EalMemory::kHugepages || (o.memory == EalMemory::kAuto && free_pages >= pages_due);
  if (hugepages && free_pages < pages_due)
    return std::unexpected("hugepages: " + std::to_string(pages_due) + " of 2 MiB are needed and " + std::to_string(free_pages) +
                           " are free; run `" + page_cure + "` or let memory be `no-huge`");
  if (!hugepages && available_mib() < o.memory_mib + 64)
    return std::unexpected("memory: " + std::to_string(o.memory_mib) + " MiB are needed and " + std::to_string(available_mib()) +
                           " MiB are available; give the machine more, or ask for less (fewer workers or ports)");

  const std::string prefix = o.file_prefix.empty() ? "sluice-" + std::to_string(getpid()) : o.file_prefix;
  std::vector<std::string> args = {
      "sluice", "--iova-mode=va", "--no-telemetry", "--file-prefix=" + prefix, "--lcores=" + o.lcores, "--log-level=*:error"};
  if (hugepages) args.insert(args.end(), {"--in-memory"});
  else args.insert(args.end(), {"--no-huge", "-m", std::to_string(o.memory_mib), "--no-shconf"});
  bool pci = false;
  for (const auto& port : o.ports)
    if (const auto spec = parse_port_spec(port); spec && spec->kind == PortSpec::Kind::kPci) {
      args.insert(args.end(), {"-a", spec->device + (spec->args.empty() ? "" : "," + spec->args)});
      pci = true;
    }
  if (!pci) args.push_back("--no-pci");
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(a.data());

  LogCapture log;
  if (rte_eal_init(int(argv.size()), argv.data()) < 0) {
    const std::string why = log.first().empty() ? rte_strerror(rte_errno) : log.first();
    const std::string cure = geteuid() != 0 ? "run as root, or with CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and a writable XDG_RUNTIME_DIR"
                             : rte_errno == EALREADY ? "EAL starts once per process"
                             : hugepages ? page_cure + ", or let memory be `no-huge`; check the lcores `" + o.lcores + "` against `nproc`"
                                         : "check the lcores `" + o.lcores + "` against `nproc` and the memory limit (`ulimit -v`, cgroup)";
    return std::unexpected("EAL does not start: " + why + "; " + cure);
  }
  Eal eal;
  eal.running_ = true;
  eal.hugepages_ = hugepages;
  eal.summary_ = hugepages ? "hugepages (2 MiB pages, " + std::to_string(free_pages * 2) + " MiB free at start)"
                           : "no hugepages (--no-huge -m " + std::to_string(o.memory_mib) + "; for hugepages: " + page_cure + ")";
  return eal;
}

void on_interrupt_thread(const std::function<void()>& work) {
  struct Alarm {
    const std::function<void()>& work;
    std::binary_semaphore done{0};
  } alarm{work};
  const int set = rte_eal_alarm_set(
      1,
      [](void* a) {
        static_cast<Alarm*>(a)->work();
        static_cast<Alarm*>(a)->done.release();
      },
      &alarm);
  SLUICE_ASSERT(set == 0);
  alarm.done.acquire();
}

Eal::~Eal() {
  if (!running_) return;
  // Without rte_eal_cleanup(): 22.11 unmaps DPDK's memory there while its interrupt thread goes on, and the memif driver leaves its
  // listener's handle in that thread's list for good, in memory that it has freed (a crash in 1 of 3 ends of a process that had a memif
  // port). All that EAL holds is the process's own and goes with it, but for its directory.
  const std::filesystem::path own = rte_eal_get_runtime_dir();
  std::error_code ignored;
  std::filesystem::remove_all(own, ignored);
}

}  // namespace sluice::drivers
