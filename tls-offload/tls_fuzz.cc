// Fuzz target: what a peer can send. The first byte chooses:
//   0  a ClientHello peek: the rest, in spans whose lengths come from the second byte. Oracle: the answer does not depend on the spans
//   1  records after a handshake: {kind, length, bytes} actions on a Layer whose keys are known here, so that sealed records reach what
//   lies
//      behind the tag. Oracles: what is shown are the application data of sealed records, in order; what is held is bounded; at the end
//      nobody holds anything
//   2  a handshake: the rest goes to OpenSSL in steps. Oracle: it never completes, and a failure has words
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "tls-offload/client_hello.h"
#include "tls-offload/fake_lower.h"
#include "tls-offload/handshake.h"
#include "tls-offload/layer.h"
#include "tls-offload/record.h"

namespace sluice::tls {
namespace {

using test::FakeLower;
constexpr uint32_t kMbufs = 4096;

void hello(Bytes in) {
  if (in.empty()) return;
  const size_t piece = size_t(in[0]) + 1;
  in = in.subspan(1);
  std::vector<Bytes> spans;
  for (size_t at = 0; at < in.size(); at += piece) spans.push_back(in.subspan(at, std::min(piece, in.size() - at)));
  ClientHello split, whole;
  const HelloStatus a = peek_client_hello(spans, split), b = peek_client_hello({&in, 1}, whole);
  SLUICE_ASSERT(a == b);
  if (a == HelloStatus::kComplete) SLUICE_ASSERT(split.server_name == whole.server_name && split.alpn == whole.alpn);
  SLUICE_ASSERT(split.alpn.size() <= kAlpnMax && split.server_name.find('\0') == std::string::npos);
}

// Answers the first step with the same keys every time.
class KnownKeys final : public Handshakes {
 public:
  HandshakeId begin(std::shared_ptr<const ServerPolicy>, uint64_t cookie) override {
    cookie_ = cookie;
    return {0, 1};
  }
  void step(HandshakeId, Bytes bytes, const Now&) override {
    used_ = uint32_t(bytes.size());
    pending_ = true;
  }
  void end(HandshakeId) override { pending_ = false; }
  bool poll(HandshakeAnswer& a) override {
    if (!pending_) return false;
    pending_ = false;
    a.kind = HandshakeAnswer::Kind::kDone;
    a.cookie = cookie_;
    a.consumed = used_;
    a.keys = keys;
    a.peer = std::make_unique<PeerInfo>();
    return true;
  }
  SessionKeys keys;

 private:
  uint64_t cookie_ = 0;
  uint32_t used_ = 0;
  bool pending_ = false;
};

void records(MbufPool& pool, Bytes input) {
  ByteReader r(input);
  const uint8_t shape = r.u8();
  KnownKeys handshakes;
  handshakes.keys.tls13 = shape & 1;
  handshakes.keys.suite = Suite((shape >> 1) % 3);
  for (size_t i = 0; i < 32; i++) handshakes.keys.rx.secret[i] = handshakes.keys.tx.secret[i] = handshakes.keys.rx.key[i] = uint8_t(i * 7);
  if (handshakes.keys.tls13)
    SLUICE_ASSERT(expand_secret(handshakes.keys.suite, Hash::kSha256, handshakes.keys.rx) &&
                  expand_secret(handshakes.keys.suite, Hash::kSha256, handshakes.keys.tx));
  Sealer peer;
  DirectionKeys peer_keys = handshakes.keys.rx;
  SLUICE_ASSERT(peer.install(handshakes.keys.tls13, handshakes.keys.suite, peer_keys, AeadKey::best(handshakes.keys.suite)));

  FakeLower lower(pool);
  DropCounters drops;
  Now now{kSec, 1};
  Layer layer(lower, pool, handshakes, drops, {.sessions_max = 1, .rekey_records = shape & 0x80 ? 3u : 1u << 23}, now);
  const StreamId below = lower.open();
  lower.arrive(below, "hello", 5);
  const StreamId id = layer.accept(below, nullptr, now);
  layer.poll_handshakes(now);
  SLUICE_ASSERT(bool(id) && layer.peer(id) != nullptr);

  std::string sealed_data, shown;  // what the peer said under its keys; what the owner read
  auto read = [&](uint32_t most) {
    for (ReadView v = layer.readable(id); v.bytes > 0 && most > 0; v = layer.readable(id)) {
      const uint32_t n = std::min(v.bytes, most);
      uint32_t left = n;
      for (unsigned i = 0; i < v.count && left > 0; i++) {
        shown += as_text(v.span[i]).substr(0, left);
        left -= std::min<uint32_t>(left, uint32_t(v.span[i].size()));
      }
      layer.consume(id, n);
      most -= n;
    }
  };
  auto turn = [&] {
    ReadyStream ready[4];
    while (const unsigned n = lower.poll_events(ready))
      for (unsigned i = 0; i < n; i++) layer.on_lower(ready[i], now);
    layer.advance(now);
    while (layer.poll_events(ready) > 0) {
    }
    lower.take(below);
    SLUICE_ASSERT(layer.info(id).bytes_in - shown.size() <= kPlaintextHeldMax + kPlaintextMax);
  };
  auto arrive = [&](std::string_view bytes, uint8_t kind) {
    lower.arrive(below, bytes, std::max<uint32_t>(1 + kind / 8u * 50, uint32_t(bytes.size() / 400)));
  };
  while (r.left() >= 3 && pool.held() < 1500) {
    const uint8_t kind = r.u8();
    const uint32_t length = r.u16();
    const Bytes bytes = r.take(std::min<size_t>(length, r.left()));
    switch (kind & 7) {
      case 0:
      case 1: arrive(as_text(bytes), kind); break;
      case 2:
      case 3:
      case 4: {  // sealed: 2 data, 3 any type, 4 in TLS 1.3 with padding (its type is a zero)
        const auto type = ContentType((kind & 7) == 2 ? 23 : (kind & 7) == 3 ? 20 + kind / 8 : 0);
        const Bytes text = bytes.first(std::min<size_t>(bytes.size(), kPlaintextMax));
        std::vector<uint8_t> record(peer.overhead() + text.size());
        std::copy(text.begin(), text.end(), record.begin() + peer.header_bytes());
        SLUICE_ASSERT(peer.seal(type, record.data(), uint32_t(text.size())));
        if (type == ContentType::kApplicationData) {
          sealed_data += as_text(text);
        } else if ((kind & 7) == 4) {
          size_t n = text.size();
          while (n > 0 && text[n - 1] == 0) n--;
          if (n > 0 && text[n - 1] == 23 && handshakes.keys.tls13) sealed_data += as_text(text.first(n - 1));
        }
        arrive(as_text(Bytes(record)), kind);
        constexpr uint8_t kUpdate[] = {24, 0, 0, 1};
        if (handshakes.keys.tls13 && type == ContentType::kHandshake && text.size() == 5 &&
            std::equal(kUpdate, kUpdate + 4, text.begin())) {
          SLUICE_ASSERT(next_secret(handshakes.keys.suite, Hash::kSha256, peer_keys) &&
                        peer.install(true, handshakes.keys.suite, peer_keys, AeadKey::best(handshakes.keys.suite)));
        }
        break;
      }
      case 5: read(length); break;
      case 6: {
        lower.at(below).budget_max = kind & 8 ? length : 256 * 1024;
        const uint32_t n = std::min<uint32_t>(layer.budget(id), uint32_t(bytes.size()));
        Chain chain;
        if (n > 0 && pool.append_copy(chain, bytes.first(n), 1 + kind / 16u * 90)) layer.send(id, std::move(chain));
        break;
      }
      default:
        if (kind & 8) layer.finish(id);
        if (kind & 16) lower.peer_fin(below);
        now.mono_us += uint64_t{length} * kMs;
    }
    turn();
  }
  read(~0u);
  SLUICE_ASSERT(sealed_data.starts_with(shown));
  layer.abort(id);
  SLUICE_ASSERT(layer.sessions() == 0);
}

std::shared_ptr<const ServerPolicy> fuzz_policy() {
  static const auto policy = [] {
    X509Ptr x(X509_new());
    KeyPtr key(EVP_EC_gen("P-256"));
    X509_set_version(x.get(), 2);
    X509_gmtime_adj(X509_getm_notBefore(x.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x.get()), 86400);
    X509_set_pubkey(x.get(), key.get());
    X509_sign(x.get(), key.get(), EVP_sha256());
    BioPtr a(BIO_new(BIO_s_mem())), b(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(a.get(), x.get());
    PEM_write_bio_PKCS8PrivateKey(b.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    auto text = [](BIO* bio) {
      char* p = nullptr;
      const long n = BIO_get_mem_data(bio, &p);
      return std::string(p, size_t(n));
    };
    auto made = ServerPolicy::make({.certificates = {{text(a.get()), text(b.get())}}, .alpn = {"http/1.1"}});
    SLUICE_ASSERT(made.has_value());
    return *made;
  }();
  return policy;
}

void handshake(Bytes input) {
  ServerHandshake h(fuzz_policy());
  while (!input.empty()) {
    const size_t n = std::min<size_t>(input.size(), 1 + size_t(input[0]) * 8);
    HandshakeAnswer a;
    h.step(input.first(n), {kSec, 1}, a);
    SLUICE_ASSERT(a.kind != HandshakeAnswer::Kind::kDone && a.consumed <= n);
    if (a.kind == HandshakeAnswer::Kind::kFailed) {
      SLUICE_ASSERT(!a.error.empty());
      return;
    }
    input = input.subspan(n);
  }
}

}  // namespace

void fuzz_one(MbufPool& pool, Bytes input) {
  if (input.size() < 2) return;
  const Bytes rest = input.subspan(1);
  switch (input[0] % 3) {
    case 0: hello(rest); break;
    case 1:
      records(pool, rest);
      SLUICE_ASSERT(pool.held() == 0 && pool.available() == kMbufs);
      break;
    default: handshake(rest);
  }
}

}  // namespace sluice::tls

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const pool = [] {
    auto made = sluice::MbufPool::create("tls_fuzz", sluice::tls::kMbufs, 3000, SOCKET_ID_ANY);
    SLUICE_ASSERT(made.has_value());
    return new sluice::MbufPool(std::move(*made));
  }();
  sluice::tls::fuzz_one(*pool, {data, size});
  return 0;
}
