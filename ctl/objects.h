// The daemon's objects as the client holds them, and how a person's word for one of them is
// resolved. The value of an object is its JSON as in portfwdctl(1), whether or not it will be
// printed as such.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/target.h"

namespace portfwd::ctl {

using Json = nlohmann::ordered_json;  // keys stay in the order of the contract

struct Object {
  std::string path;  ///< on the bus
  Json value;
};

/// A container's name, its id, or an unambiguous beginning of its id. Throws Failure.
[[nodiscard]] const Object& pick_container(const std::vector<Object>& containers,
                                           std::string_view word);

/// A forward's id, its host port, or CONTAINER:PORT. Throws Failure.
[[nodiscard]] const Object& pick_forward(const std::vector<Object>& forwards,
                                         std::string_view word);

/// Whether a forward is of the container that `word` means.
[[nodiscard]] bool in_container(const Json& forward, std::string_view word);

/// The operand TARGET[:HOSTPORT].
struct ForwardOperand {
  std::string target;
  std::optional<Port> host_port;
};
/// Throws Failure with Status::Usage.
[[nodiscard]] ForwardOperand parse_forward_operand(std::string_view text);
/// The operand PORT or CONTAINER:PORT.
struct PortOperand {
  std::string container;  ///< "" for any
  std::string target;
};
/// Throws Failure with Status::Usage.
[[nodiscard]] PortOperand parse_port_operand(std::string_view text);
[[nodiscard]] Port parse_port_or_fail(std::string_view text);
[[nodiscard]] std::string parse_target_or_fail(std::string_view text);

}  // namespace portfwd::ctl
