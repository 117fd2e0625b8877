// See names.h. What cgroups tell is in names_cgroup.cc, what command lines tell in names_keeper.cc.
#include "discover/names.h"

#include <fmt/format.h>

#include <array>

#include "base/text.h"
#include "discover/names_text.h"

namespace portfwd::names {
namespace {

constexpr std::size_t kHexId = 64;

}  // namespace

Guess from_environment(std::span<const std::string> environment, std::string_view host_name) {
  Guess guess;
  std::string app;
  for (std::string_view entry : environment) {
    if (take_front(entry, "container=")) {
      guess.engine = printable(entry == "systemd-nspawn" ? "nspawn" : entry);
    } else if (take_front(entry, "FLATPAK_ID=")) {
      app = printable(entry);
    } else if (take_front(entry, "HOSTNAME=") && entry != host_name) {
      guess.name = printable(entry);
    }
  }
  if (guess.engine == "flatpak" && !app.empty()) guess.name = app;
  return guess;
}

bool is_plumbing(std::string_view comm) {
  static constexpr std::array<std::string_view, 11> kExact{
      "catatonit",    "pause",  "slirp4netns", "pasta.avx2", "pasta", "netavark",
      "aardvark-dns", "conmon", "runc",        "crun",       "youki"};
  return std::ranges::find(kExact, comm) != kExact.end() || comm.starts_with("runc:[") ||
         comm.starts_with("rootlessport") || comm.starts_with("portfwd-broker");
}

std::string from_program(std::string_view comm, pid_t pid) {
  return fmt::format("{}-{}", comm.empty() ? "process" : printable(comm), pid);
}

std::string printable(std::string_view text, std::size_t most) {
  return portfwd::printable(text, most);
}

bool is_hex_id(std::string_view text) {
  return text.size() >= 12 && text.size() <= kHexId && is_hex(text);
}

}  // namespace portfwd::names
