// How the keys come out, by public API only. TLS 1.3: the key-log callback gives CLIENT_ and SERVER_TRAFFIC_SECRET_0; both sequence numbers
// are 0 plus the records libssl sealed under them (none: tickets are off; counted all the same). TLS 1.2: the master secret and the
// randoms; both sequence numbers are 1, since each Finished was record 0, and our explicit nonce goes on from the one in libssl's Finished.
//
// Our BIO hands out at most what libssl asks for, and libssl asks for one record at a time (read_ahead is off), so `consumed` ends exactly
// behind the last handshake record: what follows is application data and stays in TCP.
#include "tls-offload/handshake.h"

#include <openssl/err.h>

#include <algorithm>

#include "tls-offload/identity.h"
#include "tls-offload/record.h"

namespace sluice::tls {
namespace {

int bio_write(BIO* bio, const char* data, size_t n, size_t* written) {
  auto* io = static_cast<ServerHandshake::Io*>(BIO_get_data(bio));
  if (io->out == nullptr) return 0;
  io->out->insert(io->out->end(), data, data + n);
  *written = n;
  return 1;
}
int bio_read(BIO* bio, char* out, size_t n, size_t* read) {
  auto* io = static_cast<ServerHandshake::Io*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *read = std::min(n, io->in.size() - io->at);
  if (*read == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  std::memcpy(out, io->in.data() + io->at, *read);
  io->at += *read;
  return 1;
}
long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

const BIO_METHOD* bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice handshake");
    SLUICE_ASSERT(m != nullptr);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_ctrl(m, bio_control);
    return m;
  }();
  return method;
}

ServerHandshake* owner_of(const SSL* ssl) { return static_cast<ServerHandshake*>(SSL_get_ex_data(ssl, ssl_owner_index())); }

int nibble(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Calls f(type, record) for each whole record.
template <class F>
void for_each_record(Bytes b, F&& f) {
  while (b.size() >= kRecordHeaderBytes) {
    const size_t n = kRecordHeaderBytes + (size_t(b[3]) << 8 | b[4]);
    if (b.size() < n) return;
    f(b[0], b.first(n));
    b = b.subspan(n);
  }
}

}  // namespace

int ssl_owner_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// "LABEL <client random> <secret>", both in hex.
void on_key_log(const SSL* ssl, const char* line) {
  ServerHandshake* h = owner_of(ssl);
  const std::string_view text(line);
  const bool client = text.starts_with("CLIENT_TRAFFIC_SECRET_0 "), server = text.starts_with("SERVER_TRAFFIC_SECRET_0 ");
  if (h == nullptr || (!client && !server)) return;
  const std::string_view hex = text.substr(text.rfind(' ') + 1);
  auto& secret = client ? h->client_secret_ : h->server_secret_;
  h->secret_bytes_ = uint32_t(std::min(hex.size() / 2, secret.size()));
  for (size_t i = 0; i < h->secret_bytes_; i++) secret[i] = uint8_t(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
}

int on_verify(X509_STORE_CTX* ctx, void*) {
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx()));
  ServerHandshake* h = ssl == nullptr ? nullptr : owner_of(ssl);
  if (h == nullptr) return 0;
  if (h->wall_us_ != 0) X509_STORE_CTX_set_time(ctx, 0, time_t(h->wall_us_ / 1'000'000));
  if (X509_verify_cert(ctx) != 1) {
    if (X509_STORE_CTX_get_error(ctx) == X509_V_OK) X509_STORE_CTX_set_error(ctx, X509_V_ERR_UNSPECIFIED);
    h->refusal_ = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    return 0;
  }
  h->refusal_ = refuse_peer(X509_STORE_CTX_get0_cert(ctx), h->policy_->state());
  if (h->refusal_.empty()) return 1;
  // An error without an alert of its own in libssl's table: it sends certificate_unknown, as Envoy does.
  X509_STORE_CTX_set_error(ctx, X509_V_ERR_PERMITTED_VIOLATION);
  return 0;
}

ServerHandshake::ServerHandshake(std::shared_ptr<const ServerPolicy> policy) : policy_(std::move(policy)) {
  ERR_clear_error();
  ssl_.reset(SSL_new(policy_->state().context.get()));
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(bio_method());
  if (bio == nullptr || SSL_set_ex_data(ssl_.get(), ssl_owner_index(), this) != 1) {
    BIO_free(bio);
    ssl_.reset();
    return;
  }
  BIO_set_data(bio, &io_);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_accept_state(ssl_.get());
}

ServerHandshake::~ServerHandshake() {
  wipe(client_secret_.data(), client_secret_.size());
  wipe(server_secret_.data(), server_secret_.size());
}

void ServerHandshake::fail(HandshakeAnswer& answer, std::string error) {
  answer.kind = HandshakeAnswer::Kind::kFailed;
  answer.error = std::move(error);
  ssl_.reset();
}

void ServerHandshake::step(Bytes in, const Now& now, HandshakeAnswer& answer) {
  if (ssl_ == nullptr) return fail(answer, "TLS_error: OpenSSL has no memory");
  bytes_in_ += in.size();
  if (bytes_in_ > kHandshakeBytesMax)
    return fail(answer, "TLS_error: handshake longer than " + std::to_string(kHandshakeBytesMax) + " bytes");
  wall_us_ = now.wall_us;
  io_ = {in, 0, &answer.send};
  ERR_clear_error();  // a stale entry would turn "want read" into an error
  const int result = SSL_do_handshake(ssl_.get());
  const int error = SSL_get_error(ssl_.get(), result);
  answer.consumed = uint32_t(io_.at);
  if (result == 1) finish(answer);
  else if (error == SSL_ERROR_WANT_READ) answer.kind = HandshakeAnswer::Kind::kMore;
  else {
    std::string text = "TLS_error:|" + take_openssl_errors();
    if (!refusal_.empty()) text += ": " + refusal_;
    fail(answer, text + ":TLS_error_end");
  }
  io_ = {};
}

void ServerHandshake::finish(HandshakeAnswer& answer) {
  const X509* presented = SSL_get0_peer_certificate(ssl_.get());
  // libssl guarantees this; a certificate that was seen but not verified must never become an identity.
  if ((presented != nullptr && SSL_get_verify_result(ssl_.get()) != X509_V_OK) ||
      (presented == nullptr && policy_->client_cert() == ClientCert::kRequired))
    return fail(answer, "TLS_error: client certificate not verified");
  answer.peer = describe();
  if (answer.peer == nullptr || !extract_keys(answer, answer.keys)) return fail(answer, "TLS_error: keys or peer could not be read");
  answer.kind = HandshakeAnswer::Kind::kDone;
  ssl_.reset();  // it can never seal again
}

bool ServerHandshake::extract_keys(const HandshakeAnswer& answer, SessionKeys& k) {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_.get());
  k.tls13 = SSL_version(ssl_.get()) == TLS1_3_VERSION;
  switch (SSL_CIPHER_get_cipher_nid(cipher)) {
    case NID_aes_128_gcm: k.suite = Suite::kAes128Gcm; break;
    case NID_aes_256_gcm: k.suite = Suite::kAes256Gcm; break;
    case NID_chacha20_poly1305: k.suite = Suite::kChaCha20Poly1305; break;
    default: return false;
  }
  const EVP_MD* md = SSL_CIPHER_get_handshake_digest(cipher);
  k.hash = EVP_MD_get_size(md) == 48 ? Hash::kSha384 : Hash::kSha256;
  if (k.tls13) {
    if (secret_bytes_ != hash_bytes(k.hash)) return false;
    k.rx.secret = client_secret_;
    k.tx.secret = server_secret_;
    if (!expand_secret(k.suite, k.hash, k.rx) || !expand_secret(k.suite, k.hash, k.tx)) return false;
    for_each_record(answer.send, [&](uint8_t type, Bytes) { k.tx.sequence += type == uint8_t(ContentType::kApplicationData); });
    return true;
  }
  uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], client[SSL3_RANDOM_SIZE], server[SSL3_RANDOM_SIZE];
  const size_t n = SSL_SESSION_get_master_key(SSL_get_session(ssl_.get()), master, sizeof master);
  const bool ok = n > 0 && SSL_get_client_random(ssl_.get(), client, sizeof client) == sizeof client &&
                  SSL_get_server_random(ssl_.get(), server, sizeof server) == sizeof server &&
                  expand_master_secret({master, n}, client, server, k);
  wipe(master, sizeof master);
  k.rx.sequence = k.tx.sequence = 1;
  bool finished_seen = false;
  for_each_record(answer.send, [&](uint8_t type, Bytes record) {
    if (type != uint8_t(ContentType::kHandshake) || record.size() < kRecordHeaderBytes + kExplicitNonceBytes) return;
    Be<uint64_t> nonce;
    std::memcpy(&nonce, record.data() + kRecordHeaderBytes, sizeof nonce);
    k.tx.explicit_nonce = nonce + 1;
    finished_seen = true;
  });
  return ok && finished_seen;
}

std::unique_ptr<PeerInfo> ServerHandshake::describe() {
  auto peer = std::make_unique<PeerInfo>();
  SSL* ssl = ssl_.get();
  if (const char* sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) peer->sni = sni;
  for (char& c : peer->sni) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
  const unsigned char* alpn = nullptr;
  unsigned alpn_bytes = 0;
  SSL_get0_alpn_selected(ssl, &alpn, &alpn_bytes);
  if (alpn_bytes > 0) peer->alpn.assign(reinterpret_cast<const char*>(alpn), alpn_bytes);
  peer->version = SSL_get_version(ssl);
  peer->cipher = SSL_get_cipher_name(ssl);
  if (const X509* ours = SSL_get_certificate(ssl))
    for (const Certificate& c : policy_->state().certificates)
      if (X509_cmp(c.leaf.get(), ours) == 0) peer->local_uri_san = c.uri_san;
  X509* leaf = SSL_get0_peer_certificate(ssl);
  if (leaf == nullptr) return peer;
  // libssl's chain on a server is without the leaf.
  X509StackPtr chain(sk_X509_new_null());
  X509_up_ref(leaf);
  sk_X509_push(chain.get(), leaf);
  STACK_OF(X509)* rest = SSL_get_peer_cert_chain(ssl);
  for (int i = 0; i < sk_X509_num(rest); i++) {
    X509_up_ref(sk_X509_value(rest, i));
    sk_X509_push(chain.get(), sk_X509_value(rest, i));
  }
  if (!describe_peer(leaf, chain.get(), *peer)) return nullptr;
  STACK_OF(X509)* verified = SSL_get0_verified_chain(ssl);
  if (sk_X509_num(verified) > 0) peer->trust_anchor = anchor_of(sk_X509_value(verified, sk_X509_num(verified) - 1));
  return peer;
}

// ---- InlineHandshakes

struct InlineHandshakes::State {
  struct Slot {
    uint32_t generation = 0;
    uint64_t cookie = 0;
    std::unique_ptr<ServerHandshake> handshake;
  };
  std::vector<Slot> slots;
  std::vector<std::pair<HandshakeId, HandshakeAnswer>> answers;  // of ended ones: skipped
  Slot* get(HandshakeId id) {
    if (id.index >= slots.size() || slots[id.index].generation != id.generation) return nullptr;
    return slots[id.index].handshake == nullptr ? nullptr : &slots[id.index];
  }
};

InlineHandshakes::InlineHandshakes(uint32_t handshakes_max) : s_(std::make_unique<State>()) { s_->slots.resize(handshakes_max); }
InlineHandshakes::~InlineHandshakes() = default;

HandshakeId InlineHandshakes::begin(std::shared_ptr<const ServerPolicy> policy, uint64_t cookie) {
  for (uint32_t i = 0; i < s_->slots.size(); i++) {
    State::Slot& slot = s_->slots[i];
    if (slot.handshake != nullptr) continue;
    slot.generation++;
    slot.cookie = cookie;
    slot.handshake = std::make_unique<ServerHandshake>(std::move(policy));
    return {i, slot.generation};
  }
  return {};
}

void InlineHandshakes::step(HandshakeId id, Bytes bytes, const Now& now) {
  State::Slot* slot = s_->get(id);
  if (slot == nullptr) return;
  HandshakeAnswer answer;
  answer.cookie = slot->cookie;
  slot->handshake->step(bytes, now, answer);
  s_->answers.emplace_back(id, std::move(answer));
}

void InlineHandshakes::end(HandshakeId id) {
  if (State::Slot* slot = s_->get(id)) slot->handshake.reset();
}

bool InlineHandshakes::poll(HandshakeAnswer& answer) {
  while (!s_->answers.empty()) {
    auto [id, a] = std::move(s_->answers.front());
    s_->answers.erase(s_->answers.begin());
    if (s_->get(id) == nullptr) continue;
    if (a.kind != HandshakeAnswer::Kind::kMore) end(id);
    answer = std::move(a);
    return true;
  }
  return false;
}

uint32_t InlineHandshakes::in_flight() const {
  uint32_t n = 0;
  for (const auto& slot : s_->slots) n += slot.handshake != nullptr;
  return n;
}

}  // namespace sluice::tls
