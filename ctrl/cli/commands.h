// What sluicectl's subcommands do, apart from their options: each but check asks the gateway's admin socket, writes to `out` and returns
// the exit code. Exit codes: 0 good; 1 it could not be done (the reason is on `err`); 2 wrong usage (CLI11); 3 status: a security resource
// is refused.
#pragma once
#include <ostream>
#include <string>

#include "ctrl/cli/offline.h"

namespace sluice::cli {

constexpr int kOk = 0, kFailed = 1, kUsage = 2, kSecurityRefused = 3;

struct Streams {
  std::ostream& out;
  std::ostream& err;
};

// What the gateway says of itself, and what the Gateway API's objects are to the sluice-control beside it. Who was named must answer; who
// was not (his default socket) may not be there, but one of them must.
struct Asked {
  std::string socket;  // "": nobody
  bool named = true;
};
int status(const Asked& gateway, const Asked& control, bool json, Streams s);
// The nodes of a sluice-control; kSecurityRefused while one of them refuses what it was sent.
int nodes(const std::string& socket, bool json, Streams s);
// Prints the body of METHOD target; anything but 200 is a failure.
int print(const std::string& socket, const std::string& method, const std::string& target, Streams s);

// Everything that is wrong or leads nowhere in a folder (or file) of Istio YAML, "-" for stdin. kFailed if there is an error; warnings
// alone are kOk.
int check(const std::string& dir, const std::string& mesh, Streams s);

// What would become of a request: asked of the gateway's running tables, or of a directory (directory.dir not empty) with the places in its
// YAML.
int explain(const std::string& socket, const explain::Question& question, const OfflineOptions& directory, bool json, Streams s);

// What directory `to` would change against `from`, or against the running gateway where from.dir is empty. kOk whether or not they differ.
int diff(const std::string& socket, const OfflineOptions& from, const OfflineOptions& to, Streams s);

}  // namespace sluice::cli
