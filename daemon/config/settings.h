// The configuration as values, with the defaults of portfwd.toml(5). Immutable once read; a reload
// makes a new one. It knows nothing of files.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/port_range.h"
#include "config/rule.h"
#include "net/endpoint.h"

namespace portfwd {

enum class Allocation : std::uint8_t { SamePort, PerContainer };

struct Settings {
  struct Detect {
    std::optional<Duration> interval;  ///< nothing: "auto"
    Duration min_interval = std::chrono::milliseconds(20);
    Duration max_interval = std::chrono::seconds(1);
    double cpu_budget = 0.5;  ///< percent of one core
    bool udp = false;
    friend bool operator==(const Detect&, const Detect&) = default;
  } detect;

  struct Host {
    Bind bind;
    bool allow_remote = false;  ///< whether `bind`, here or in a rule, may be no loopback address
    bool restrict_to_user = true;
    Allocation allocation = Allocation::SamePort;
    PortRange fallback_range{20000, 29999};
    PortRanges avoid;
    bool sticky = true;
    Duration linger = std::chrono::seconds(2);
    Duration hold = std::chrono::seconds(5);
    Duration drain = std::chrono::seconds(5);
    Duration connect_timeout = std::chrono::seconds(10);
    unsigned max_forwards = 64;    ///< per container
    unsigned max_connections = 0;  ///< per forward; 0: as many as fds allow
    friend bool operator==(const Host&, const Host&) = default;
  } host;

  struct Ports {
    PortRanges include{{1, 65535}};
    PortRanges exclude{{22, 22}, {25, 25}, {53, 53}, {323, 323}, {5353, 5353}, {5355, 5355}};
    std::vector<IpAddress> ignore_addresses{IpAddress::v4(127, 0, 0, 11)};  ///< docker's resolver
    std::string on_auto_forward = "notify";
    friend bool operator==(const Ports&, const Ports&) = default;
  } ports;

  std::vector<Rule> rules;  ///< the first that matches decides
  std::vector<DeclaredForward> forwards;

  friend bool operator==(const Settings&, const Settings&) = default;
};

}  // namespace portfwd
