// Arbitrary texts of containers and their monitor processes: every name and id made from them is
// short, valid UTF-8 and free of control characters.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "discover/names.h"
#include "kernel/procfs.h"

namespace {

void check(const std::string& name) {
  if (name.size() > 64 || portfwd::names::printable(name) != name) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace names = portfwd::names;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto words = portfwd::procfs::split_strings(text);
  check(names::printable(text));
  if (const auto guess = names::from_cgroup(text)) {
    check(guess->name);
    if (!text.starts_with(guess->cgroup)) std::abort();
  }
  check(names::name_to_replace(words));
  if (const auto guess = names::from_keeper(words)) check(guess->name);
  const auto told = names::from_environment(words, "host");
  check(told.name);
  check(told.engine);
  (void)names::is_engine_process(text);
  return 0;
}
