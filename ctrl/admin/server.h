// A small HTTP/1.1 server for operators and scrapers, on kernel sockets: a Unix socket with peer credentials (admin), or loopback TCP
// (stats). It is not on the data path and not for the network: one request per connection, no bodies, no keep-alive, answers built whole in
// memory.
//   Server admin; admin.route("GET", "/status", handler); admin.listen_unix("/run/sluice/admin.sock"); admin.start();
// Thread: route and listen_* before start(); handlers run on the server's own thread, one at a time (a handler that needs the control
// thread's state asks it and waits). The destructor ends the thread, closes the sockets and removes the Unix socket's file. Limits:
// kConnectionsMax at once (further ones wait in the kernel), kRequestBytesMax of head, kConnectionTimeoutMs for the whole exchange. Bad
// requests: 400, 404, 405, 413, 431. Unix peers other than root and our own user get 403.
#pragma once
#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace sluice::admin {

constexpr size_t kConnectionsMax = 16;
constexpr size_t kRequestBytesMax = 8 * 1024;
constexpr int kConnectionTimeoutMs = 5'000;

struct HttpRequest {
  std::string method, path;
  std::map<std::string, std::string> query;  // percent-decoded; "?full" is {"full", ""}
};
struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=UTF-8";
  std::string body;
  std::map<std::string, std::string> headers;  // further ones
};
using Handler = std::function<HttpResponse(const HttpRequest&)>;

class Server {
 public:
  Server() = default;
  ~Server();
  Server(const Server&) = delete;

  void route(std::string method, std::string path, Handler handler);
  // The folder must exist; a stale socket file of a dead process is replaced, a living one is an error. Mode 0600.
  std::expected<void, std::string> listen_unix(const std::string& path);
  // "127.0.0.1:15090"; returns the port (port 0 asks for any).
  std::expected<uint16_t, std::string> listen_loopback(const std::string& address);
  void start();

 private:
  struct Connection {
    int fd = -1;
    int64_t deadline_ms = 0;
    bool allowed = true;
    std::string in, out;
    size_t sent = 0;
  };
  void run();
  void accept_one();
  bool serve(Connection& c, short events);  // false: over
  HttpResponse answer(const Connection& c) const;

  std::map<std::string, std::map<std::string, Handler>> routes_;  // path -> method
  std::vector<Connection> connections_;
  int listen_fd_ = -1, wake_fd_ = -1;
  bool is_unix_ = false;
  std::string unix_path_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Parses the head of a request; an int is the status that refuses it.
std::expected<HttpRequest, int> parse_request(std::string_view head);

// A value of a query, percent-encoded.
std::string encoded(std::string_view value);

// The client's half, for sluicectl and tests: one request over a Unix socket. Errors say what to do.
std::expected<HttpResponse, std::string> ask_unix(const std::string& socket, const std::string& method, const std::string& target);

}  // namespace sluice::admin
