// Stands in for libFuzzer in ordinary builds: feeds every file of the folders and paths on the
// command line to the target once, in order of name. It makes no input of its own.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

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

bool replay(const std::filesystem::path& seed) {
  std::ifstream file(seed, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", seed.c_str());
    return false;
  }
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return true;
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
  if (replayed == 0) std::fprintf(stderr, "no seeds: a target without a corpus proves nothing\n");
  return replayed == 0 ? 1 : 0;
}
