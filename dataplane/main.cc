// sluice: the gateway.   sluice run -c FILE     sluice check -c FILE
#include <cstdio>
#include <cstring>
#include <string>

#include "dataplane/gateway.h"

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  if ((verb != "run" && verb != "check") || argc != 4 || std::strcmp(argv[2], "-c") != 0) {
    std::fprintf(stderr,
                 "usage: sluice run -c FILE     starts the gateway (configs/sluice.yaml shows every key)\n       sluice check -c FILE   "
                 "reads the file and says what is wrong with it\n");
    return 2;
  }
  const auto bootstrap = sluice::agent::load_bootstrap(argv[3]);
  if (!bootstrap) {
    for (const std::string& error : bootstrap.error()) std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  if (verb == "check") return 0;
  if (auto ok = sluice::run_gateway(*bootstrap); !ok) {
    std::fprintf(stderr, "sluice: %s\n", ok.error().c_str());
    return 1;
  }
  return 0;
}
