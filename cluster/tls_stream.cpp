#include "cluster/tls_stream.h"

#include <array>
#include <cstring>
#include <string>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#include "base/check.h"

namespace corral::cluster {

namespace {

/// Of SHA-256, the hash of the cipher suite.
constexpr std::size_t kKeyBytes = 32;
constexpr const char* kPurpose = "corral link 1";
/// TLS_AES_128_GCM_SHA256 (RFC 8446 B.4).
constexpr std::array<unsigned char, 2> kCipherSuite{0x13, 0x01};

struct PskKey {
  std::string identity;
  std::array<unsigned char, kKeyBytes> key{};
};

int psk_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

const PskKey& key_of(SSL* ssl) {
  return *static_cast<const PskKey*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), psk_index()));
}

SSL_SESSION* make_session(SSL* ssl) {
  SSL_SESSION* session = SSL_SESSION_new();
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kCipherSuite.data());
  const PskKey& key = key_of(ssl);
  CHECK_INVARIANT(session != nullptr && cipher != nullptr &&
                  SSL_SESSION_set1_master_key(session, key.key.data(), key.key.size()) == 1 &&
                  SSL_SESSION_set_cipher(session, cipher) == 1 &&
                  SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1);
  return session;
}

int use_session(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, std::size_t* length,
                SSL_SESSION** session) {
  *session = make_session(ssl);
  if (hash != nullptr && SSL_CIPHER_get_handshake_digest(SSL_SESSION_get0_cipher(*session)) != hash) {
    SSL_SESSION_free(*session);
    *session = nullptr;
    return 1;
  }
  const PskKey& key = key_of(ssl);
  *identity = reinterpret_cast<const unsigned char*>(key.identity.data());
  *length = key.identity.size();
  return 1;
}

int find_session(SSL* ssl, const unsigned char* identity, std::size_t length, SSL_SESSION** session) {
  const PskKey& key = key_of(ssl);
  const bool known = length == key.identity.size() && std::memcmp(identity, key.identity.data(), length) == 0;
  *session = known ? make_session(ssl) : nullptr;
  return 1;
}

}  // namespace

struct TlsKey::Native {
  PskKey key;
  SSL_CTX* context = nullptr;
};

TlsKey::TlsKey(const Uuid& cluster, const Secret& secret) : native_(std::make_unique<Native>()) {
  for (std::uint8_t byte : cluster)
    native_->key.identity += fmt::format("{:02x}", byte);
  unsigned length = 0;
  std::vector<unsigned char> purpose(kPurpose, kPurpose + std::strlen(kPurpose));
  purpose.insert(purpose.end(), cluster.begin(), cluster.end());
  CHECK_INVARIANT(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), purpose.data(), purpose.size(),
                       native_->key.key.data(), &length) != nullptr &&
                  length == kKeyBytes);
  SSL_CTX* context = native_->context = SSL_CTX_new(TLS_method());
  CHECK_INVARIANT(context != nullptr && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
                  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
                  SSL_CTX_set_ex_data(context, psk_index(), &native_->key) == 1);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_psk_use_session_callback(context, use_session);
  SSL_CTX_set_psk_find_session_callback(context, find_session);
}

TlsKey::~TlsKey() {
  SSL_CTX_free(native_->context);
}

struct TlsStream::Native {
  SSL* ssl = nullptr;
  BIO* incoming = nullptr;
  BIO* outgoing = nullptr;
};

TlsStream::TlsStream(const TlsKey& key, Side side) : native_(std::make_unique<Native>()) {
  native_->ssl = SSL_new(key.native_->context);
  native_->incoming = BIO_new(BIO_s_mem());
  native_->outgoing = BIO_new(BIO_s_mem());
  CHECK_INVARIANT(native_->ssl != nullptr && native_->incoming != nullptr && native_->outgoing != nullptr);
  SSL_set_bio(native_->ssl, native_->incoming, native_->outgoing);
  if (side == Side::server) {
    // It has no certificate: without the key there is nothing that it could answer with.
    SSL_set_verify(native_->ssl, SSL_VERIFY_NONE, nullptr);
    SSL_set_accept_state(native_->ssl);
  } else {
    // A server that offers a certificate instead of the key is nobody's: no authority is trusted.
    SSL_set_verify(native_->ssl, SSL_VERIFY_PEER, nullptr);
    SSL_set_connect_state(native_->ssl);
    SSL_do_handshake(native_->ssl);
  }
  ERR_clear_error();
}

TlsStream::~TlsStream() {
  SSL_free(native_->ssl);
}

bool TlsStream::ready() const {
  return SSL_is_init_finished(native_->ssl) == 1;
}

Result<> TlsStream::receive(std::span<const std::byte> bytes, std::vector<std::byte>& plain) {
  CHECK_INVARIANT(BIO_write(native_->incoming, bytes.data(), static_cast<int>(bytes.size())) ==
                  static_cast<int>(bytes.size()));
  std::array<std::byte, 16384> part;
  for (;;) {
    ERR_clear_error();
    const int got = SSL_read(native_->ssl, part.data(), static_cast<int>(part.size()));
    if (got > 0) {
      plain.insert(plain.end(), part.begin(), part.begin() + got);
      continue;
    }
    const int error = SSL_get_error(native_->ssl, got);
    if (error == SSL_ERROR_WANT_READ) return {};
    if (error == SSL_ERROR_ZERO_RETURN) return fail(ECONNRESET, "the other side has closed the connection");
    const char* reason = ERR_reason_error_string(ERR_get_error());
    ERR_clear_error();
    return fail(EPROTO, "no TLS of this cluster: {}", reason != nullptr ? reason : "broken off");
  }
}

void TlsStream::send(std::span<const std::byte> plain) {
  CHECK_INVARIANT(ready());
  if (plain.empty()) return;
  // Memory takes it all at once.
  CHECK_INVARIANT(SSL_write(native_->ssl, plain.data(), static_cast<int>(plain.size())) ==
                  static_cast<int>(plain.size()));
}

void TlsStream::take_output(std::vector<std::byte>& bytes) {
  const std::size_t pending = BIO_ctrl_pending(native_->outgoing);
  const std::size_t before = bytes.size();
  bytes.resize(before + pending);
  if (pending > 0)
    CHECK_INVARIANT(BIO_read(native_->outgoing, bytes.data() + before, static_cast<int>(pending)) ==
                    static_cast<int>(pending));
}

}  // namespace corral::cluster
