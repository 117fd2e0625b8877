#include "dbus/object_paths.h"

#include <systemd/sd-bus.h>

#include <cassert>
#include <cstdlib>
#include <memory>

namespace portfwd {
namespace {

struct FreeCString {
  void operator()(char* text) const { std::free(text); }
};
using CString = std::unique_ptr<char, FreeCString>;

std::string encoded(const char* prefix, std::string_view id) {
  char* path = nullptr;
  [[maybe_unused]] const int r = ::sd_bus_path_encode(prefix, std::string(id).c_str(), &path);
  assert(r >= 0);  // the prefix is ours
  return CString(path).get();
}

}  // namespace

std::string forward_path(std::string_view id) {
  return encoded(kForwardPrefix, id);
}

std::string container_path(std::string_view id) {
  return id.empty() ? kNoPath : encoded(kContainerPrefix, id);
}

std::optional<std::string> id_of_path(const char* prefix, std::string_view path) {
  char* id = nullptr;
  if (::sd_bus_path_decode(std::string(path).c_str(), prefix, &id) <= 0) return {};
  std::string found = CString(id).get();
  if (encoded(prefix, found) != path) return {};  // it takes the prefix itself and a/b as well
  return found;
}

}  // namespace portfwd
