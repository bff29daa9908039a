// What the CA gave, over a restart: one file, FOLDER/ca-identity, 0600, written aside and renamed. Only where the bootstrap says so
// (ca.keep): it holds the private key. Thread: control.
#pragma once
#include <expected>
#include <optional>
#include <string>

#include "ctrl/compile/compile.h"

namespace sluice::agent {

struct CaKept {
  compile::Secret certificate, roots;  // "default", "ROOTCA"
};

std::expected<void, std::string> save_ca_kept(const std::string& folder, const CaKept& kept);
// Nothing when there is no file. Refused: a file that others may read, or that is not whole.
std::expected<std::optional<CaKept>, std::string> load_ca_kept(const std::string& folder);

}  // namespace sluice::agent
