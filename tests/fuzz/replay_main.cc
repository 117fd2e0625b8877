// Replacement for libFuzzer in ordinary builds: passes every file of the folders and paths on the
// command line to the target once, in order of name, then the inputs of large_inputs.h. Each may
// take at most kMostSeconds of CPU time.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/large_inputs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int* argc, char*** argv);

namespace {

std::vector<std::filesystem::path> seeds_in(const std::filesystem::path& where) {
  if (!std::filesystem::is_directory(where)) return {where};
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(where)) {
    if (entry.is_regular_file()) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

constexpr double kMostSeconds = 1;  // of CPU; the present code takes at most a twentieth of it

double cpu_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

/// @return whether it was fast enough
bool feed(const char* name, const std::string& bytes) {
  const double began = cpu_seconds();
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  const double took = cpu_seconds() - began;
  if (took > kMostSeconds) std::fprintf(stderr, "%s: took %.1f s of CPU\n", name, took);
  return took <= kMostSeconds;
}

bool replay(const std::filesystem::path& seed) {
  std::ifstream file(seed, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", seed.c_str());
    return false;
  }
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  return feed(seed.c_str(), bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (LLVMFuzzerInitialize != nullptr && LLVMFuzzerInitialize(&argc, &argv) != 0) return 1;
  std::size_t replayed = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& seed : seeds_in(argv[i])) {
      if (!replay(seed)) return 1;
      ++replayed;
    }
  }
  bool quick = true;
  for (const auto& [name, bytes] : portfwd_fuzz::large_inputs()) {
    quick = feed(name.c_str(), bytes) && quick;
  }
  if (!quick) return 1;
  if (replayed == 0) std::fprintf(stderr, "no seeds: a target without a corpus proves nothing\n");
  return replayed == 0 ? 1 : 0;
}
