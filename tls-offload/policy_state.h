// The OpenSSL side of ServerPolicy. Internal to tls-offload.
#pragma once
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tls-offload/context.h"

namespace sluice::tls {

template <auto F>
struct Freer {
  template <class T>
  void operator()(T* p) const {
    F(p);
  }
};
struct X509StackFreer {
  void operator()(STACK_OF(X509) * s) const { sk_X509_pop_free(s, X509_free); }
};
using X509Ptr = std::unique_ptr<X509, Freer<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free>>;
using SslPtr = std::unique_ptr<SSL, Freer<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using X509StackPtr = std::unique_ptr<STACK_OF(X509), X509StackFreer>;

struct Certificate {
  X509Ptr leaf;
  KeyPtr key;
  X509StackPtr chain;  // without the leaf
  std::vector<std::string> names;
  std::string uri_san;  // the first; becomes By= of XFCC
};

struct ServerPolicy::State {
  SslContextPtr context;
  std::vector<Certificate> certificates;
  ClientCert client_cert = ClientCert::kNone;
  bool require_one_spiffe_uri = false;
  std::vector<std::function<bool(SanType, std::string_view)>> san_matchers;
  std::set<std::string, std::less<>> denied_uris, revoked_serials;
  std::set<uint64_t> anchors;  // anchor_of() of each trusted certificate
  std::string alpn;  // wire format
  int64_t expire_us = 0;

  // Those that answer `sni`, best first; never empty.
  std::vector<const Certificate*> choose(std::string_view sni) const;
};

// The index under which an SSL of ours carries its ServerHandshake.
int ssl_owner_index();
// What OpenSSL's error queue says, oldest first, in one line; empties the queue.
std::string take_openssl_errors();
// The callbacks that context.cc installs and handshake.cc answers.
void on_key_log(const SSL* ssl, const char* line);
int on_verify(X509_STORE_CTX* ctx, void*);

}  // namespace sluice::tls
