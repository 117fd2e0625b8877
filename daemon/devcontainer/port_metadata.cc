#include "devcontainer/port_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "config/value_parsers.h"
#include "devcontainer/jsonc.h"

namespace portfwd::devcontainer {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostSnippets = 256;
constexpr std::size_t kMostPorts = 256;     // of each kind, in all snippets together
constexpr std::size_t kLongestText = 4096;  // of a key or label; bytes
constexpr std::size_t kMostComplaints = 16;
constexpr Port kFirstHostPort = 1024;

/// Their word and ours. A preview is a browser's window to us.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kOnAutoForward{{
    {"notify", "notify"},
    {"silent", "silent"},
    {"ignore", "ignore"},
    {"openBrowser", "open-browser"},
    {"openBrowserOnce", "open-browser-once"},
    {"openPreview", "open-browser"},
}};

void complain(PortMetadata& into, std::string sentence) {
  if (into.complaints.size() < kMostComplaints) into.complaints.push_back(std::move(sentence));
}

/// As a person may be shown it: one line of moderate length.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text.replace(57, text.npos, "...");
  return text;
}

std::optional<Port> read_port(const Json& value) {
  if (value.is_string()) return parse_port(value.get_ref<const std::string&>());
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  return number >= 1 && number <= 65535 ? std::optional(static_cast<Port>(number)) : std::nullopt;
}

bool is_service_name(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
}

bool is_this_container(std::string_view host) {
  return host == "localhost" || host == "127.0.0.1";
}

/// "service:port". Whatever else has a colon is none.
std::optional<ServicePort> parse_service_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos || !is_service_name(text.substr(0, colon))) return std::nullopt;
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return std::nullopt;
  const std::string_view host = text.substr(0, colon);
  return ServicePort{is_this_container(host) ? "" : std::string(host), *port};
}

// --- wanted ports
// ---------------------------------------------------------------------------------

void want(PortMetadata& into, WantedPort wanted) {
  const auto same = [&](const WantedPort& w) {
    return w.service == wanted.service && w.port == wanted.port;
  };
  std::erase_if(into.wanted, same);
  if (into.wanted.size() < kMostPorts) into.wanted.push_back(std::move(wanted));
}

void read_forward_port(PortMetadata& into, const Json& value) {
  if (const auto port = read_port(value)) return want(into, {"", *port, {}});
  if (value.is_string()) {
    if (const auto at = parse_service_port(value.get_ref<const std::string&>())) {
      return want(into, {at->service, at->port, {}});
    }
  }
  complain(into,
           fmt::format("forwardPorts: {} is neither a port nor \"service:port\"", shown(value)));
}

/// As of docker's -p: PORT, HOST:PORT or ADDRESS:HOST:PORT, whose address is not for it to say.
std::optional<WantedPort> parse_app_port(std::string_view text) {
  const auto last = text.rfind(':');
  const auto inside = parse_port(last == text.npos ? text : text.substr(last + 1));
  if (!inside) return std::nullopt;
  if (last == text.npos) return WantedPort{"", *inside, {}};
  const std::string_view before = text.substr(0, last);
  const auto host = parse_port(before.substr(before.rfind(':') + 1));  // npos + 1 is 0
  if (!host) return std::nullopt;
  return WantedPort{"", *inside, host};
}

void read_app_port(PortMetadata& into, const Json& value) {
  std::optional<WantedPort> wanted;
  if (const auto port = read_port(value)) {
    wanted = WantedPort{"", *port, {}};
  } else if (value.is_string()) {
    wanted = parse_app_port(value.get_ref<const std::string&>());
  }
  if (!wanted) {
    return complain(
        into, fmt::format("appPort: {} is neither a port nor \"host:container\"", shown(value)));
  }
  if (wanted->host_port && *wanted->host_port < kFirstHostPort) {
    complain(into, fmt::format("appPort: {} asks for a host port below {}, which only you can: "
                               "another one is taken",
                               shown(value), kFirstHostPort));
    wanted->host_port.reset();
  }
  want(into, *wanted);
}

/// One value, or a list of them.
template <class Read>
void for_each(const Json& value, Read read) {
  if (!value.is_array()) return read(value);
  for (const Json& item : value) read(item);
}

// --- attributes
// -----------------------------------------------------------------------------------

void read_on_auto_forward(PortMetadata& into, PortAttributes& out, const Json& value) {
  const auto known = std::ranges::find_if(
      kOnAutoForward, [&](const auto& pair) { return value.is_string() && value == pair.first; });
  if (known != kOnAutoForward.end()) {
    out.on_auto_forward = std::string(known->second);
  } else {
    complain(into, fmt::format("onAutoForward: {} is not known", shown(value)));
  }
}

void read_scheme(PortMetadata& into, PortAttributes& out, const Json& value) {
  if (value == "http" || value == "https") {
    out.scheme = value.get<std::string>();
  } else {
    complain(into, fmt::format("protocol: {} is neither \"http\" nor \"https\"", shown(value)));
  }
}

PortAttributes read_attributes(PortMetadata& into, const Json& object) {
  PortAttributes out;
  const auto with = [&](const char* key, auto read) {
    if (const auto found = object.find(key); found != object.end()) read(*found);
  };
  with("onAutoForward", [&](const Json& v) { read_on_auto_forward(into, out, v); });
  with("protocol", [&](const Json& v) { read_scheme(into, out, v); });
  with("label", [&](const Json& v) {
    if (v.is_string()) out.label = v.get_ref<const std::string&>().substr(0, kLongestText);
  });
  with("requireLocalPort", [&](const Json& v) { out.require_host_port = v == true; });
  with("elevateIfNeeded", [&](const Json& v) { out.elevate = v == true; });
  return out;
}

std::expected<PortSelector, std::string> parse_selector(std::string_view key) {
  if (key.size() > kLongestText) return std::unexpected("it is too long");
  if (const auto range = parse_port_range(key)) return *range;
  if (const auto service = parse_service_port(key)) {
    if (!service->service.empty()) return *service;
    return PortRange{service->port, service->port};
  }
  auto regex = Regex::compile(key);
  if (!regex) return std::unexpected(regex.error());
  return *std::move(regex);
}

void set(std::vector<PortMetadata::Entry>& entries, PortMetadata::Entry entry) {
  std::erase_if(entries, [&](const auto& e) { return e.selector == entry.selector; });
  if (entries.size() < kMostPorts) entries.push_back(std::move(entry));
}

void read_ports_attributes(PortMetadata& into, const Json& object) {
  for (const auto& [key, value] : object.items()) {
    auto selector = parse_selector(key);
    if (!selector) {
      complain(into,
               fmt::format("portsAttributes: {} can't be used: {}", shown(key), selector.error()));
    } else if (value.is_object()) {
      set(into.attributes, {*std::move(selector), read_attributes(into, value)});
    }
  }
}

PortMetadata read_snippet(const Json& snippet) {
  PortMetadata out;
  if (!snippet.is_object()) return out;
  const auto with = [&](const char* key, auto read) {
    if (const auto found = snippet.find(key); found != snippet.end()) read(*found);
  };
  with("forwardPorts", [&](const Json& value) {
    for_each(value, [&](const Json& port) { read_forward_port(out, port); });
  });
  with("appPort", [&](const Json& value) {
    for_each(value, [&](const Json& port) { read_app_port(out, port); });
  });
  with("portsAttributes", [&](const Json& value) {
    if (value.is_object()) read_ports_attributes(out, value);
  });
  with("otherPortsAttributes", [&](const Json& value) {
    if (value.is_object()) out.others = read_attributes(out, value);
  });
  return out;
}

}  // namespace

PortMetadata parse_port_metadata(std::string_view text) {
  const Json json = Json::parse(to_plain_json(text), nullptr, false);
  PortMetadata all;
  if (json.is_discarded() || !json.is_structured()) {
    complain(all, "it is no JSON object");
    return all;
  }
  if (json.is_object()) return read_snippet(json);
  std::size_t snippets = 0;
  for (const Json& snippet : json) {
    if (++snippets > kMostSnippets) break;
    all = merge(std::move(all), read_snippet(snippet));
  }
  return all;
}

PortMetadata merge(PortMetadata earlier, PortMetadata later) {
  for (WantedPort& port : later.wanted) want(earlier, std::move(port));
  for (PortMetadata::Entry& entry : later.attributes) set(earlier.attributes, std::move(entry));
  if (later.others) earlier.others = std::move(later.others);
  for (std::string& complaint : later.complaints) complain(earlier, std::move(complaint));
  return earlier;
}

namespace {

enum class Fit : std::uint8_t { None, Expression, Range, Exact };

Fit fit_of(const PortSelector& selector, std::string_view service, bool own, Port port,
           std::string_view command) {
  if (const auto* other = std::get_if<ServicePort>(&selector)) {
    return other->service == service && other->port == port ? Fit::Exact : Fit::None;
  }
  if (!own) return Fit::None;
  if (const auto* range = std::get_if<PortRange>(&selector)) {
    if (!range->contains(port)) return Fit::None;
    return range->first == range->last ? Fit::Exact : Fit::Range;
  }
  const bool matches = !command.empty() && std::get<Regex>(selector).matches(command);
  return matches ? Fit::Expression : Fit::None;
}

}  // namespace

const PortAttributes* attributes_for(const PortMetadata& metadata, std::string_view service,
                                     bool own, Port port, std::string_view command) {
  const PortAttributes* best = own && metadata.others ? &*metadata.others : nullptr;
  Fit best_fit = Fit::None;
  for (const auto& [selector, attributes] : metadata.attributes) {
    const Fit fit = fit_of(selector, service, own, port, command);
    if (fit > best_fit) {
      best = &attributes;
      best_fit = fit;
    }
  }
  return best;
}

}  // namespace portfwd::devcontainer
