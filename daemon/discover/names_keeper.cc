// What the command lines of programs tell; see names.h.
#include <algorithm>

#include "discover/names.h"
#include "discover/names_text.h"

namespace portfwd::names {
namespace {

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
  return {"podman", is_hex_id(id) ? id : "", printable(option(argv, "-n", "--name")), ""};
}

/// A container of containerd's that was not made by one of its users is called as a person has
/// said.
Guess from_shim(std::span<const std::string> argv) {
  const std::string space = option(argv, "-namespace", "--namespace");
  const std::string id = printable(option(argv, "-id", "--id"));
  const char* engine = space == "moby" ? "docker" : space == "k8s.io" ? "kubernetes" : "containerd";
  return {.engine = engine, .id = id, .name = is_hex_id(id) ? "" : id};
}

Guess from_nspawn(std::span<const std::string> argv) {
  std::string name = option(argv, "-M", "--machine");
  if (name.empty()) name = option(argv, "", "--hostname");
  if (name.empty()) name = base_name(option(argv, "-D", "--directory"));
  return {"nspawn", "", printable(name), ""};
}

/// `lxc-start -n NAME`, and liblxc's monitor, which calls itself "[lxc monitor] /var/lib/lxc NAME".
Guess from_lxc(std::span<const std::string> argv) {
  std::string name = option(argv, "-n", "--name");
  if (name.empty()) name = argv[0].substr(argv[0].rfind(' ') + 1);
  return {"lxc", printable(name), printable(name), ""};
}

/// The namespace that a rootless engine runs in itself, as by dockerd-rootless.sh. Of anybody
/// else's use nothing is said.
std::optional<Guess> from_rootlesskit(std::span<const std::string> argv) {
  const bool engines_own = std::ranges::any_of(argv.subspan(1), [](const std::string& word) {
    const std::string_view program = base_name(word);
    return program.starts_with("dockerd") || program.starts_with("containerd");
  });
  if (!engines_own) return std::nullopt;
  return Guess{"rootlesskit", "", "rootlesskit", ""};
}

}  // namespace

std::optional<Guess> from_keeper(std::span<const std::string> argv) {
  if (argv.empty()) return std::nullopt;
  if (argv[0].starts_with("[lxc monitor] ")) return from_lxc(argv);
  const std::string_view program = base_name(argv[0]);
  if (program == "conmon") return from_conmon(argv);
  if (program.starts_with("containerd-shim")) return from_shim(argv);
  if (program == "systemd-nspawn") return from_nspawn(argv);
  if (program == "lxc-start") return from_lxc(argv);
  if (program.ends_with("rootlesskit")) return from_rootlesskit(argv);
  if (program == "bwrap") {
    return Guess{"bubblewrap", "", printable(option(argv, "", "--hostname")), ""};
  }
  return std::nullopt;
}

std::string name_to_replace(std::span<const std::string> argv) {
  const std::string_view program = argv.empty() ? "" : base_name(argv[0]);
  if (program != "podman" && program != "podman-remote") return {};
  const auto has = [argv](std::string_view word) {
    return std::ranges::find(argv, word) != argv.end();
  };
  const bool makes_one = has("run") || has("create");
  if (!makes_one || (!has("--replace") && !has("--replace=true"))) return {};
  return printable(option(argv, "", "--name"));
}

}  // namespace portfwd::names
