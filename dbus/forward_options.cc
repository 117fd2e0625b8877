#include "dbus/forward_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "dbus/bus_errors.h"

namespace portfwd {
namespace {

using sdbus::Variant;

struct Option {
  std::string_view key;
  std::string_view type;  ///< D-Bus signature
  std::string_view meaning;
  void (*apply)(RequestedForward& request, const Variant& value);
};

void apply_host_port(RequestedForward& request, const Variant& value) {
  const auto port = value.get<std::uint16_t>();
  if (port == 0) throw_invalid("option 'host_port' must be 1 to 65535; leave it out for any");
  request.spec.host_port = port;
}

void apply_direction(RequestedForward& request, const Variant& value) {
  const auto name = value.get<std::string>();
  if (name != "in" && name != "reverse") {
    throw_invalid(fmt::format("option 'direction' must be 'in' or 'reverse', not '{}'", name));
  }
  request.spec.direction = name == "in" ? Direction::In : Direction::Reverse;
}

template <auto Member>
void apply_option(RequestedForward& request, const Variant& value) {
  auto& member = request.spec.*Member;
  member = value.get<std::decay_t<decltype(member)>>();
}

constexpr std::array kOptions{
    Option{"host_port", "q", "a port", apply_host_port},
    Option{"bind", "s", "a string", apply_option<&ForwardSpec::bind>},
    Option{"container_address", "s", "a string", apply_option<&ForwardSpec::container_address>},
    Option{"label", "s", "a string", apply_option<&ForwardSpec::label>},
    Option{"persist", "b", "a boolean", apply_option<&ForwardSpec::persist>},
    Option{"allow_missing", "b", "a boolean", apply_option<&ForwardSpec::allow_missing>},
    Option{"direction", "s", "a string", apply_direction},
    Option{"while_connected", "b", "a boolean",
           [](RequestedForward& r, const Variant& v) { r.while_connected = v.get<bool>(); }},
};

std::string known_keys() {
  std::array<std::string_view, kOptions.size()> keys;
  std::ranges::transform(kOptions, keys.begin(), &Option::key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

}  // namespace

RequestedForward parse_forward_options(const Properties& options) {
  RequestedForward request;
  for (const auto& [key, value] : options) {
    const auto* option = std::ranges::find(kOptions, std::string_view(key), &Option::key);
    if (option == kOptions.end()) {
      throw_invalid(fmt::format("unknown option '{}'; known are {}", key, known_keys()));
    }
    if (const std::string type = value.peekValueType(); type != option->type) {
      throw_invalid(fmt::format("option '{}' must be {} (D-Bus type {}), not of type {}", key,
                                option->meaning, option->type, type));
    }
    option->apply(request, value);
  }
  return request;
}

}  // namespace portfwd
