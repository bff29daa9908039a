// One poll() loop: the listener (while there is room), a wake-up for stop, and the connections. A connection reads its head, gets its
// answer, is written out and closed; a deadline ends what dawdles.
#include "ctrl/admin/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "dataplane/base/address.h"
#include "dataplane/base/check.h"

namespace sluice::admin {
namespace {

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

const char* phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

std::string render(const HttpResponse& r) {
  std::string out = "HTTP/1.1 " + std::to_string(r.status) + " " + phrase(r.status) + "\r\ncontent-type: " + r.content_type +
                    "\r\ncontent-length: " + std::to_string(r.body.size()) + "\r\nconnection: close\r\ncache-control: no-cache\r\n";
  for (const auto& [name, value] : r.headers) out += name + ": " + value + "\r\n";
  return out + "\r\n" + r.body;
}

bool is_token(std::string_view s) {
  return !s.empty() &&
         std::ranges::all_of(s, [](char c) { return c >= '!' && c <= '~' && c != '"' && c != '(' && c != ')' && c != ',' && c != ':'; });
}

std::string decoded(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size(); i++) {
    uint8_t byte = 0;
    if (s[i] == '%' && i + 2 < s.size() && std::from_chars(s.data() + i + 1, s.data() + i + 3, byte, 16).ptr == s.data() + i + 3) {
      out += char(byte);
      i += 2;
    } else {
      out += s[i] == '+' ? ' ' : s[i];
    }
  }
  return out;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return (x | 0x20) == (y | 0x20); });
}

std::expected<sockaddr_un, std::string> unix_address(const std::string& path) {
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof a.sun_path) return std::unexpected("'" + path + "' is no path for a socket (1 to 107 bytes)");
  std::memcpy(a.sun_path, path.data(), path.size());
  return a;
}

}  // namespace

std::expected<HttpRequest, int> parse_request(std::string_view head) {
  const size_t line_end = head.find("\r\n");
  if (line_end == head.npos) return std::unexpected(400);
  const std::string_view line = head.substr(0, line_end);
  const size_t a = line.find(' '), b = line.rfind(' ');
  if (a == line.npos || b <= a || line.substr(b + 1).substr(0, 7) != "HTTP/1.") return std::unexpected(400);
  const std::string_view target = line.substr(a + 1, b - a - 1);
  if (!is_token(line.substr(0, a)) || !target.starts_with('/') || std::ranges::any_of(target, [](char c) { return c <= ' ' || c == 0x7f; }))
    return std::unexpected(400);
  for (size_t at = line_end + 2; at < head.size();) {
    const size_t end = head.find("\r\n", at);
    const std::string_view field = head.substr(at, end - at);
    if (field.empty()) break;
    const size_t colon = field.find(':');
    if (colon == field.npos || !is_token(field.substr(0, colon))) return std::unexpected(400);
    std::string_view value = field.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    if (equal_ignoring_case(field.substr(0, colon), "transfer-encoding")) return std::unexpected(413);
    if (equal_ignoring_case(field.substr(0, colon), "content-length") && value != "0") return std::unexpected(413);
    at = end == head.npos ? head.size() : end + 2;
  }
  HttpRequest r{.method = std::string(line.substr(0, a))};
  const size_t question = target.find('?');
  r.path = decoded(target.substr(0, question));
  std::string_view query = question == target.npos ? std::string_view{} : target.substr(question + 1);
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    const size_t equals = pair.find('=');
    r.query[decoded(pair.substr(0, equals))] = equals == pair.npos ? "" : decoded(pair.substr(equals + 1));
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
  }
  return r;
}

std::string encoded(std::string_view value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
        std::string_view("-._~").find(c) != std::string_view::npos)
      out += c;
    else ((out += '%') += kHex[uint8_t(c) >> 4]) += kHex[c & 15];
  }
  return out;
}

Server::~Server() {
  if (thread_.joinable()) {
    stop_ = true;
    const uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof one);
    thread_.join();
  }
  for (const Connection& c : connections_) ::close(c.fd);
  if (wake_fd_ >= 0) ::close(wake_fd_);
  if (listen_fd_ >= 0) ::close(listen_fd_);
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
}

void Server::route(std::string method, std::string path, Handler handler) {
  SLUICE_ASSERT(!thread_.joinable());
  routes_[std::move(path)][std::move(method)] = std::move(handler);
}

std::expected<void, std::string> Server::listen_unix(const std::string& path) {
  SLUICE_ASSERT(listen_fd_ < 0);
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  const auto* a = reinterpret_cast<const sockaddr*>(&*address);
  if (auto alive = ask_unix(path, "GET", "/"); alive)
    return std::unexpected("admin socket '" + path + "' is in use by another process; give another admin.socket");
  struct stat st;
  if (::lstat(path.c_str(), &st) == 0) {
    if (!S_ISSOCK(st.st_mode)) return std::unexpected("admin socket '" + path + "' exists and is no socket; give another admin.socket");
    ::unlink(path.c_str());
  }
  listen_fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const mode_t old = ::umask(0177);
  const bool ok = listen_fd_ >= 0 && ::bind(listen_fd_, a, sizeof *address) == 0 && ::listen(listen_fd_, 16) == 0;
  const int e = errno;
  ::umask(old);
  if (!ok) return std::unexpected("admin socket '" + path + "': " + std::strerror(e) + (e == ENOENT ? "; make its folder" : ""));
  unix_path_ = path;
  is_unix_ = true;
  return {};
}

std::expected<uint16_t, std::string> Server::listen_loopback(const std::string& address) {
  SLUICE_ASSERT(listen_fd_ < 0);
  const size_t colon = address.rfind(':');
  const auto ip = colon == address.npos ? std::nullopt : IpAddress::parse(address.substr(0, colon));
  uint16_t port = 0;
  if (!ip || !ip->is_v4() || ip->v4().v >> 24 != 127 ||
      std::from_chars(address.data() + colon + 1, address.data() + address.size(), port).ptr != address.data() + address.size())
    return std::unexpected("'" + address + "' is no loopback address with a port, such as 127.0.0.1:15090");
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(ip->v4().v);
  listen_fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  socklen_t length = sizeof a;
  ::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listen_fd_ < 0 || ::bind(listen_fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || ::listen(listen_fd_, 16) != 0 ||
      ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&a), &length) != 0)
    return std::unexpected("stats address " + address + ": " + std::strerror(errno) + "; give another stats.address");
  return ntohs(a.sin_port);
}

void Server::start() {
  SLUICE_ASSERT(listen_fd_ >= 0 && !thread_.joinable());
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  SLUICE_ASSERT(wake_fd_ >= 0);
  thread_ = std::thread([this] { run(); });
}

void Server::run() {
  std::vector<pollfd> fds;
  while (!stop_) {
    fds.assign({{wake_fd_, POLLIN, 0}, {connections_.size() < kConnectionsMax ? listen_fd_ : -1, POLLIN, 0}});
    int64_t next = INT64_MAX;
    for (const Connection& c : connections_) {
      fds.push_back({c.fd, short(c.out.empty() ? POLLIN : POLLOUT), 0});
      next = std::min(next, c.deadline_ms);
    }
    const int timeout = next == INT64_MAX ? -1 : int(std::max<int64_t>(next - now_ms(), 0));
    if (::poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) return;
    for (size_t i = connections_.size(); i-- > 0;) {
      Connection& c = connections_[i];
      const short events = fds[i + 2].revents;
      if (events == 0 ? now_ms() < c.deadline_ms : serve(c, events)) continue;
      ::close(c.fd);
      connections_.erase(connections_.begin() + long(i));
    }
    if (fds[1].revents != 0) accept_one();
  }
}

void Server::accept_one() {
  Connection c;
  c.fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (c.fd < 0) return;
  c.deadline_ms = now_ms() + kConnectionTimeoutMs;
  if (is_unix_) {
    ucred peer{};
    socklen_t length = sizeof peer;
    c.allowed = ::getsockopt(c.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == ::geteuid());
  }
  connections_.push_back(std::move(c));
}

bool Server::serve(Connection& c, short events) {
  if (c.out.empty()) {
    char buffer[4096];
    const ssize_t n = ::recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    c.in.append(buffer, size_t(n));
    const size_t end = c.in.find("\r\n\r\n");
    if (end == c.in.npos) {
      if (c.in.size() < kRequestBytesMax) return true;
      c.out = render({.status = 431, .body = "the head of the request is too long\n"});
    } else {
      c.in.resize(end + 4);
      c.out = render(answer(c));
    }
  }
  while (c.sent < c.out.size()) {
    const ssize_t n = ::send(c.fd, c.out.data() + c.sent, c.out.size() - c.sent, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    c.sent += size_t(n);
    c.deadline_ms = now_ms() + kConnectionTimeoutMs;
  }
  ::shutdown(c.fd, SHUT_WR);
  return false;
}

HttpResponse Server::answer(const Connection& c) const {
  if (!c.allowed) return {.status = 403, .body = "only root and the gateway's own user may ask here\n"};
  const auto request = parse_request(c.in);
  if (!request)
    return {.status = request.error(), .body = request.error() == 413 ? "requests here have no body\n" : "not an HTTP/1.1 request\n"};
  const auto path = routes_.find(request->path);
  if (path == routes_.end()) {
    std::string known;
    for (const auto& [p, handlers] : routes_)
      for (const auto& [method, handler] : handlers) known += method + " " + p + "\n";
    return {.status = request->path == "/" && request->method == "GET" ? 200 : 404, .body = known};
  }
  const auto handler = path->second.find(request->method);
  if (handler == path->second.end())
    return {.status = 405, .body = "use " + path->second.begin()->first + "\n", .headers = {{"allow", path->second.begin()->first}}};
  return handler->second(*request);
}

std::expected<HttpResponse, std::string> ask_unix(const std::string& socket, const std::string& method, const std::string& target) {
  const auto address = unix_address(socket);
  if (!address) return std::unexpected(address.error());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit{.tv_sec = 30, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    const int e = errno;
    if (fd >= 0) ::close(fd);
    return std::unexpected(
        "no gateway answers at '" + socket + "': " + std::strerror(e) +
        (e == EACCES ? "; run as root or as the gateway's user" : "; is it running? give its admin.socket with --socket"));
  }
  const std::string request = method + " " + target + " HTTP/1.1\r\nhost: sluice\r\n\r\n";
  std::string in;
  char buffer[1 << 16];
  ssize_t n = ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  while (n > 0 && (n = ::recv(fd, buffer, sizeof buffer, 0)) > 0) in.append(buffer, size_t(n));
  ::close(fd);
  const size_t head_end = in.find("\r\n\r\n");
  HttpResponse r;
  if (n < 0 || !in.starts_with("HTTP/1.1 ") || head_end == in.npos ||
      std::from_chars(in.data() + 9, in.data() + 12, r.status).ec != std::errc{})
    return std::unexpected("what answers at '" + socket + "' is no gateway");
  for (size_t at = in.find("\r\n") + 2; at < head_end;) {
    const size_t end = std::min(in.find("\r\n", at), head_end), colon = in.find(": ", at);
    if (colon < end) r.headers[in.substr(at, colon - at)] = in.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  r.body = in.substr(head_end + 4);
  return r;
}

}  // namespace sluice::admin
