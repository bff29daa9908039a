// No mbufs and no streams here: the client's memory BIOs stand against ServerHandshake, Sealer and Opener directly, which is exactly what a
// change of OpenSSL or ipsec-mb could break.
#include "tls-offload/self_test.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls-offload/handshake.h"
#include "tls-offload/record.h"

namespace sluice::tls {
namespace {

using Error = std::unexpected<std::string>;

std::string text_of(BIO* bio) {
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio, &p);
  return n > 0 ? std::string(p, size_t(n)) : std::string();
}

// A throw-away self-signed P-256 certificate.
CertificatePem throw_away_certificate() {
  X509Ptr x(X509_new());
  KeyPtr key(EVP_EC_gen("P-256"));
  BioPtr pem(BIO_new(BIO_s_mem())), key_pem(BIO_new(BIO_s_mem()));
  if (x == nullptr || key == nullptr || pem == nullptr || key_pem == nullptr) return {};
  X509_set_version(x.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(x.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x.get()), 3600);
  X509_set_pubkey(x.get(), key.get());
  X509_NAME* name = X509_get_subject_name(x.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("self-test"), -1, -1, 0);
  X509_set_issuer_name(x.get(), name);
  X509_sign(x.get(), key.get(), EVP_sha256());
  PEM_write_bio_X509(pem.get(), x.get());
  PEM_write_bio_PKCS8PrivateKey(key_pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(pem.get()), text_of(key_pem.get())};
}

// The libssl client and our end, joined by strings.
struct Pair {
  SslContextPtr context;
  SslPtr client;
  BIO *to_client = nullptr, *from_client = nullptr;
  SessionKeys keys;
  Sealer tx;
  Opener rx;

  std::string taken() {
    std::string all;
    char buf[4096];
    for (int n; (n = BIO_read(from_client, buf, sizeof buf)) > 0;) all.append(buf, size_t(n));
    return all;
  }

  bool handshake(std::shared_ptr<const ServerPolicy> policy, int version, const char* suite, const Now& now) {
    context.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_min_proto_version(context.get(), version);
    SSL_CTX_set_max_proto_version(context.get(), version);
    if ((version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites : SSL_CTX_set_cipher_list)(context.get(), suite) != 1) return false;
    client.reset(SSL_new(context.get()));
    if (client == nullptr) return false;
    SSL_set_bio(client.get(), to_client = BIO_new(BIO_s_mem()), from_client = BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client.get());
    ServerHandshake server(std::move(policy));
    for (int turn = 0; turn < 6; turn++) {
      SSL_do_handshake(client.get());
      const std::string in = taken();
      HandshakeAnswer answer;
      server.step(as_bytes(in), now, answer);
      BIO_write(to_client, answer.send.data(), int(answer.send.size()));
      if (answer.kind == HandshakeAnswer::Kind::kFailed) return false;
      if (answer.kind != HandshakeAnswer::Kind::kDone) continue;
      keys = answer.keys;
      SSL_do_handshake(client.get());
      return SSL_is_init_finished(client.get()) == 1 && install_tx() && install_rx();
    }
    return false;
  }
  bool install_tx() { return tx.install(keys.tls13, keys.suite, keys.tx, AeadKey::best(keys.suite)); }
  bool install_rx() { return rx.install(keys.tls13, keys.suite, keys.rx, AeadKey::best(keys.suite)); }

  bool send(ContentType type, std::string_view text) {
    std::vector<uint8_t> record(tx.overhead() + text.size());
    std::memcpy(record.data() + tx.header_bytes(), text.data(), text.size());
    return tx.seal(type, record.data(), uint32_t(text.size())) &&
           BIO_write(to_client, record.data(), int(record.size())) == int(record.size());
  }
  bool client_reads(std::string_view text) {
    char buf[256];
    const int n = SSL_read(client.get(), buf, sizeof buf);
    return n == int(text.size()) && std::string_view(buf, size_t(n)) == text;
  }
  // The next record of the client, opened; the text is cut off the inner type in TLS 1.3.
  bool receive(ContentType type, std::string_view text) { return receive(taken(), type, text); }
  bool receive(const std::string& record, ContentType type, std::string_view text) {
    std::vector<uint8_t> room(512);
    const Opener::Result r = rx.feed(as_bytes(record), room);
    if (r.status != Opener::Status::kRecord || r.taken != record.size()) return false;
    std::string_view got = as_text(Bytes(room).first(r.written));
    uint8_t seen = rx.outer_type();
    if (keys.tls13) {
      if (got.empty()) return false;
      seen = uint8_t(got.back());
      got.remove_suffix(1);
    }
    return seen == uint8_t(type) && got == text;
  }
};

// What did not work, or nullptr.
const char* try_suite(std::shared_ptr<const ServerPolicy> policy, int version, const char* suite, const Now& now) {
  Pair p;
  if (!p.handshake(std::move(policy), version, suite, now)) return "handshake";
  auto both_ways = [&](std::string_view text) {
    return p.send(ContentType::kApplicationData, text) && p.client_reads(text) &&
           SSL_write(p.client.get(), text.data(), int(text.size())) == int(text.size()) && p.receive(ContentType::kApplicationData, text);
  };
  for (const char* text : {"a", "the first records", "and some more"})
    if (!both_ways(text)) return "records";
  if (p.keys.tls13) {
    constexpr std::string_view kUpdate("\x18\0\0\1\0", 5);
    SSL_key_update(p.client.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_do_handshake(p.client.get());
    if (!p.receive(ContentType::kHandshake, kUpdate) || !next_secret(p.keys.suite, p.keys.hash, p.keys.rx) || !p.install_rx())
      return "key update of the client";
    if (!p.send(ContentType::kHandshake, kUpdate) || !next_secret(p.keys.suite, p.keys.hash, p.keys.tx) || !p.install_tx())
      return "key update of the server";
    if (!both_ways("after the updates")) return "records after key updates";
  }
  if (!p.send(ContentType::kAlert, std::string_view("\1\0", 2))) return "close_notify";
  char none;
  const int n = SSL_read(p.client.get(), &none, 1);
  if (SSL_get_error(p.client.get(), n) != SSL_ERROR_ZERO_RETURN) return "close_notify";
  SSL_write(p.client.get(), "forged", 6);
  std::string record = p.taken();
  if (record.size() < 20) return "half close";
  record.back() ^= 1;
  if (p.receive(record, ContentType::kApplicationData, "forged") || p.rx.failure().alert != Alert::kBadRecordMac)
    return "a forged record was taken";
  return nullptr;
}

}  // namespace

std::expected<void, std::string> self_test(const Now& now) {
  struct Row {
    int version;
    const char* suite;
  };
  constexpr Row rows[] = {{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},        {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
                          {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},  {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
                          {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"}, {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"}};
  const auto policy = ServerPolicy::make({.certificates = {throw_away_certificate()}});
  if (!policy) return Error("TLS self-test: " + policy.error());
  for (const Row& row : rows) {
    ERR_clear_error();
    if (const char* failed = try_suite(*policy, row.version, row.suite, now))
      return Error(std::string("TLS self-test: ") + row.suite + ": " + failed + " (" + take_openssl_errors() + "); " + engines() +
                   ": a version this build was not made for? TLS listeners stay shut");
    ERR_clear_error();
  }
  return {};
}

std::string engines() {
  return "AES-GCM: " + AeadKey::engine_name(Suite::kAes128Gcm) + ", ChaCha20-Poly1305: " + AeadKey::engine_name(Suite::kChaCha20Poly1305);
}

}  // namespace sluice::tls
