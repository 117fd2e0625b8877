// See names.h. Each engine's forms were taken from running ones; tests/unit/names_test.cc has them.
#include "discover/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace portfwd::names {
namespace {

constexpr std::size_t kHexId = 64;  // length of the ids that docker, podman and containerd make

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool take_front(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

bool take_back(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

/// systemd writes bytes that a unit name may not hold as \xHH; systemd.unit(5).
std::string unescape_unit(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char code = 0;
    if (text.substr(i).starts_with("\\x") && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 2, text.data() + i + 4, code, 16).ptr ==
            text.data() + i + 4) {
      out.push_back(static_cast<char>(code));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

struct IdPrefix {
  std::string_view prefix;
  std::string_view engine;
};
constexpr std::array kIdPrefixes{
    // PREFIX-<64 hex>, with or without ".scope"
    IdPrefix{"docker-", "docker"},
    IdPrefix{"libpod-", "podman"},
    IdPrefix{"cri-containerd-", "kubernetes"},
    IdPrefix{"crio-", "kubernetes"},
    IdPrefix{"nerdctl-", "containerd"},
    IdPrefix{"crun-", "crun"},
};

std::optional<Guess> from_id_component(std::string_view component, std::string_view parent) {
  take_back(component, ".scope");
  if (is_hex(component) && component.size() == kHexId) {  // cgroupfs drivers name only the folder
    const bool pod = parent.starts_with("pod") || parent.starts_with("kubepods");
    const std::string_view engine = parent == "docker" ? "docker" : pod ? "kubernetes" : "";
    if (engine.empty()) return std::nullopt;
    return Guess{std::string(engine), std::string(component), ""};
  }
  for (const IdPrefix& known : kIdPrefixes) {
    std::string_view id = component;
    if (take_front(id, known.prefix) && id.size() == kHexId && is_hex(id)) {
      return Guess{std::string(known.engine), std::string(id), ""};
    }
  }
  return std::nullopt;
}

std::optional<Guess> from_machine(std::string_view machine) {
  const std::string name = printable(unescape_unit(machine));
  if (name.starts_with("qemu-")) return Guess{"libvirt", name, name};
  return Guess{"nspawn", name, name};
}

std::optional<Guess> from_named_component(std::string_view component) {
  if (take_front(component, "lxc.payload.")) {
    return Guess{"lxc", std::string(component), printable(component)};
  }
  if (take_front(component, "systemd-nspawn@") && take_back(component, ".service")) {
    return from_machine(component);
  }
  if (!take_back(component, ".scope")) return std::nullopt;
  if (take_front(component, "machine-")) return from_machine(component);
  if (!take_front(component, "app-flatpak-")) return std::nullopt;
  const std::string_view app = component.substr(0, component.rfind('-'));  // APP-PID
  return Guess{"flatpak", "", printable(unescape_unit(app))};
}

/// A cgroup right below the root: what runc makes of its container's id. Any program may do so.
std::optional<Guess> from_top_level(std::string_view path) {
  if (!take_front(path, "/") || path.empty() || path.find('/') != path.npos) return std::nullopt;
  if (path == "payload") return Guess{"nspawn", "", "", false};
  for (const std::string_view unit : {".slice", ".scope", ".service"}) {
    if (path.ends_with(unit)) return std::nullopt;
  }
  if (path == "supervisor") return std::nullopt;
  return Guess{"runc", std::string(path), printable(path), false};
}

std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

/// The value of an option given as "-n VALUE", "--name VALUE" or "--name=VALUE"; the first one.
std::string option(std::span<const std::string> argv, std::string_view brief,
                   std::string_view full) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    std::string_view word = argv[i];
    if (word == "--") break;
    const bool named = !full.empty() && take_front(word, full);
    if ((named && word.empty()) || (!named && !brief.empty() && word == brief)) {
      return i + 1 < argv.size() ? argv[i + 1] : std::string();
    }
    if (named && take_front(word, "=")) return std::string(word);
  }
  return {};
}

Guess from_conmon(std::span<const std::string> argv) {
  const std::string id = option(argv, "-c", "--cid");
  return {"podman", is_hex_id(id) ? id : "", printable(option(argv, "-n", "--name"))};
}

Guess from_shim(std::span<const std::string> argv) {
  const std::string space = option(argv, "-namespace", "--namespace");
  const std::string id = option(argv, "-id", "--id");
  const char* engine = space == "moby" ? "docker" : space == "k8s.io" ? "kubernetes" : "containerd";
  return {engine, is_hex_id(id) ? id : "", ""};
}

Guess from_nspawn(std::span<const std::string> argv) {
  std::string name = option(argv, "-M", "--machine");
  if (name.empty()) name = option(argv, "", "--hostname");
  if (name.empty()) name = base_name(option(argv, "-D", "--directory"));
  return {"nspawn", "", printable(name)};
}

/// `lxc-start -n NAME`, and liblxc's monitor, which calls itself "[lxc monitor] /var/lib/lxc NAME".
Guess from_lxc(std::span<const std::string> argv) {
  std::string name = option(argv, "-n", "--name");
  if (name.empty()) name = argv[0].substr(argv[0].rfind(' ') + 1);
  return {"lxc", name, printable(name)};
}

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

std::optional<Guess> from_cgroup(std::string_view path) {
  for (std::string_view rest = path; !rest.empty();) {
    const auto slash = rest.rfind('/');
    const std::string_view component = slash == rest.npos ? rest : rest.substr(slash + 1);
    rest = slash == rest.npos ? std::string_view() : rest.substr(0, slash);
    if (auto guess = from_id_component(component, base_name(rest))) return guess;
    if (auto guess = from_named_component(component)) return guess;
  }
  return from_top_level(path);
}

std::optional<Guess> from_keeper(std::span<const std::string> argv) {
  if (argv.empty()) return std::nullopt;
  if (argv[0].starts_with("[lxc monitor] ")) return from_lxc(argv);
  const std::string_view program = base_name(argv[0]);
  if (program == "conmon") return from_conmon(argv);
  if (program.starts_with("containerd-shim")) return from_shim(argv);
  if (program == "systemd-nspawn") return from_nspawn(argv);
  if (program == "lxc-start") return from_lxc(argv);
  if (program == "bwrap") return Guess{"bubblewrap", "", printable(option(argv, "", "--hostname"))};
  return std::nullopt;
}

Guess from_environment(std::span<const std::string> environment, std::string_view host_name) {
  Guess guess;
  for (std::string_view entry : environment) {
    if (take_front(entry, "container=")) {
      guess.engine = printable(entry == "systemd-nspawn" ? "nspawn" : entry);
    } else if (take_front(entry, "HOSTNAME=") && entry != host_name) {
      guess.name = printable(entry);
    }
  }
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
