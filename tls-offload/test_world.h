// What the layer's tests stand on: a stream layer in memory (fake_lower.h), a stock libssl client over memory BIOs (Client), and a World
// that joins the two through tls::Layer and turns the crank.
#pragma once
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <functional>
#include <string>

#include "dataplane/packet/pool.h"
#include "tls-offload/fake_lower.h"
#include "tls-offload/layer.h"
#include "tls-offload/test_pki.h"

namespace sluice::tls::test {

struct ClientOptions {
  int version = TLS1_3_VERSION;
  const char* suite = nullptr;
  const Issued* certificate = nullptr;
  std::string sni, alpn_wire;
  std::string groups;
  uint8_t max_fragment = 0;  // TLSEXT_max_fragment_length_...
};

class Client {
 public:
  explicit Client(const ClientOptions& o) {
    ctx_.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_min_proto_version(ctx_.get(), o.version);
    SSL_CTX_set_max_proto_version(ctx_.get(), o.version);
    if (o.suite != nullptr) {
      if (o.version == TLS1_3_VERSION) SSL_CTX_set_ciphersuites(ctx_.get(), o.suite);
      else SSL_CTX_set_cipher_list(ctx_.get(), o.suite);
    }
    if (!o.groups.empty()) SSL_CTX_set1_groups_list(ctx_.get(), o.groups.c_str());
    if (o.max_fragment != 0) SSL_CTX_set_tlsext_max_fragment_length(ctx_.get(), o.max_fragment);
    if (o.certificate != nullptr) {
      SSL_CTX_use_certificate(ctx_.get(), o.certificate->certificate.get());
      SSL_CTX_use_PrivateKey(ctx_.get(), o.certificate->key.get());
    }
    ssl.reset(SSL_new(ctx_.get()));
    if (!o.sni.empty()) SSL_set_tlsext_host_name(ssl.get(), o.sni.c_str());
    if (!o.alpn_wire.empty())
      SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(o.alpn_wire.data()), unsigned(o.alpn_wire.size()));
    SSL_set_bio(ssl.get(), in_ = BIO_new(BIO_s_mem()), out_ = BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl.get());
  }
  void give(std::string_view bytes) { BIO_write(in_, bytes.data(), int(bytes.size())); }
  std::string take() {
    std::string all;
    char buf[8192];
    for (int n; (n = BIO_read(out_, buf, sizeof buf)) > 0;) all.append(buf, size_t(n));
    return all;
  }
  // Reads what is there; alerts and errors are kept.
  void turn() {
    ERR_clear_error();
    char buf[20000];
    for (int n;;) {
      n = SSL_read(ssl.get(), buf, sizeof buf);
      if (n > 0) {
        received.append(buf, size_t(n));
        continue;
      }
      const int e = SSL_get_error(ssl.get(), n);
      if (e == SSL_ERROR_ZERO_RETURN) closed = true;
      else if (e != SSL_ERROR_WANT_READ && error.empty()) error = take_openssl_errors();
      return;
    }
  }
  bool open() const { return SSL_is_init_finished(ssl.get()); }
  void write(std::string_view s) { ASSERT_EQ(SSL_write(ssl.get(), s.data(), int(s.size())), int(s.size())); }

  SslPtr ssl;
  std::string received, error;
  bool closed = false;

 private:
  SslContextPtr ctx_;
  BIO *in_ = nullptr, *out_ = nullptr;
};

inline MbufPool& test_pool() {
  static auto* const pool = new MbufPool(*MbufPool::create("tls_test", 8192, 6000, SOCKET_ID_ANY));  // EAL is gone before statics go
  return *pool;
}

struct World {
  explicit World(std::shared_ptr<const ServerPolicy> p, const ClientOptions& c = {}, const LayerConfig& config = {.sessions_max = 64})
      : policy(std::move(p)), lower(test_pool()), layer(lower, test_pool(), handshakes, drops, config, now), client(c) {}
  ~World() {
    if (id) layer.abort(id);
  }
  void accept() {
    below = lower.open();
    client.turn();
    lower.arrive(below, client.take(), piece);
    id = layer.accept(below, policy, now);
    ASSERT_TRUE(bool(id));
    layer.set_cookie(id, 77);
  }
  void events() {
    ReadyStream ready[8];
    for (unsigned n; (n = lower.poll_events(ready)) > 0;)
      for (unsigned i = 0; i < n; i++) layer.on_lower(ready[i], now);
    layer.poll_handshakes(now);
    for (unsigned n; (n = layer.poll_events(ready)) > 0;)
      for (unsigned i = 0; i < n; i++) {
        if (!(ready[i].id == id)) continue;
        seen |= ready[i].events;
        EXPECT_EQ(ready[i].cookie, 77u);
      }
    if (auto_read) read();
  }
  void read() {
    for (;;) {
      const ReadView v = layer.readable(id);
      if (v.bytes == 0) return;
      for (unsigned i = 0; i < v.count; i++) received += as_text(v.span[i]);
      layer.consume(id, v.bytes);
    }
  }
  // Until nothing moves.
  void crank() {
    for (int quiet = 0; quiet < 2;) {
      const std::string from_client = client.take();
      lower.arrive(below, from_client, piece);
      events();
      std::string from_us = lower.take(below);
      for (std::string_view rest = from_us; !rest.empty(); rest.remove_prefix(std::min<size_t>(rest.size(), 4096))) {
        client.give(rest.substr(0, 4096));
        client.turn();
      }
      client.turn();
      quiet = from_client.empty() && from_us.empty() ? quiet + 1 : 0;
    }
  }
  void send(std::string_view text) {
    for (int stuck = 0; !text.empty();) {
      const uint32_t n = std::min<uint32_t>({layer.budget(id), uint32_t(text.size()), 64 * 1024});
      if (n == 0) {
        ASSERT_LT(++stuck, 10) << layer.error_text(id);
        crank();
        continue;
      }
      stuck = 0;
      Chain chain;
      ASSERT_TRUE(test_pool().append_copy(chain, as_bytes(text.substr(0, n)), layer.segment_bytes(id)));
      layer.send(id, std::move(chain));
      text.remove_prefix(n);
    }
  }
  void open() {
    accept();
    crank();
    ASSERT_TRUE(client.open()) << client.error << " / " << layer.error_text(id);
    ASSERT_TRUE(seen & kOpened) << layer.error_text(id);
  }

  Now now{1'000'000, int64_t(time(nullptr)) * 1'000'000};
  std::shared_ptr<const ServerPolicy> policy;
  DropCounters drops;
  FakeLower lower;
  InlineHandshakes handshakes;
  Layer layer;
  Client client;
  StreamId below, id;
  uint32_t piece = 1448;
  uint8_t seen = 0;
  bool auto_read = true;
  std::string received;
};

}  // namespace sluice::tls::test
