#include "forward/forward_request.h"

#include <fmt/format.h>

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

Answer<void> check_bind(const std::string& bind, bool allow_remote) {
  if (bind.empty() || bind == "localhost") return {};
  const auto address = IpAddress::parse(bind);
  if (!address) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("\"{}\" is no IPv4 or IPv6 address: bind \"localhost\" or one address "
                    "of this machine",
                    bind));
  }
  if (address->is_loopback() || allow_remote) return {};
  return refuse(Kind::InvalidArgument,
                fmt::format("at {} other machines could connect: if they may, set allow_remote = "
                            "true in [host] of config.toml first, then `portfwdctl reload`",
                            bind));
}

}  // namespace

KeptForward kept_form(const ForwardRequest& request) {
  const ForwardOptions& options = request.options;
  return {.container = request.container_name,
          .target = request.target,
          .direction = options.direction,
          .host_port = options.host_port,
          .bind = options.bind,
          .container_address = options.container_address,
          .label = options.label};
}

ForwardRequest restored_request(const KeptForward& kept) {
  return {.container_name = kept.container,
          .target = kept.target,
          .options = {.host_port = kept.host_port,
                      .bind = kept.bind,
                      .container_address = kept.container_address,
                      .label = kept.label,
                      .persist = true,
                      .direction = kept.direction},
          .asked_by = "asked for by hand, and kept",
          .restored = true};
}

Answer<void> check_count(std::ptrdiff_t by_hand) {
  if (by_hand < kMostManualRequests) return {};
  return refuse(Kind::LimitExceeded,
                fmt::format("there are {} forwards by hand already: end some with `portfwdctl "
                            "unforward`",
                            by_hand));
}

Answer<void> check_length(std::string_view what, std::string_view text) {
  if (text.size() <= kLongestRequestText) return {};
  return refuse(Kind::InvalidArgument, fmt::format("{} has {} bytes: give at most {}", what,
                                                   text.size(), kLongestRequestText));
}

Answer<void> check_lengths(const ForwardOptions& options) {
  const std::initializer_list<std::pair<std::string_view, std::string_view>> texts{
      {"the label", options.label},
      {"the address to bind", options.bind},
      {"the address inside", options.container_address}};
  for (const auto& [what, text] : texts) {
    if (auto ok = check_length(what, text); !ok) return ok;
  }
  return {};
}

Answer<Target> check_target(std::string_view text) {
  if (auto ok = check_length("the port", text); !ok) return std::unexpected(ok.error());
  const auto target = parse_target(text);
  if (!target || target->port() == nullptr) {  // no other kind is forwarded yet
    return refuse(
        Kind::InvalidArgument,
        fmt::format("\"{}\" is no port: give a number from 1 to 65535, such as 8080 or 53/udp",
                    text));
  }
  return *target;
}

Answer<void> check_options(const ForwardOptions& options, Target target, bool allow_remote) {
  if (auto lengths = check_lengths(options); !lengths) return lengths;
  const bool reverse = options.direction == Direction::Reverse;
  if (reverse && target.protocol() == Protocol::Udp) {
    return refuse(Kind::InvalidArgument,
                  fmt::format("a reverse forward is of TCP: give {} alone", target.port_number()));
  }
  if (reverse && (!options.bind.empty() || !options.container_address.empty())) {
    return refuse(Kind::InvalidArgument,
                  "a reverse forward leads from the container's own loopback to the host's: leave "
                  "out the addresses");
  }
  if (options.persist && !options.lifeline.empty()) {
    return refuse(Kind::InvalidArgument,
                  "a forward that ends with your connection can't be kept: leave out persist, or "
                  "while_connected");
  }
  if (auto bind = check_bind(options.bind, allow_remote); !bind) return bind;
  if (!options.container_address.empty() && !IpAddress::parse(options.container_address)) {
    return refuse(Kind::InvalidArgument,
                  fmt::format("\"{}\" is no IPv4 or IPv6 address: give the one that the listener "
                              "inside is bound to, such as 127.0.0.1",
                              options.container_address));
  }
  if (options.host_port == Port{0}) {
    return refuse(Kind::InvalidArgument, "host port 0 is no port: give one from 1 to 65535");
  }
  return {};
}

std::vector<Listener> listeners_meant(const ForwardRequest& request,
                                      const std::vector<Listener>& all) {
  const auto address = IpAddress::parse(request.options.container_address);
  std::vector<Listener> meant;
  for (Listener listener : all) {
    if (listener.target() != request.target || !listener.unreachable.empty()) continue;
    if (address) {
      if (listener.local.ip().address != *address && !listener.local.ip().address.is_any())
        continue;
      listener.local.ip().address = *address;
    }
    meant.push_back(std::move(listener));
  }
  return meant;
}

}  // namespace portfwd
