// What every micro benchmark reports beside the time: TSC cycles per operation, from the difference of rdtsc around the loop. (On machines
// whose clock varies, cycles of the TSC are not cycles of the core; they are what all our figures use.)
#pragma once
#include <benchmark/benchmark.h>
#include <x86intrin.h>

namespace sluice::bench {

class Tsc {
 public:
  explicit Tsc(benchmark::State& state) : state_(state), start_(__rdtsc()) {}
  ~Tsc() { state_.counters["tsc"] = benchmark::Counter(double(__rdtsc() - start_) / double(state_.iterations())); }

 private:
  benchmark::State& state_;
  unsigned long long start_;
};

}  // namespace sluice::bench
