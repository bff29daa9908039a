// ./run bench control: the control plane against a directory of N services with two routes each, as its nodes see it.
//
//   cold start    Control::start until a node on a Unix socket has CDS, EDS, LDS and RDS
//   route edit    rename of a changed file until the node has the RouteConfiguration
//   endpoint edit the same until it has the ClusterLoadAssignment
//   memory        VmHWM of this process, the node included, before the many nodes
//   many nodes    delta streams, each on a connection of its own: a route edit until the last of them has it
// The nodes are in this process and parse nothing but nonces; they share its two cores with the server. Figures are this machine's in this
// minute.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>

#include "ctrl/plane/control.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

namespace {
using namespace sluice::plane;
namespace ds = envoy::service::discovery::v3;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point t) { return std::chrono::duration<double, std::milli>(Clock::now() - t).count(); }

constexpr size_t kPerFile = 100;

// ---- the directory
std::string service(size_t i, int route, int endpoint) {
  const std::string n = std::to_string(i), host = "s" + n + ".mesh.example.com";
  return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s" + n + ", namespace: shop}\nspec:\n  hosts: [" + host +
         "]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints:\n  - {address: 10." +
         std::to_string(i / 250 % 250) + "." + std::to_string(i % 250) + ".1}\n  - {address: 10.0.1." + std::to_string(endpoint % 250 + 1) +
         "}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s" + n +
         ", namespace: shop}\nspec:\n  hosts: [" + host + "]\n  gateways: [edge]\n  http:\n  - match: [{uri: {prefix: /v" +
         std::to_string(route) + "}}]\n    route: [{destination: {host: " + host + "}}]\n  - route: [{destination: {host: " + host +
         "}}]\n---\n";
}
struct Directory {
  std::string dir;
  size_t services;
  void write(size_t file, int route = 0, int endpoint = 0) const {
    std::string text;
    for (size_t i = file * kPerFile; i < std::min(services, (file + 1) * kPerFile); i++)
      text += i % kPerFile == 0 ? service(i, route, endpoint) : service(i, 0, 0);
    const std::string path = dir + "/istio/" + std::to_string(file) + ".yaml";
    std::ofstream(dir + "/next") << text;
    std::filesystem::rename(dir + "/next", path);
  }
  void make() const {
    std::filesystem::create_directories(dir + "/istio");
    std::ofstream(dir + "/istio/gateway.yaml") << "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: "
                                                  "shop}\nspec:\n  selector: {istio: ingressgateway}\n"
                                                  "  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: ['*']\n";
    for (size_t f = 0; f * kPerFile < services; f++) write(f);
  }
};

// ---- a node
constexpr const char* kUrls[kTypes] = {
    "type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"};
// What all nodes wait for: answers of a type since the last reset.
struct Arrivals {
  std::mutex mutex;
  std::condition_variable changed;
  std::array<size_t, kTypes> count{};
  std::atomic<size_t> failed = 0;
  void add(int type) {
    const std::lock_guard lock(mutex);
    count[size_t(type)]++;
    changed.notify_all();
  }
  void reset() {
    const std::lock_guard lock(mutex);
    count = {};
  }
  bool wait(int type, size_t n, int seconds = 120) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(seconds), [&] { return count[size_t(type)] >= n; });
  }
};

class Node final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Node(const std::string& socket, size_t number, size_t services, Arrivals& arrivals) : arrivals_(arrivals) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
    stub_->PrepareBidiStreamingCall(&context_, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", {}, this);
    StartRead(&incoming_);
    StartCall();
    for (int t : {0, 1, 2, 3}) {
      ds::DeltaDiscoveryRequest r;
      r.set_type_url(kUrls[t]);
      if (t == 0) {
        auto& node = *r.mutable_node();
        node.set_id("router~10.0.0.1~gw" + std::to_string(number) + ".shop~shop.svc.cluster.local");
        auto& fields = *node.mutable_metadata()->mutable_fields();
        fields["NAMESPACE"].set_string_value("shop");
        (*fields["LABELS"].mutable_struct_value()->mutable_fields())["istio"].set_string_value("ingressgateway");
      }
      if (t == 0 || t == 2) r.add_resource_names_subscribe("*");
      if (t == 3) r.add_resource_names_subscribe("http.80");
      if (t == 1)
        for (size_t i = 0; i < services; i++) r.add_resource_names_subscribe("outbound|80||s" + std::to_string(i) + ".mesh.example.com");
      write(r);
    }
  }
  ~Node() override {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return ended_; });
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    grpc::Slice first;
    std::vector<grpc::Slice> slices;
    (void)incoming_.Dump(&slices);
    // version 1, type_url 4, nonce 5 stand first (ctrl/plane/wire.cc), in the first slices.
    std::string head;
    for (const auto& s : slices) {
      head.append(reinterpret_cast<const char*>(s.begin()), std::min<size_t>(s.size(), 300));
      if (head.size() > 250) break;
    }
    size_t at = 0;
    std::string url, nonce;
    while (at + 2 < head.size() && nonce.empty()) {
      const int field = head[at] >> 3;
      const size_t size = uint8_t(head[at + 1]);
      if (field == 4) url = head.substr(at + 2, size);
      if (field == 5) nonce = head.substr(at + 2, size);
      at += 2 + size;
    }
    int type = 0;
    while (type < kTypes && url != kUrls[type]) type++;
    if (type == kTypes) {
      arrivals_.failed++;
      return;
    }
    arrivals_.add(type);
    ds::DeltaDiscoveryRequest ack;
    ack.set_type_url(url);
    ack.set_response_nonce(nonce);
    write(ack);
    incoming_.Clear();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    out_.pop_front();
    if (ok && !out_.empty()) StartWrite(&out_.front());
  }
  void OnDone(const grpc::Status&) override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    done_.notify_all();
  }

 private:
  void write(const ds::DeltaDiscoveryRequest& r) {
    const std::string bytes = r.SerializeAsString();
    const grpc::Slice slice(bytes);
    const std::lock_guard lock(mutex_);
    out_.emplace_back(&slice, 1);
    if (out_.size() == 1) StartWrite(&out_.front());
  }
  Arrivals& arrivals_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer incoming_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool ended_ = false;
  std::deque<grpc::ByteBuffer> out_;
};

// ---- figures
std::string percentiles(std::vector<double> v) {
  if (v.empty()) return "-";
  std::ranges::sort(v);
  const auto at = [&](double p) { return v[std::min(v.size() - 1, size_t(p * double(v.size())))]; };
  char text[160];
  std::snprintf(text, sizeof text, "p50 %8.1f  p90 %8.1f  p99 %8.1f  max %8.1f ms  (%zu)", at(0.5), at(0.9), at(0.99), v.back(), v.size());
  return text;
}
long status_kb(const char* field) {
  std::ifstream in("/proc/self/status");
  std::string word;
  long value = 0;
  while (in >> word)
    if (word == field) in >> value;
  return value;
}
std::string first_line(const char* command) {
  FILE* f = popen(command, "r");
  char line[200] = "";
  if (f != nullptr) (void)!fgets(line, sizeof line, f), pclose(f);
  line[std::strcspn(line, "\n")] = 0;
  return line;
}

int run(size_t services, size_t many, size_t edits) {
  char name[] = "/tmp/sluice-control-bench-XXXXXX";
  const Directory d{mkdtemp(name), services};
  d.make();
  const std::string socket = d.dir + "/s";
  std::string trouble;
  const auto say = [](const std::string&) {};
  const auto row = [&](const std::string& what, const std::string& figures) {
    std::printf("%6zu services  %-34s %s\n", services, what.c_str(), figures.c_str());
    std::fflush(stdout);
  };
  const auto ms_text = [](double v) {
    char text[40];
    std::snprintf(text, sizeof text, "%8.1f ms", v);
    return std::string(text);
  };
  {
    Arrivals one;
    const auto began = Clock::now();
    auto control = Control::start({.dir = d.dir + "/istio",
                                   .mesh = "",
                                   .server = {.listen = "unix:" + socket, .streams_max = many + 16},
                                   .say = say,
                                   .problems = [&](const std::string& s) { trouble += s; }});
    if (!control) {
      std::cerr << control.error() << "\n" << trouble << "\n";
      return 1;
    }
    const double loaded = ms_since(began);
    auto node = std::make_unique<Node>(socket, 0, services, one);
    for (int t = 0; t < kTypes; t++)
      if (!one.wait(t, 1)) {
        std::cerr << "no answer of type " << kUrls[t] << "\n";
        return 1;
      }
    row("cold start", ms_text(ms_since(began)) + " (directory " + ms_text(loaded) + ", translation " +
                          ms_text(double((*control)->server().counters().translate_us) / 1e3) + ")");
    std::jthread poller([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) (*control)->poll(50);
    });
    std::vector<double> translated;
    std::map<size_t, std::pair<int, int>> written;
    int serial = 0;
    const auto edit = [&](int type, size_t i, Arrivals& arrivals, size_t nodes) {
      arrivals.reset();
      const size_t file = i * 7 % ((services + kPerFile - 1) / kPerFile);
      auto& [route, endpoint] = written[file];  // the one changes, the other stays
      (type == 3 ? route : endpoint) = ++serial;
      d.write(file, route, endpoint);
      const auto t = Clock::now();
      if (!arrivals.wait(type, nodes)) return -1.0;
      const double took = ms_since(t);
      translated.push_back(double((*control)->server().counters().translate_us) / 1e3);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // at rest again
      return took;
    };
    std::vector<double> routes, endpoints;
    for (size_t i = 0; i < edits; i++) {
      if (const double t = edit(3, i, one, 1); t >= 0) routes.push_back(t);
    }
    row("route edit to delivery", percentiles(routes));
    for (size_t i = 0; i < edits; i++)
      if (const double t = edit(1, i, one, 1); t >= 0) endpoints.push_back(t);
    row("endpoint edit to delivery", percentiles(endpoints));
    row("  of which translation", percentiles(translated));
    row("memory (VmHWM, one node)", std::to_string(status_kb("VmHWM:") / 1024) + " MB");
    if (many > 0) {
      Arrivals all;
      malloc_trim(0);
      const long before = status_kb("VmRSS:");
      const auto connecting = Clock::now();
      std::vector<std::unique_ptr<Node>> nodes;
      for (size_t i = 0; i < many; i++) nodes.push_back(std::make_unique<Node>(socket, i + 1, services, all));
      bool good = true;
      for (int t = 0; t < kTypes; t++) good &= all.wait(t, many, 300);
      row(std::to_string(many) + " nodes connect, all served", good ? ms_text(ms_since(connecting)) : "not within 300 s");
      malloc_trim(0);
      row("  memory a node (its client too)", std::to_string((status_kb("VmRSS:") - before) / long(many)) + " kB");
      std::vector<double> last;
      for (size_t i = 0; good && i < std::max<size_t>(edits / 5, 3); i++)
        if (const double t = edit(3, i + 1000, all, many); t >= 0) last.push_back(t);
      row("route edit to the last of " + std::to_string(many), percentiles(last));
      row("  of which translation", percentiles({translated.end() - long(last.size()), translated.end()}));
      last.clear();
      for (size_t i = 0; good && i < std::max<size_t>(edits / 5, 3); i++)
        if (const double t = edit(1, i + 2000, all, many); t >= 0) last.push_back(t);
      row("endpoint edit to the last of " + std::to_string(many), percentiles(last));
      row("  of which translation", percentiles({translated.end() - long(last.size()), translated.end()}));
    }
    poller.request_stop();
    poller.join();
    node.reset();
  }
  std::filesystem::remove_all(d.dir);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<size_t> services = {1000, 10'000};
  size_t many = 1000, edits = 50;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    const size_t value = std::strtoul(argv[i + 1], nullptr, 10);
    if (option == "--services") services = {value};
    else if (option == "--nodes") many = value;
    else if (option == "--edits") edits = value;
    else return std::fprintf(stderr, "control_bench [--services N] [--nodes N] [--edits N]\n"), 2;
  }
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  std::printf("%s; %ld cores; commit %s; load %s\n", first_line("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1").c_str(),
              sysconf(_SC_NPROCESSORS_ONLN), first_line("git rev-parse --short HEAD 2>/dev/null").c_str(),
              first_line("cut -d' ' -f1-3 /proc/loadavg").c_str());
  std::fflush(stdout);
  // Each size in a process of its own: VmHWM is of a process.
  if (services.size() == 1) return run(services[0], many, edits);
  for (const size_t n : services) {
    const std::string command = std::string(argv[0]) + " --services " + std::to_string(n) + " --nodes " + std::to_string(many) +
                                " --edits " + std::to_string(edits);
    if (std::system((command + " | tail -n +2").c_str()) != 0) return 1;
  }
  return 0;
}
