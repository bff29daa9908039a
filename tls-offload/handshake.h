// ServerHandshake: one handshake by OpenSSL over bytes. Internal to tls-offload; one thread at a time (the SSL moves with the object).
#pragma once
#include "tls-offload/handshake_service.h"
#include "tls-offload/policy_state.h"

namespace sluice::tls {

class ServerHandshake {
 public:
  explicit ServerHandshake(std::shared_ptr<const ServerPolicy> policy);
  ~ServerHandshake();
  ServerHandshake(const ServerHandshake&) = delete;
  ServerHandshake& operator=(const ServerHandshake&) = delete;

  // Fills all of `answer` but its cookie. After kDone or kFailed the SSL is gone and there are no more steps.
  void step(Bytes in, const Now& now, HandshakeAnswer& answer);

  struct Io {  // what our BIO reads and writes during a step
    Bytes in;
    size_t at = 0;
    std::vector<uint8_t>* out = nullptr;
  };

 private:
  friend void on_key_log(const SSL* ssl, const char* line);
  friend int on_verify(X509_STORE_CTX* ctx, void*);
  void finish(HandshakeAnswer& answer);
  bool extract_keys(const HandshakeAnswer& answer, SessionKeys& k);
  std::unique_ptr<PeerInfo> describe();
  void fail(HandshakeAnswer& answer, std::string error);

  std::shared_ptr<const ServerPolicy> policy_;
  Io io_;
  SslPtr ssl_;
  std::array<uint8_t, 48> client_secret_{}, server_secret_{};
  uint32_t secret_bytes_ = 0;
  uint64_t bytes_in_ = 0;
  int64_t wall_us_ = 0;
  std::string refusal_;  // why on_verify said no, beyond OpenSSL's words
};

}  // namespace sluice::tls
