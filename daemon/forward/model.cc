#include "forward/model.h"

#include <fmt/format.h>

#include <cerrno>

#include "base/text.h"
#include "base/unique_fd.h"
#include "net/presets.h"

namespace portfwd {

std::vector<Remedy> remedies_of(const ForwardInfo& conflict) {
  using Code = RemedyCode;
  if (is_descriptor_shortage({conflict.error, "bind"})) return {{Code::RaiseDescriptorLimit}};
  if (conflict.direction == Direction::Reverse) return {};
  switch (conflict.error) {
    case EADDRNOTAVAIL:
      return {{Code::ChooseBindAddress}};
    case EACCES:
      return {{Code::ChooseHostPort}, {Code::LowerUnprivilegedPort}};
    case kRemoteForbidden:
      return {{Code::AllowRemote}};
    default:
      return {};
  }
}

std::string_view name_of(Origin v) {
  switch (v) {
    case Origin::Auto:
      return "auto";
    case Origin::Declared:
      return "declared";
    case Origin::Manual:
      return "manual";
  }
  return "";
}

std::string_view name_of(ForwardState v) {
  switch (v) {
    case ForwardState::Active:
      return "active";
    case ForwardState::Waiting:
      return "waiting";
    case ForwardState::Lingering:
      return "lingering";
    case ForwardState::Conflict:
      return "conflict";
  }
  return "";
}

std::string_view name_of(Direction v) {
  return v == Direction::In ? "in" : "reverse";
}

std::string_view name_of(Event::Type v) {
  switch (v) {
    case Event::Type::PortAdded:
      return "PortAdded";
    case Event::Type::PortRemoved:
      return "PortRemoved";
    case Event::Type::ContainerAdded:
      return "ContainerAdded";
    case Event::Type::ContainerRemoved:
      return "ContainerRemoved";
    case Event::Type::Gap:
      return "Gap";
  }
  return "";
}

namespace {

using Kind = Refusal::Kind;

Answer<void> check_bind(const std::string& bind, bool allow_remote) {
  if (bind.empty() || bind == "localhost") return {};
  const auto address = IpAddress::parse(bind);
  if (!address) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("\"{}\" is not an IPv4 or IPv6 address: give \"localhost\" or an address of "
                    "this machine",
                    bind));
  }
  if (address->is_loopback() || allow_remote) return {};
  return refuse(Kind::InvalidArgument,
                fmt::format("other machines could connect to {}: to allow this, {}", bind,
                            remedy_sentence({{RemedyCode::AllowRemote}})));
}

}  // namespace

ForwardRequest declared_request(const DeclaredForward& declared) {
  const ForwardSpec& spec = declared;
  ForwardRequest request{.spec = spec,
                         .origin = Origin::Declared,
                         .by_container = declared.by_container,
                         .asked_by = "declared at " + declared.place.text()};
  request.spec.allow_missing = true;
  return request;
}

ForwardRequest restored_request(ForwardSpec kept) {
  return {.spec = std::move(kept), .asked_by = "a persistent manual request", .restored = true};
}

Answer<void> check_count(std::ptrdiff_t by_hand) {
  if (by_hand < kMostManualRequests) return {};
  return refuse(Kind::LimitExceeded,
                fmt::format("there are {} manual forwards already: end some of them", by_hand));
}

namespace {

struct TargetWords {
  std::string operator()(const UnixPath& target) const {
    return "socket " + printable(target.path);
  }
  std::string operator()(const AbstractName& target) const {
    return "socket @" + printable(target.name);
  }
  std::string operator()(const auto& port) const { return "port " + Target(port).text(); }
};

}  // namespace

std::string named(const Target& target) {
  return std::visit(TargetWords(), target);
}

Answer<void> check_length(std::string_view what, std::string_view text) {
  if (text.size() <= kLongestRequestText) return {};
  return refuse(Kind::InvalidArgument, fmt::format("{} has {} bytes: give at most {}", what,
                                                   text.size(), kLongestRequestText));
}

Answer<void> check_lengths(const ForwardSpec& spec) {
  const std::initializer_list<std::pair<std::string_view, std::string_view>> texts{
      {"the container's name", spec.container},
      {"the label", spec.label},
      {"the address to bind", spec.bind},
      {"the address inside", spec.container_address},
      {"the path on the host", spec.host_path}};
  for (const auto& [what, text] : texts) {
    if (auto ok = check_length(what, text); !ok) return ok;
  }
  return {};
}

Answer<Target> check_explained_target(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  if (auto ok = check_length("the target", text); !ok) return std::unexpected(ok.error());
  auto target = parse_target(text);
  if (target && !std::holds_alternative<VsockTarget>(*target)) return std::move(*target);
  const bool relative = text.starts_with(kUnix) && text.size() > kUnix.size() &&
                        text.size() <= kUnix.size() + kLongestUnixName && text[kUnix.size()] != '@';
  if (relative) return UnixPath{std::string(text.substr(kUnix.size()))};
  return refuse(Kind::InvalidArgument,
                fmt::format("\"{}\" is neither a port nor a Unix socket: give a number from 1 to "
                            "65535, such as 8080 or 53/udp, or unix:/PATH or unix:@NAME of at most "
                            "{} bytes",
                            printable(text), kLongestUnixName));
}

Answer<Target> check_target(std::string_view text) {
  if (auto ok = check_length("the port", text); !ok) return std::unexpected(ok.error());
  const auto target = parse_target(text);
  if (!target || (target->port() == nullptr && target->path().empty())) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("\"{}\" is neither a port nor a socket: give a number from 1 to 65535, "
                    "such as 8080 or 53/udp, or unix:/PATH",
                    text));
  }
  return *target;
}

Answer<void> read_host(std::string_view text, ForwardSpec& into) {
  constexpr std::string_view kUnix = "unix:";
  if (auto ok = check_length("the place on the host", text); !ok) return ok;
  if (const auto port = parse_port(text)) {
    into.host_port = port;
    return {};
  }
  const std::string_view path = text.starts_with(kUnix) ? text.substr(kUnix.size()) : "";
  const bool begins_well = path.starts_with('/') || path.starts_with('$');
  if (begins_well && path.size() <= kLongestUnixName && path.find('\0') == path.npos) {
    into.host_path = path;
    return {};
  }
  return refuse(
      Kind::InvalidArgument,
      fmt::format("\"{}\" is neither a port of the host nor a path: give a number from 1 to "
                  "65535, or unix: and an absolute path of at most {} bytes",
                  text, kLongestUnixName));
}

Answer<void> read_owner(std::string_view text, SocketOptions& into) {
  into.owner = parse_file_owner(text);
  if (into.owner) return {};
  return refuse(
      Kind::InvalidArgument,
      fmt::format("\"{}\" is not an owner: give UID:GID as numbers, such as 1000:1000", text));
}

namespace {

/// The rules that concern Unix sockets.
Answer<void> check_socket(const ForwardSpec& spec) {
  const bool to_socket = !spec.target.path().empty();
  if (!to_socket && (!spec.host_path.empty() || spec.socket != SocketOptions())) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("{} is a port, and only a Unix socket can be forwarded to a path: give "
                    "unix:/PATH as the target",
                    spec.target.text()));
  }
  if (!to_socket) return {};
  if (spec.direction == Direction::In && has_variables(spec.host_path)) {
    return refuse(Kind::InvalidArgument,
                  "only the path of a socket that is shared with a container may have variables: "
                  "give the path itself");
  }
  const bool leads_nowhere =
      spec.direction == Direction::Reverse && spec.host_path.empty() && !spec.host_port;
  if (leads_nowhere) {
    return refuse(Kind::InvalidArgument,
                  "the socket inside must lead to a place on the host: give unix:/PATH or a port");
  }
  if (!spec.container_address.empty()) {
    return refuse(Kind::InvalidArgument,
                  "a Unix socket has no address: leave out the address inside");
  }
  if (!spec.host_path.empty() && (spec.host_port || !spec.bind.empty())) {
    return refuse(Kind::InvalidArgument,
                  "the forward cannot listen at a path and at a port: give one of them");
  }
  return {};
}

}  // namespace

Answer<void> check(const ForwardRequest& request, bool allow_remote) {
  const ForwardSpec& spec = request.spec;
  if (auto lengths = check_lengths(spec); !lengths) return lengths;
  if (auto socket = check_socket(spec); !socket) return socket;
  const bool reverse = spec.direction == Direction::Reverse;
  if (reverse && spec.target.protocol() == Protocol::Udp) {
    return refuse(Kind::InvalidArgument,
                  fmt::format("a reverse forward can only be TCP: give {} without a protocol",
                              spec.target.port_number()));
  }
  if (reverse && (!spec.bind.empty() || !spec.container_address.empty())) {
    return refuse(Kind::InvalidArgument,
                  "a reverse forward leads from the container's own loopback to the host's: leave "
                  "out the addresses");
  }
  if (spec.persist && !request.lifeline.empty()) {
    return refuse(
        Kind::InvalidArgument,
        "a forward that ends with your connection cannot be persistent: leave out persist or "
        "while_connected");
  }
  if (auto bind = check_bind(spec.bind, allow_remote); !bind) return bind;
  if (!spec.container_address.empty() && !IpAddress::parse(spec.container_address)) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("\"{}\" is not an IPv4 or IPv6 address: give the one that the listener "
                    "inside is bound to, such as 127.0.0.1",
                    spec.container_address));
  }
  if (spec.host_port == Port{0}) {
    return refuse(Kind::InvalidArgument, "host port 0 is not valid: give one from 1 to 65535");
  }
  return {};
}

std::vector<Listener> listeners_for(const ForwardRequest& request,
                                    const std::vector<Listener>& all) {
  const auto address = IpAddress::parse(request.spec.container_address);
  std::vector<Listener> meant;
  for (Listener listener : all) {
    if (listener.target() != request.spec.target || !listener.unreachable.empty()) continue;
    if (address) {
      const IpAddress* bound = listener.ip_address();
      if (bound == nullptr || (*bound != *address && !bound->is_any())) continue;
      listener.local.ip().address = *address;
    }
    meant.push_back(std::move(listener));
  }
  return meant;
}

}  // namespace portfwd
