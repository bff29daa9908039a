// Two tiers of assertions (docs/design: style). They state our own invariants, never a peer's bytes, a configuration or the environment.
//   SLUICE_ASSERT  stays in release builds: control code, cold paths, once per burst.
//   SLUICE_DCHECK  debug, sanitizer, fuzz and simulation builds (meson -Ddcheck=true): anywhere.
// A failed assertion prints one line and aborts.
#pragma once
#include <cstdio>
#include <cstdlib>

namespace sluice {
[[noreturn, gnu::cold, gnu::noinline]] inline void assert_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
  std::abort();
}
}  // namespace sluice

#define SLUICE_ASSERT(x) ((x) ? (void)0 : ::sluice::assert_failed(#x, __FILE__, __LINE__))
#if defined(SLUICE_DCHECKS)
#define SLUICE_DCHECK(x) SLUICE_ASSERT(x)
#else
#define SLUICE_DCHECK(x) ((void)0)
#endif
