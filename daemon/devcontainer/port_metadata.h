// Port settings in a dev container's metadata as values: forwardPorts, appPort, portsAttributes and
// otherPortsAttributes of the label `devcontainer.metadata` and of devcontainer.json. Pure. Anybody
// may have written the images and repositories that they come from, so a value can name neither a
// path, nor a program, nor a host address, nor a host port below 1024. Source:
// https://containers.dev/implementors/json_reference/
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/regex.h"
#include "config/settings.h"
#include "devcontainer/workspace.h"
#include "net/address.h"

namespace portfwd::devcontainer {

/// Plain JSON of JSON with comments: `text` with comments (`//` to the end of the line, `/* */`)
/// and the commas before `}` and `]` blanked out. Strings and all positions are kept, so that the
/// parser's errors name the right place. Text that is not JSON is kept for the parser to reject.
[[nodiscard]] std::string to_plain_json(std::string_view text);

/// A port to forward whether or not anything listens there yet.
struct WantedPort {
  std::string service;            ///< compose's; "" for the container that the metadata is of
  Port port = 0;                  ///< inside; 1 to 65535
  std::optional<Port> host_port;  ///< 1024 or more
  bool by_engine = false;         ///< appPort: the tools have the engine publish it
  friend bool operator==(const WantedPort&, const WantedPort&) = default;
};

struct PortAttributes {
  std::optional<std::string> on_auto_forward;  ///< as portfwd.toml(5) has it
  std::string label;
  std::optional<std::string> scheme;  ///< "http", "https"
  bool require_host_port = false;     ///< requireLocalPort: the same number on the host
  bool elevate = false;               ///< elevateIfNeeded, which nothing here does: a hint is due
  friend bool operator==(const PortAttributes&, const PortAttributes&) = default;
};

/// "db:5432": a port of another compose service; "localhost" is the container itself.
struct ServicePort {
  std::string service;
  Port port = 0;
  friend bool operator==(const ServicePort&, const ServicePort&) = default;
};

/// Which ports attributes are for. A regular expression is matched against the command line.
using PortSelector = std::variant<PortRange, ServicePort, Regex>;

struct PortMetadata {
  struct Entry {
    PortSelector selector;
    PortAttributes attributes;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::vector<WantedPort> wanted;
  std::vector<Entry> attributes;
  std::optional<PortAttributes> others;  ///< for ports that no entry is for
  std::vector<std::string> complaints;   ///< about what was left out, a sentence each

  [[nodiscard]] bool empty() const { return wanted.empty() && attributes.empty() && !others; }
  friend bool operator==(const PortMetadata&, const PortMetadata&) = default;
};

constexpr std::size_t kLargestMetadata = 256UL << 10;  ///< bytes of a label or a file

/// @param text a JSON object or an array of such, of which later ones win; comments and commas
/// before a closing bracket are allowed. Whatever cannot be used is left out with a complaint, as
/// is everything beyond the limits: 64 ports, 256 keys of attributes, 16 expressions
/// @param environment for ${localEnv:NAME} in ports and keys
[[nodiscard]] PortMetadata parse_port_metadata(std::string_view text,
                                               const Environment& environment = {});

/// Puts `later` over `earlier`: wanted ports of both, attributes of the later by selector.
[[nodiscard]] PortMetadata merge(PortMetadata earlier, PortMetadata later);

/// The attributes for a port: those of its number (or, of another service, "service:port"),
/// else of a range, else of a matching expression, else otherPortsAttributes.
/// @param service compose's name of the container, "" if unknown
/// @param own whether the metadata is of this container itself, not of another of its project
/// @param command of the listener; "" if unknown, which no expression matches
[[nodiscard]] const PortAttributes* attributes_for(const PortMetadata& metadata,
                                                   std::string_view service, bool own, Port port,
                                                   std::string_view command);

/// Whether the attributes for a port of the container itself depend on the listener's command.
[[nodiscard]] bool depends_on_command(const PortMetadata& metadata, Port port);

/// Steps that attributes_for() takes at worst to match all expressions; about 5 ns each.
[[nodiscard]] std::size_t steps_to_match(const PortMetadata& metadata, std::string_view command);

}  // namespace portfwd::devcontainer
