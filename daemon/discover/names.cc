// See names.h. What cgroups tell is in names_cgroup.cc, what command lines tell in names_keeper.cc.
#include "discover/names.h"

#include <fmt/format.h>

#include <array>

#include "discover/names_text.h"

namespace portfwd::names {
namespace {

constexpr std::size_t kHexId = 64;

/// What a sequence that begins so must be long; 0: none begins so.
std::size_t length_by_first_byte(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // a byte of the middle, or an overlong form
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

/// Length of the valid UTF-8 sequence at the front of `text`, or 0; RFC 3629.
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t n = length_by_first_byte(at(0));
  if (n == 0 || text.size() < n) return 0;
  for (std::size_t i = 1; i < n; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (at(0) == 0xE0 && at(1) < 0xA0) || (at(0) == 0xF0 && at(1) < 0x90);
  const bool surrogate = at(0) == 0xED && at(1) > 0x9F;
  const bool beyond = at(0) == 0xF4 && at(1) > 0x8F;
  return overlong || surrogate || beyond ? 0 : n;
}

bool is_control(std::string_view sequence) {  // C0, DEL, C1
  const auto first = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return first < 0x20 || first == 0x7F;
  return first == 0xC2 && static_cast<unsigned char>(sequence[1]) < 0xA0;
}

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
  std::string out;
  while (!text.empty()) {
    const std::size_t n = utf8_length(text);
    const std::string_view sequence = text.substr(0, std::max<std::size_t>(n, 1));
    const bool shown = n > 0 && !is_control(sequence);
    const std::string_view piece = shown ? sequence : std::string_view("?");
    if (out.size() + piece.size() > most) break;
    out += piece;
    text.remove_prefix(sequence.size());
  }
  return out;
}

bool is_hex_id(std::string_view text) {
  return text.size() >= 12 && text.size() <= kHexId && is_hex(text);
}

}  // namespace portfwd::names
