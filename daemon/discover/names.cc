// See names.h: cgroup paths, then command lines and environments.

#include "discover/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"

namespace portfwd::names {

// Cgroup paths. Their forms are those of running engines if Debian has the engine, else as in its
// documentation and source. tests/unit/names_test.cc has one of each.
// Source: systemd.io/CGROUP_DELEGATION, podman-run(1), runc's docs/systemd.md, containerd's
// docs/namespaces.md, lxc.container.conf(5)
namespace {

constexpr std::size_t kFullId = 64;  // length of the ids that docker, podman and containerd make

/// Undo systemd's escapes (\xHH) of bytes that a unit name must not contain; systemd.unit(5).
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

/// A form of cgroup folders and the engine that makes them.
struct Form {
  std::string_view beginning;
  std::string_view engine;
};

/// BEGINNING<64 hex>, with or without ".scope": the systemd drivers, and podman with either.
constexpr std::array kIdForms{
    Form{"docker-", "docker"},
    Form{"libpod-payload-", "podman"},  // --cgroups=split, as Quadlet's units have it
    Form{"libpod-", "podman"},
    Form{"cri-containerd-", "kubernetes"},
    Form{"crio-", "kubernetes"},
    Form{"nerdctl-", "containerd"},
};

/// PARENT/<64 hex>: the cgroupfs drivers. containerd names the parent after the containerd
/// namespace, such as "k8s.io" and "default".
constexpr std::array kIdParents{
    Form{"docker", "docker"},
    Form{"k8s.io", "kubernetes"},
    Form{"default", "containerd"},
};

std::string_view engine_of_parent(std::string_view parent) {
  for (const Form& known : kIdParents) {
    if (parent == known.beginning) return known.engine;
  }
  const bool pod = parent.starts_with("pod") || parent.starts_with("kubepods");
  return pod ? "kubernetes" : "";
}

bool is_full_id(std::string_view text) {
  return text.size() == kFullId && is_hex(text);
}

std::optional<Guess> from_id_component(std::string_view component, std::string_view parent) {
  remove_back(component, ".scope");
  if (is_full_id(component)) {
    const std::string_view engine = engine_of_parent(parent);
    if (engine.empty()) return std::nullopt;
    return Guess{std::string(engine), std::string(component), "", ""};
  }
  // "kubepods-podUID.slice:cri-containerd:ID": a systemd path given to the cgroupfs driver
  if (const auto colon = component.rfind(":cri-containerd:"); colon != component.npos) {
    const std::string_view id = component.substr(component.rfind(':') + 1);
    if (is_full_id(id)) return Guess{"kubernetes", std::string(id), "", ""};
  }
  for (const Form& known : kIdForms) {
    std::string_view id = component;
    if (remove_front(id, known.beginning) && is_full_id(id)) {
      return Guess{std::string(known.engine), std::string(id), "", ""};
    }
  }
  return std::nullopt;
}

Guess named(std::string_view engine, std::string_view id, bool certain = true) {
  const std::string shown = printable(id);
  return {std::string(engine), shown, shown, "", certain};
}

/// libvirt registers containers as "lxc-NUMBER-NAME", virtual machines as "qemu-NUMBER-NAME".
Guess from_machine(std::string_view machine) {
  const std::string name = unescape_unit(machine);
  if (name.starts_with("qemu-")) return named("libvirt", name, false);
  return named(name.starts_with("lxc-") ? "libvirt" : "nspawn", name);
}

/// Units of systemd.
std::optional<Guess> from_unit(std::string_view unit) {
  if (remove_front(unit, "systemd-nspawn@") && remove_back(unit, ".service"))
    return from_machine(unit);
  if (!remove_back(unit, ".scope")) return std::nullopt;
  if (remove_front(unit, "machine-")) return from_machine(unit);
  if (remove_front(unit, "crun-")) return named("crun", unescape_unit(unit));
  if (remove_front(unit, "runc-")) return named("runc", unescape_unit(unit));
  if (!remove_front(unit, "app-flatpak-") && !remove_front(unit, "flatpak-")) return std::nullopt;
  const std::string_view app = unit.substr(0, unit.rfind('-'));  // APP-PID
  return Guess{"flatpak", "", printable(unescape_unit(app)), ""};
}

/// "lxc.payload.NAME"; "lxc.payload/NAME" and "lxc/NAME" of older LXC and of Proxmox.
std::optional<Guess> from_named_component(std::string_view component, std::string_view parent) {
  if (remove_front(component, "lxc.payload.")) return named("lxc", component);
  if (parent == "lxc" || parent == "lxc.payload") return named("lxc", component);
  if (parent == "buildkit") return named("buildkit", component);
  return from_unit(component);
}

/// "/default/NAME": containerd's folder for a container that the user has named. Other programs may
/// make such folders as well.
std::optional<Guess> from_default_namespace(std::string_view path) {
  std::string_view name = path;
  if (!remove_front(name, "/default/") || name.empty()) return std::nullopt;
  const auto end = name.find('/');
  if (end != name.npos) path.remove_suffix(name.size() - end);
  Guess guess = named("containerd", name.substr(0, end), false);
  guess.cgroup = path;
  return guess;
}

/// A folder directly below the root: runc makes it from the container's id. Other programs may make
/// such folders as well.
std::optional<Guess> from_top_level(std::string_view path) {
  if (auto guess = from_default_namespace(path)) return guess;
  const std::string folder(path);
  if (!remove_front(path, "/") || path.empty() || path.find('/') != path.npos) return std::nullopt;
  if (path == "payload") return Guess{"nspawn", "", "", folder, false};
  for (const std::string_view unit : {".slice", ".scope", ".service"}) {
    if (path.ends_with(unit)) return std::nullopt;
  }
  if (path == "supervisor" || path.starts_with("lxc.monitor")) return std::nullopt;
  Guess guess = named("runc", path, false);
  guess.cgroup = folder;
  return guess;
}

}  // namespace

std::optional<Guess> from_cgroup(std::string_view path) {
  std::optional<Guess> without_id;
  for (std::size_t end = 0; end != path.npos;) {
    end = path.find('/', end + 1);
    const std::string_view folder = path.substr(0, end);
    const std::string_view component = base_name(folder);
    const std::string_view above = folder.substr(0, folder.size() - component.size());
    const std::string_view parent = base_name(above.substr(0, above.rfind('/')));
    auto guess = from_id_component(component, parent);
    if (!guess) guess = from_named_component(component, parent);
    if (!guess) continue;
    guess->cgroup = folder;
    if (!guess->id.empty()) return guess;
    if (!without_id) without_id = std::move(guess);
  }
  return without_id ? without_id : from_top_level(path);
}

// Command lines of programs.
namespace {

/// The value of an option given as "-n VALUE", "--name VALUE" or "--name=VALUE"; the first one.
std::string option(std::span<const std::string> argv, std::string_view brief,
                   std::string_view full) {
  for (std::size_t i = 1; i < argv.size(); ++i) {
    std::string_view word = argv[i];
    if (word == "--") break;
    const bool named = !full.empty() && remove_front(word, full);
    if ((named && word.empty()) || (!named && !brief.empty() && word == brief)) {
      return i + 1 < argv.size() ? argv[i + 1] : std::string();
    }
    if (named && remove_front(word, "=")) return std::string(word);
  }
  return {};
}

Guess from_conmon(std::span<const std::string> argv) {
  const std::string id = option(argv, "-c", "--cid");
  return {"podman", is_hex_id(id) ? id : "", printable(option(argv, "-n", "--name")), ""};
}

/// containerd's id of a container is a hex id if docker or Kubernetes made it, else the name that
/// the user has chosen.
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

/// The namespace that a rootless engine itself runs in, made by dockerd-rootless.sh and others.
/// @return nothing if rootlesskit runs another program
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

namespace {

constexpr std::size_t kHexId = 64;

}  // namespace

Guess from_environment(std::span<const std::string> environment, std::string_view host_name) {
  Guess guess;
  std::string app;
  for (std::string_view entry : environment) {
    if (remove_front(entry, "container=")) {
      guess.engine = printable(entry == "systemd-nspawn" ? "nspawn" : entry);
    } else if (remove_front(entry, "FLATPAK_ID=")) {
      app = printable(entry);
    } else if (remove_front(entry, "HOSTNAME=") && entry != host_name) {
      guess.name = printable(entry);
    }
  }
  if (guess.engine == "flatpak" && !app.empty()) guess.name = app;
  return guess;
}

bool is_engine_process(std::string_view comm) {
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
