// Port settings in a dev container's metadata as values: forwardPorts, appPort, portsAttributes and
// otherPortsAttributes of the label `devcontainer.metadata` and of devcontainer.json. Pure. The
// images and repositories that they come from are not trusted, so a value can name neither a path,
// nor a program, nor a host address, nor a host port below 1024. Source:
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

/// Converts JSON with comments to plain JSON: blanks out `//` comments, `/* */` comments, and the
/// commas before `}` and `]`. Strings and all positions are kept, so that the parser's errors name
/// the right place. Text that is not JSON is left for the parser to reject.
[[nodiscard]] std::string to_plain_json(std::string_view text);

/// A port to forward even while nothing listens there.
struct WantedPort {
  std::string service;            ///< of compose; "" for the container that has the metadata
  Port port = 0;                  ///< inside; 1 to 65535
  std::optional<Port> host_port;  ///< 1024 or more
  bool by_engine = false;         ///< appPort: the dev container tools make the engine publish it
  friend bool operator==(const WantedPort&, const WantedPort&) = default;
};

struct PortAttributes {
  std::optional<std::string> on_auto_forward;  ///< as in portfwd.toml(5)
  std::string label;
  std::optional<std::string> scheme;  ///< "http", "https"
  bool require_host_port = false;     ///< requireLocalPort: the same number on the host
  bool elevate = false;  ///< elevateIfNeeded, which is not supported: the user gets a hint
  friend bool operator==(const PortAttributes&, const PortAttributes&) = default;
};

/// "db:5432": a port of another compose service; "localhost" is the container itself.
struct ServicePort {
  std::string service;
  Port port = 0;
  friend bool operator==(const ServicePort&, const ServicePort&) = default;
};

/// The ports that attributes apply to. A regular expression is matched against the command line.
using PortSelector = std::variant<PortRange, ServicePort, Regex>;

struct PortMetadata {
  struct Entry {
    PortSelector selector;
    PortAttributes attributes;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::vector<WantedPort> wanted;
  std::vector<Entry> attributes;
  std::optional<PortAttributes> others;  ///< for ports without an entry
  std::vector<std::string> complaints;   ///< about what was left out, one sentence each

  [[nodiscard]] bool empty() const { return wanted.empty() && attributes.empty() && !others; }
  friend bool operator==(const PortMetadata&, const PortMetadata&) = default;
};

constexpr std::size_t kLargestMetadata = 256UL << 10;  ///< bytes of a label or a file

/// @param text a JSON object or an array of objects, of which later ones take precedence; comments
/// and commas before a closing bracket are allowed. What cannot be used is left out, mostly with a
/// complaint, as is everything beyond the limits: 64 ports, 256 keys of attributes, 16 expressions
/// @param environment for ${localEnv:NAME} in ports and keys
[[nodiscard]] PortMetadata parse_port_metadata(std::string_view text,
                                               const Environment& environment = {});

/// Puts `later` over `earlier`: wanted ports of both; for each selector the later attributes.
[[nodiscard]] PortMetadata merge(PortMetadata earlier, PortMetadata later);

/// The attributes for a port: those of its number (or, of another service, of "service:port"), else
/// of a range, else of a matching expression, else otherPortsAttributes; null when there are none.
/// @param service compose's name of the container, "" if unknown
/// @param own whether the metadata is of this container itself, not of another of its project
/// @param command command line of the listener; "" if unknown, which no expression matches
[[nodiscard]] const PortAttributes* attributes_for(const PortMetadata& metadata,
                                                   std::string_view service, bool own, Port port,
                                                   std::string_view command);

/// Whether the attributes for a port of the container itself depend on the listener's command.
[[nodiscard]] bool depends_on_command(const PortMetadata& metadata, Port port);

/// Worst-case steps of attributes_for() to match all expressions; a step takes about 5 ns.
[[nodiscard]] std::size_t steps_to_match(const PortMetadata& metadata, std::string_view command);

}  // namespace portfwd::devcontainer
