// The configuration as values, with the defaults of portfwd.toml(5). Immutable once read; a reload
// makes a new one. It knows nothing of files.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/endpoint.h"

namespace portfwd {

struct PortRange {
  Port first = 1;
  Port last = 65535;
  [[nodiscard]] bool contains(Port p) const { return first <= p && p <= last; }
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

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
    std::optional<IpAddress> bind;  ///< a loopback address; nothing: 127.0.0.1 and ::1
    bool restrict_to_user = true;
    PortRange fallback_range{20000, 29999};
    std::vector<PortRange> avoid;
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
    std::vector<PortRange> include{{1, 65535}};
    std::vector<PortRange> exclude{{22, 22},   {25, 25},     {53, 53},
                                   {323, 323}, {5353, 5353}, {5355, 5355}};
    std::vector<IpAddress> ignore_addresses{IpAddress::v4(127, 0, 0, 11)};  ///< docker's resolver
    std::string on_auto_forward = "notify";
    friend bool operator==(const Ports&, const Ports&) = default;
  } ports;

  friend bool operator==(const Settings&, const Settings&) = default;
};

}  // namespace portfwd
