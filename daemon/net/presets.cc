#include "net/presets.h"

#include <algorithm>
#include <array>

namespace portfwd {

namespace {

constexpr std::array kPresets{
    Preset{"dbus", "$XDG_RUNTIME_DIR/bus", "bus.sock", "DBUS_SESSION_BUS_ADDRESS",
           "unix:path=", true,
           "it can call every service of your session, and start programs outside the container"},
    Preset{"docker", "/run/docker.sock", "docker.sock", "DOCKER_HOST", "unix://", false,
           "it can start containers with any file of the host, which is as much as root may"},
    Preset{"gpg-agent", "$XDG_RUNTIME_DIR/gnupg/S.gpg-agent.extra", "gpg-agent.sock", "", "", false,
           "it can sign and decrypt with your keys while it runs"},
    Preset{"pipewire", "$XDG_RUNTIME_DIR/pipewire-0", "pipewire.sock", "PIPEWIRE_REMOTE", "", true,
           "it can play and record sound and screen, without being asked as a sandbox would be"},
    Preset{"podman", "$XDG_RUNTIME_DIR/podman/podman.sock", "podman.sock", "CONTAINER_HOST",
           "unix://", false, "it can start containers with any of your files"},
    Preset{"pulse", "$XDG_RUNTIME_DIR/pulse/native", "pulse.sock", "PULSE_SERVER", "unix:", true,
           "it can play and record sound"},
    Preset{"ssh-agent", "$SSH_AUTH_SOCK", "ssh-agent.sock", "SSH_AUTH_SOCK", "", false,
           "it can log in wherever your keys open while it runs"},
    Preset{"wayland", "$XDG_RUNTIME_DIR/${WAYLAND_DISPLAY:-wayland-0}", "wayland.sock",
           "WAYLAND_DISPLAY", "", true, "it can open windows and read the clipboard"},
};

bool is_name(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/// A variable at the beginning of a text, which follows '$'.
struct Variable {
  std::string_view name;
  std::optional<std::string_view> otherwise;
  std::size_t size = 0;  ///< in the text
};

std::optional<Variable> variable_at(std::string_view text) {
  const bool braced = text.starts_with('{');
  const std::string_view from = text.substr(braced ? 1 : 0);
  const auto end = static_cast<std::size_t>(std::ranges::find_if_not(from, is_name) - from.begin());
  if (end == 0) return std::nullopt;
  Variable out{from.substr(0, end), {}, end};
  if (!braced) return out;
  const auto brace = from.find('}');
  if (brace == from.npos) return std::nullopt;
  const std::string_view rest = from.substr(end, brace - end);
  if (rest.starts_with(":-")) {
    out.otherwise = rest.substr(2);
  } else if (!rest.empty()) {
    return std::nullopt;
  }
  out.size = brace + 2;
  return out;
}

}  // namespace

std::span<const Preset> presets() {
  return kPresets;
}

const Preset* find_preset(std::string_view name) {
  const auto found = std::ranges::find(kPresets, name, &Preset::name);
  return found == kPresets.end() ? nullptr : &*found;
}

bool has_variables(std::string_view path) {
  return path.find('$') != path.npos;
}

std::optional<std::string> expand(std::string_view path, const VariableOf& value_of) {
  std::string out;
  while (!path.empty()) {
    const auto dollar = path.find('$');
    out += path.substr(0, dollar);
    if (dollar == path.npos) break;
    path.remove_prefix(dollar + 1);
    const auto variable = variable_at(path);
    if (!variable) return std::nullopt;
    auto value = value_of(variable->name);
    if (value && value->empty()) value.reset();
    if (!value && !variable->otherwise) return std::nullopt;
    out += value ? *value : std::string(*variable->otherwise);
    path.remove_prefix(variable->size);
  }
  return out;
}

}  // namespace portfwd
