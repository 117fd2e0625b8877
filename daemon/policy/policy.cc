#include "policy/policy.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <map>

#include "base/text.h"
#include "discover/names.h"

namespace portfwd {

bool matches_pattern(const std::string& pattern, const std::string& text) {
  return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

namespace {

using Wanted = Conditions;

/// One condition of a rule: functions that evaluate it and that format the wanted and actual value.
struct Condition {
  std::string_view key;
  bool (*is_set)(const Wanted&);
  bool (*holds)(const Wanted&, const Container&, const Listener&);  ///< only if given()
  std::string (*wanted)(const Wanted&);
  std::string (*seen)(const Wanted&, const Container&, const Listener&);
};

std::string in_quotes(std::string_view text) {
  return fmt::format("\"{}\"", text);
}

/// A condition that is a shell pattern on a text of the container.
template <auto Member, auto TextOf>
constexpr Condition text_condition(std::string_view key) {
  return {key, [](const Wanted& w) { return (w.*Member).has_value(); },
          [](const Wanted& w, const Container& c, const Listener&) {
            return matches_pattern(*(w.*Member), TextOf(c));
          },
          [](const Wanted& w) { return in_quotes(*(w.*Member)); },
          [](const Wanted&, const Container& c, const Listener&) {
            return in_quotes(names::printable(TextOf(c)));
          }};
}

std::string name_of_container(const Container& c) {
  return c.name;
}
std::string engine_of(const Container& c) {
  return c.engine;
}
std::string image_of(const Container& c) {
  return c.image;
}
std::string project_of(const Container& c) {
  return c.project;
}

bool labels_hold(const Wanted& w, const Container& c, const Listener&) {
  return std::ranges::all_of(w.labels, [&](const auto& wanted) {
    const auto label = c.labels.find(wanted.first);
    return label != c.labels.end() && matches_pattern(wanted.second, label->second);
  });
}

std::string labels_text(const std::map<std::string, std::string>& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += fmt::format("{}{} = {}", out.empty() ? "" : ", ", name, in_quotes(value));
  }
  return fmt::format("{{{}}}", out);
}

std::string labels_seen(const Wanted& w, const Container& c, const Listener&) {
  std::map<std::string, std::string> seen;
  for (const auto& [name, pattern] : w.labels) {
    const auto label = c.labels.find(name);
    if (label != c.labels.end()) seen[name] = names::printable(label->second);
  }
  return labels_text(seen);
}

bool process_holds(const Wanted& w, const Container&, const Listener& l) {
  return (!l.process.empty() && w.process->matches(l.process)) ||
         (!l.command.empty() && w.process->matches(l.command));
}

std::string process_seen(const Wanted&, const Container&, const Listener& l) {
  if (l.process.empty()) return "unknown";
  return fmt::format("{}, started as {}", in_quotes(l.process),
                     in_quotes(names::printable(l.command)));
}

/// The name of a Unix socket, as patterns have it. "" for everything that no pattern names: a port,
/// a relative path, and a name with a NUL byte, which would end the text.
struct UnixText {
  std::string operator()(const PortTarget&) const { return ""; }
  std::string operator()(const VsockTarget&) const { return ""; }
  std::string operator()(const UnixPath& target) const {
    return target.path.starts_with('/') ? target.path : "";
  }
  std::string operator()(const AbstractName& target) const {
    return target.name.find('\0') == target.name.npos ? "@" + target.name : "";
  }
};

/// Whether one of the patterns matches the name of a Unix socket. In a path, '*' does not match
/// '/'; abstract names have no folders. Source: fnmatch(3).
bool names_unix(const std::vector<std::string>& patterns, const Target& target) {
  const std::string text = std::visit(UnixText(), target);
  return !text.empty() && std::ranges::any_of(patterns, [&](const std::string& pattern) {
    if (pattern.front() != text.front()) return false;  // a path or an abstract name
    const int flags = text.front() == '/' ? FNM_PATHNAME : 0;
    return ::fnmatch(pattern.c_str(), text.c_str(), flags) == 0;
  });
}

/// For display: the name of a Unix socket in quotes.
std::string unix_name_shown(const Target& target) {
  assert(target.port() == nullptr);
  return in_quotes(printable(address_of(target, {}).text()));
}

std::string patterns_text(const Wanted& w) {
  std::string out;
  for (const std::string& pattern : w.unix_names) {
    out += (out.empty() ? "" : ", ") + in_quotes(pattern);
  }
  return out;
}

std::string ports_text(const Wanted& w) {
  std::string out;
  for (const PortRange& range : w.ports) out += (out.empty() ? "" : ", ") + range.text();
  return out;
}

constexpr std::array kOnContainer{
    text_condition<&Conditions::container, name_of_container>("container"),
    text_condition<&Conditions::engine, engine_of>("engine"),
    text_condition<&Conditions::image, image_of>("image"),
    text_condition<&Conditions::project, project_of>("project"),
    Condition{"labels", [](const Wanted& w) { return !w.labels.empty(); }, labels_hold,
              [](const Wanted& w) { return labels_text(w.labels); }, labels_seen},
};
constexpr std::array kOnListener{
    Condition{"protocol", [](const Wanted& w) { return w.protocol.has_value(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return *w.protocol == l.protocol;
              },
              [](const Wanted& w) { return std::string(name_of(*w.protocol)); },
              [](const Wanted&, const Container&, const Listener& l) {
                return std::string(name_of(l.protocol));
              }},
    Condition{"port", [](const Wanted& w) { return !w.ports.empty(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                const Target target = l.target();
                return target.port() != nullptr && contains(w.ports, target.port_number());
              },
              ports_text,
              [](const Wanted&, const Container&, const Listener& l) {
                const Target target = l.target();
                return target.port() == nullptr ? "none" : std::to_string(target.port_number());
              }},
    Condition{"unix socket", [](const Wanted& w) { return !w.unix_names.empty(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return names_unix(w.unix_names, l.target());
              },
              patterns_text,
              [](const Wanted&, const Container&, const Listener& l) {
                const Target target = l.target();
                return target.port() == nullptr ? unix_name_shown(target) : "none";
              }},
    Condition{"process", [](const Wanted& w) { return w.process.has_value(); }, process_holds,
              [](const Wanted& w) { return in_quotes(w.process->text()); }, process_seen},
    Condition{"uid", [](const Wanted& w) { return w.uid.has_value(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return l.uid != kUnknownUid && *w.uid == l.uid;
              },
              [](const Wanted& w) { return std::to_string(*w.uid); },
              [](const Wanted&, const Container&, const Listener& l) {
                return l.uid == kUnknownUid ? "unknown" : std::to_string(l.uid);
              }},
    Condition{"address", [](const Wanted& w) { return w.address.has_value(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return l.ip_address() != nullptr && *w.address == *l.ip_address();
              },
              [](const Wanted& w) { return w.address->text(); },
              [](const Wanted&, const Container&, const Listener& l) {
                return l.ip_address() == nullptr ? "none" : l.ip_address()->text();
              }},
};

template <std::size_t N>
bool all_hold(const std::array<Condition, N>& conditions, const Wanted& w, const Container& c,
              const Listener& l) {
  return std::ranges::all_of(
      conditions, [&](const Condition& one) { return !one.is_set(w) || one.holds(w, c, l); });
}

template <std::size_t N>
void add_mismatches(const std::array<Condition, N>& conditions, const Wanted& w, const Container& c,
                    const Listener& l, std::string& out) {
  for (const Condition& one : conditions) {
    if (!one.is_set(w) || one.holds(w, c, l)) continue;
    out += fmt::format("{}{} is {}, not {}", out.empty() ? "" : "; ", one.key, one.seen(w, c, l),
                       one.wanted(w));
  }
}

}  // namespace

bool matches(const Conditions& when, const Container& container, const Listener& listener) {
  return all_hold(kOnContainer, when, container, listener) &&
         all_hold(kOnListener, when, container, listener);
}

bool may_match(const Conditions& when, const Container& container) {
  return all_hold(kOnContainer, when, container, {});
}

bool matches_whole(const Conditions& when, const Container& container) {
  return may_match(when, container) &&
         std::ranges::none_of(kOnListener, [&](const Condition& one) { return one.is_set(when); });
}

std::string mismatch_text(const Conditions& when, const Container& container,
                          const Listener& listener) {
  std::string out;
  add_mismatches(kOnContainer, when, container, listener, out);
  add_mismatches(kOnListener, when, container, listener, out);
  return out;
}

namespace {

constexpr Duration kEphemeralSettle = std::chrono::milliseconds(300);
constexpr Port kFirstHostPort = 1024;  // that a container can request
constexpr const char* kNeverElevated =
    "; elevateIfNeeded is ignored, since portfwd has no more rights than you: `sysctl "
    "net.ipv4.ip_unprivileged_port_start=80` lets every user bind such ports";

constexpr const char* kNothingMatches =
    "; its program is unknown, so no regular expression of the dev container's portsAttributes "
    "matches it: use the port number there";

const Rule* first_match(const Settings& settings, const Container& container,
                        const Listener& listener) {
  const auto found = std::ranges::find_if(
      settings.rules, [&](const Rule& rule) { return matches(rule, container, listener); });
  return found == settings.rules.end() ? nullptr : &*found;
}

std::string name_of(const Rule& rule) {
  return fmt::format("the rule at {}", rule.place.text());
}

bool names_target(const Rule* rule) {
  return rule != nullptr && (!rule->ports.empty() || !rule->unix_names.empty());
}

bool ignores(const std::optional<std::string>& on_auto_forward) {
  return on_auto_forward == "ignore";
}

/// The condition of a rule that names this target alone.
std::string naming_condition(const Target& target) {
  if (target.port() != nullptr) return fmt::format("ports = [{}]", target.port_number());
  return fmt::format("unix = [{}]", unix_name_shown(target));
}

/// Like each by_* function: nothing if it does not decide, so that the next one is tried.
std::optional<Decision> by_rule(const Rule* rule) {
  if (rule == nullptr || !ignores(rule->on_auto_forward)) return std::nullopt;
  return Decision{false, name_of(*rule) + " says on_auto_forward = \"ignore\""};
}

std::optional<Decision> by_attributes(const Rule* rule, const Attributes& attributes) {
  if (rule != nullptr && rule->on_auto_forward)
    return std::nullopt;  // the rule overrides the container
  if (!ignores(attributes.on_auto_forward)) return std::nullopt;
  return Decision{false, attributes.source};
}

/// Whether an sshd session listens on behalf of its client: `ssh -R`, or an X display. The server
/// itself is "sshd: COMMAND [listener] ..." or has an ordinary command line; a session is
/// "sshd: USER@..." or "sshd-session: USER@...", or was executed with -R. Source: sshd.c, session.c
/// (setproctitle).
bool listens_for_ssh_client(const Listener& listener) {
  if (listener.process.str() != "sshd" && listener.process.str() != "sshd-session") return false;
  const std::string& command = listener.command;
  if (command.find("[listener]") != std::string::npos) return false;
  return command.starts_with("sshd: ") || command.starts_with("sshd-session: ") ||
         command.ends_with(" -R");
}

/// If such an ssh client runs on this host, the forward could lead back to its own host port, and
/// each connection would open the next one.
std::optional<Decision> by_tunnel(const Rule* rule, const Listener& listener) {
  if (names_target(rule) || (rule != nullptr && rule->on_auto_forward)) return std::nullopt;
  if (!listens_for_ssh_client(listener)) return std::nullopt;
  return Decision{
      false, fmt::format("sshd listens on it for its client (ssh -R), so it leads out of "
                         "the container and perhaps back to this host; a rule with {} forwards it "
                         "nevertheless",
                         naming_condition(listener.target()))};
}

/// A port that the engine publishes gets no second forward, unless a rule names the port.
std::optional<Decision> by_engine(const Rule* rule, const Container& container,
                                  const Listener& listener) {
  const IpAddress* inside = listener.ip_address();
  if (inside == nullptr) return std::nullopt;  // engines publish ports only
  const bool may_be = container.publishes_unknown && !inside->is_loopback();
  if (may_be && !names_target(rule)) {
    return Decision{false,
                    "the engine publishes ports of the container and has not answered yet which"};
  }
  const std::string published = published_at(container, listener);
  if (published.empty() || names_target(rule)) return std::nullopt;
  return Decision{false, fmt::format("{} publishes it itself, at {}; a rule with ports = [{}] "
                                     "forwards it nevertheless",
                                     container.engine.empty() ? "the engine" : container.engine,
                                     published, listener.target().port_number())};
}

/// The last word, if nothing before decides: [ports] on ports, [unix] on Unix sockets.
class BySection {
 public:
  BySection(const Settings& settings, const Rule* rule) : settings_(settings), rule_(rule) {}

  Decision operator()(const PortTarget& target) const {
    const Settings::Ports& ports = settings_.ports;
    const bool asked = rule_ != nullptr && rule_->on_auto_forward;
    if (!asked && ignores(ports.on_auto_forward)) {
      return {false, "[ports] on_auto_forward = \"ignore\""};
    }
    if (names_target(rule_)) return {true, name_of(*rule_) + " names it"};
    if (contains(ports.exclude, target.port)) {
      return {false, fmt::format("[ports] exclude names port {}", target.port)};
    }
    if (!contains(ports.include, target.port)) {
      return {false, fmt::format("[ports] include does not name port {}", target.port)};
    }
    return {true, "[ports] include names it and nothing excludes it"};
  }
  Decision operator()(const UnixPath& target) const { return decide_unix(target); }
  Decision operator()(const AbstractName& target) const { return decide_unix(target); }
  Decision operator()(const VsockTarget&) const { return {false, "vsock ports are not forwarded"}; }

 private:
  [[nodiscard]] Decision decide_unix(const Target& target) const {
    if (names_target(rule_)) return {true, name_of(*rule_) + " names it"};
    const std::string shown = unix_name_shown(target);
    if (names_unix(settings_.unix_sockets.exclude, target)) {
      return {false, fmt::format("[unix] exclude names {}", shown)};
    }
    if (!names_unix(settings_.unix_sockets.include, target)) {
      return {false, fmt::format("[unix] include does not name {}", shown)};
    }
    return {true, "[unix] include names it and nothing excludes it"};
  }

  const Settings& settings_;
  const Rule* rule_;
};

/// Applies the limits of UdpInterest to this listener. Its port may be watched because of another
/// container's rule or forward.
std::optional<Decision> by_udp_detection(const PolicyContext& context, const Rule* rule,
                                         Port port) {
  const bool asked = rule != nullptr && rule->protocol == Protocol::Udp;
  if (!context.settings.detect.udp && !asked) {
    return Decision{false, "UDP is not detected: [detect] udp = false"};
  }
  if (names_target(rule) || !context.ephemeral.contains(port)) return std::nullopt;
  return Decision{false,
                  fmt::format("UDP clients take their ports from {}; a rule with ports = [{}] "
                              "forwards it nevertheless",
                              context.ephemeral.text(), port)};
}

/// Whether the listener is detected at all and can be dialled; precedes what a rule decides.
std::optional<Decision> by_detection(const PolicyContext& context, const Rule* rule,
                                     const Listener& listener) {
  const Settings& settings = context.settings;
  if (listener.protocol == Protocol::Udp) {
    const Port port = listener.target().port_number();
    if (auto decided = by_udp_detection(context, rule, port)) return decided;
  }
  const bool names_address = rule != nullptr && rule->address;
  const IpAddress* inside = listener.ip_address();
  if (!names_address && inside != nullptr &&
      std::ranges::count(settings.ports.ignore_addresses, *inside) > 0) {
    return Decision{false, fmt::format("it listens on {}, which is in [ports] ignore_addresses",
                                       inside->text())};
  }
  if (!listener.unreachable.empty()) return Decision{false, listener.unreachable};
  return std::nullopt;
}

Duration settle_of(const PolicyContext& context, const Rule* rule, const Target& target) {
  if (rule != nullptr && rule->settle) return *rule->settle;
  const bool ephemeral =
      target.port() != nullptr && context.ephemeral.contains(target.port_number());
  if (names_target(rule) || !ephemeral) return Duration::zero();
  return kEphemeralSettle;
}

/// The default treatment with what the container requests.
Treatment requested_treatment(const Settings& settings, const Attributes& requested, Port port) {
  Treatment out = default_treatment(settings);
  out.on_auto_forward = requested.on_auto_forward.value_or(out.on_auto_forward);
  out.label = requested.label;
  out.scheme = requested.scheme.value_or(out.scheme);
  if (requested.require_host_port && port >= kFirstHostPort) {
    out.host_port = port;
    out.require_host_port = true;
  }
  return out;
}

/// `out` with what the rule sets.
Treatment treatment_of(Treatment out, const Rule* rule, Port port) {
  if (rule == nullptr) return out;
  out.on_auto_forward = rule->on_auto_forward.value_or(out.on_auto_forward);
  out.label = rule->label.value_or(out.label);
  out.scheme = rule->scheme.value_or(out.scheme);
  if (rule->host_port) {
    assert(contains(rule->ports, port));  // host_port needs ports, and the rule matches
    out.host_port = static_cast<Port>(*rule->host_port + port - rule->ports.front().first);
  }
  out.require_host_port = rule->require_host_port.value_or(out.require_host_port);
  out.bind = rule->bind;
  out.restrict_to_user = rule->restrict_to_user.value_or(out.restrict_to_user);
  out.allow_remote = rule->allow_remote.value_or(out.allow_remote);
  out.allow_users = rule->allow_users.value_or(out.allow_users);
  out.proxy_protocol = rule->proxy_protocol.value_or(out.proxy_protocol);
  return out;
}

}  // namespace

std::optional<unsigned> most_of_kind(const Settings& settings, const Target& target) {
  if (target.path().empty()) return std::nullopt;
  return settings.unix_sockets.max_sockets;
}

Treatment default_treatment(const Settings& settings) {
  return {.on_auto_forward = settings.ports.on_auto_forward,
          .restrict_to_user = settings.host.restrict_to_user,
          .allow_remote = settings.host.allow_remote};
}

Decision decide(const PolicyContext& context, const Container& container,
                const Listener& listener) {
  const Settings& settings = context.settings;
  const Rule* rule = first_match(settings, container, listener);
  auto decided = by_detection(context, rule, listener);
  if (!decided) decided = by_rule(rule);
  const Attributes requested = context.metadata_policy.attributes(container, listener);
  if (!decided) decided = by_attributes(rule, requested);
  if (!decided) decided = by_tunnel(rule, listener);
  if (!decided) decided = by_engine(rule, container, listener);
  const Target target = listener.target();
  if (!decided) decided = std::visit(BySection(settings, rule), target);
  decided->settle = settle_of(context, rule, target);
  const Port port = target.port_number();
  decided->treatment = treatment_of(requested_treatment(settings, requested, port), rule, port);
  if (decided->forward && requested.elevate && port < kFirstHostPort) {
    decided->because += kNeverElevated;
  }
  if (decided->forward && requested.unmatched) decided->because += kNothingMatches;
  return std::move(*decided);
}

std::vector<std::string> rules_tried(const Settings& settings, const Container& container,
                                     const Listener& listener) {
  std::vector<std::string> out;
  bool decided = false;
  for (const Rule& rule : settings.rules) {
    const std::string mismatch = mismatch_text(rule, container, listener);
    if (decided) {
      out.push_back(name_of(rule) + " is not tried: an earlier rule matches");
    } else if (mismatch.empty()) {
      decided = true;
      out.push_back(name_of(rule) + " matches");
    } else {
      out.push_back(fmt::format("{} does not match: {}", name_of(rule), mismatch));
    }
  }
  return out;
}

std::string ignored_whole(const Settings& settings, const Container& container) {
  for (const Rule& rule : settings.rules) {
    if (!may_match(rule, container)) continue;
    const bool whole = matches_whole(rule, container);
    if (whole && ignores(rule.on_auto_forward)) return name_of(rule) + " ignores it";
    if (whole && !rule.on_auto_forward) break;  // the container's own request may decide
    return "";
  }
  const Attributes attributes = MetadataPolicy::attributes(container);
  return ignores(attributes.on_auto_forward) ? attributes.source : "";
}

UdpInterest udp_interest(const Settings& settings, const PortRange& ephemeral,
                         const std::vector<Port>& asked) {
  UdpInterest interest{.wanted = settings.detect.udp || !asked.empty(), .ephemeral = ephemeral};
  for (const Rule& rule : settings.rules) {
    if (rule.protocol == Protocol::Tcp) continue;
    interest.wanted |= rule.protocol == Protocol::Udp;
    interest.named.insert(interest.named.end(), rule.ports.begin(), rule.ports.end());
  }
  for (const Port port : asked) interest.named.push_back({port, port});
  return interest;
}

namespace {

bool covers(const PublishedPorts& ports, const PortTarget& target) {
  const int offset = target.port - ports.container_port;
  return ports.protocol == target.protocol && offset >= 0 &&
         static_cast<unsigned>(offset) < ports.count;
}

Port host_port_of(const PublishedPorts& ports, const PortTarget& target) {
  return static_cast<Port>(ports.host_port + target.port - ports.container_port);
}

}  // namespace

std::string published_at(const std::vector<PublishedPorts>& published, const Target& target) {
  for (const PublishedPorts& ports : published) {
    if (target.port() == nullptr || !covers(ports, *target.port())) continue;
    const Port port = host_port_of(ports, *target.port());
    if (ports.host_address.empty()) return fmt::format("port {} of every address", port);
    const bool v6 = ports.host_address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", ports.host_address, port)
              : fmt::format("{}:{}", ports.host_address, port);
  }
  return {};
}

std::optional<Port> published_on_loopback(const std::vector<PublishedPorts>& published,
                                          const Target& target) {
  for (const PublishedPorts& ports : published) {
    const auto address = IpAddress::parse(ports.host_address);
    const bool loopback = ports.host_address.empty() || (address && address->is_loopback());
    if (!loopback || target.port() == nullptr || !covers(ports, *target.port())) continue;
    return host_port_of(ports, *target.port());
  }
  return std::nullopt;
}

std::string published_at(const Container& container, const Listener& listener) {
  const Target target = listener.target();
  const IpAddress* inside = listener.ip_address();
  if (inside == nullptr) return {};
  if (container.engine == "rootlesskit") return fmt::format("port {}", target.port_number());
  if (inside->is_loopback()) return {};
  return published_at(container.published, target);
}

}  // namespace portfwd
