// Fuzz target: CSRs. The first byte chooses:
//   0  the rest is the text as it came     1  the rest is DER, put into PEM
//   2  the rest are extensions {kind, flags, length, bytes} of a CSR that is otherwise good and signed, so that they are reached
// Oracle: a CSR is refused with words, or the certificate has the caller's identity as its only name, is no CA, and leads to the root.
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "dataplane/base/bytes.h"
#include "dataplane/base/check.h"
#include "tls-offload/ca.h"
#include "tls-offload/policy_state.h"

namespace sluice::tls {
namespace {

constexpr int64_t kWall = 1'800'000'000'000'000;
const std::string kCaller = "spiffe://cluster.local/ns/shop/sa/gateway";

std::string pem_of_der(const std::string& der) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio(bio.get(), PEM_STRING_X509_REQ, "", reinterpret_cast<const unsigned char*>(der.data()), long(der.size()));
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio.get(), &p);
  return {p, size_t(n)};
}

std::string with_extensions(Bytes in) {
  static EVP_PKEY* const key = EVP_EC_gen("P-256");
  constexpr int kKinds[] = {NID_subject_alt_name,       NID_basic_constraints,         NID_key_usage, NID_ext_key_usage,
                            NID_subject_key_identifier, NID_authority_key_identifier, NID_name_constraints};
  X509_REQ* r = X509_REQ_new();
  STACK_OF(X509_EXTENSION)* list = sk_X509_EXTENSION_new_null();
  while (in.size() >= 3 && sk_X509_EXTENSION_num(list) < 16) {
    const size_t n = std::min<size_t>(in[2], in.size() - 3);
    ASN1_OCTET_STRING* value = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(value, in.data() + 3, int(n));
    sk_X509_EXTENSION_push(list, X509_EXTENSION_create_by_NID(nullptr, kKinds[in[0] % std::size(kKinds)], in[1] & 1, value));
    ASN1_OCTET_STRING_free(value);
    in = in.subspan(3 + n);
  }
  X509_REQ_set_version(r, 0);
  X509_REQ_set_pubkey(r, key);
  X509_REQ_add_extensions(r, list);
  X509_REQ_sign(r, key, EVP_sha256());
  BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(bio.get(), r);
  sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
  X509_REQ_free(r);
  char* p = nullptr;
  const long n = BIO_get_mem_data(bio.get(), &p);
  return {p, size_t(n)};
}

void check(const Issuer& issuer, const std::string& csr) {
  const auto made = issuer.sign(csr, kCaller, 3600, kWall, {1, 2, 3});
  if (!made) {
    SLUICE_ASSERT(!made.error().reason.empty() && size_t(made.error().refusal) < kRefusals && made.error().refusal != Refusal::kAuthority);
    return;
  }
  SLUICE_ASSERT(made->chain.size() == 1);
  BioPtr bio(BIO_new_mem_buf(made->chain[0].data(), int(made->chain[0].size())));
  const X509Ptr leaf(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  SLUICE_ASSERT(leaf != nullptr && X509_check_ca(leaf.get()) == 0 && X509_get_ext_count(leaf.get()) == 6);
  const auto facts = certificate_facts(made->chain[0]);
  SLUICE_ASSERT(facts && facts->uri_sans == std::vector{kCaller});
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf.get(), NID_subject_alt_name, nullptr, nullptr));
  SLUICE_ASSERT(sk_GENERAL_NAME_num(names) == 1);
  GENERAL_NAMES_free(names);
  BioPtr root(BIO_new_mem_buf(issuer.root_pem().data(), int(issuer.root_pem().size())));
  const X509Ptr ca(PEM_read_bio_X509(root.get(), nullptr, nullptr, nullptr));
  SLUICE_ASSERT(X509_verify(leaf.get(), X509_get0_pubkey(ca.get())) == 1);
  EVP_PKEY* key = X509_get0_pubkey(leaf.get());
  SLUICE_ASSERT(EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? EVP_PKEY_get_bits(key) >= 2048 : EVP_PKEY_get_bits(key) >= 256);
}

}  // namespace
}  // namespace sluice::tls

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::tls;
  static const auto issuer = [] {
    const auto root = make_root("cluster.local", KeyKind::kP256, 1 << 30, kWall, {9});
    SLUICE_ASSERT(root.has_value());
    auto made = Issuer::make({root->certificate_pem, root->key_pem, "", ""}, kWall);
    SLUICE_ASSERT(made.has_value());
    return *made;
  }();
  if (size == 0) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  check(*issuer, data[0] % 3 == 0 ? rest : data[0] % 3 == 1 ? pem_of_der(rest) : with_extensions({data + 1, size - 1}));
  return 0;
}
