#include "devcontainer/port_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json_reader.h"
#include "config/value_readers.h"

namespace portfwd::devcontainer {

namespace {

/// Index after the string that begins at `at`; the end of the text when it is not closed.
std::size_t after_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return std::min(at + 1, text.size());
}

/// Index after the comment that begins at `at`; `at` when no comment begins there.
std::size_t after_comment(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("//")) return std::min(text.find('\n', at), text.size());
  if (!rest.starts_with("/*")) return at;
  const std::size_t end = text.find("*/", at + 2);
  return end == text.npos ? text.size() : end + 2;
}

void blank(std::string& text, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

std::string to_plain_json(std::string_view text) {
  std::string plain(text);
  std::size_t comma = text.npos;  // the comma, while nothing but blanks and comments follow it
  for (std::size_t i = 0; i < text.size();) {
    if (const std::size_t end = after_comment(text, i); end != i) {
      blank(plain, i, end);
      i = end;
      continue;
    }
    const char c = text[i];
    if ((c == '}' || c == ']') && comma != text.npos) plain[comma] = ' ';
    if (!is_space(c)) comma = c == ',' ? i : text.npos;
    i = c == '"' ? after_string(text, i) : i + 1;
  }
  return plain;
}

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostSnippets = 256;
constexpr std::size_t kMostPorts = 64;         // wanted, in all snippets together
constexpr std::size_t kMostAttributes = 256;   // keys, likewise
constexpr std::size_t kMostExpressions = 16;   // of those keys
constexpr std::size_t kMostSteps = 512;        // of all expressions together, see Regex::cost
constexpr std::size_t kLongestLabel = 256;     // bytes
constexpr std::size_t kLongestCommand = 1024;  // bytes that are matched
constexpr std::size_t kMostComplaints = 16;
constexpr Port kFirstHostPort = 1024;

/// Limits that remain while a text is read: all its snippets share them.
struct Reading {
  const Environment& environment;
  std::size_t ports = kMostPorts;
  std::size_t attributes = kMostAttributes;
  std::size_t expressions = kMostExpressions;
  std::size_t steps = kMostSteps;
};

/// Values in the metadata and in portfwd.toml(5). A preview is treated as opening a browser.
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

/// A value as a message shows it: one line of moderate length.
std::string shown(const Json& value) {
  constexpr std::size_t kLongest = 60;
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  const Json brief =
      value.is_string() ? Json(value.get_ref<const std::string&>().substr(0, kLongest)) : value;
  std::string text = brief.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kLongest) text.replace(kLongest - 3, text.npos, "...");
  return text;
}

Json substituted_in(const Json& value, const Environment& environment) {
  if (!value.is_string()) return value;
  return substituted(std::string_view(value.get_ref<const std::string&>()), environment);
}

std::optional<Port> read_port(const Json& value) {
  if (value.is_string()) return parse_port(value.get_ref<const std::string&>());
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  return number >= 1 && number <= 65535 ? std::optional(static_cast<Port>(number)) : std::nullopt;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

/// Whether it can be the name of a compose service. A number cannot, since "8080:80" means a host
/// port; nor can an address.
bool is_service_name(std::string_view text) {
  return !text.empty() && !is_number(text) && !IpAddress::parse(text) &&
         std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
         });
}

bool is_this_container(std::string_view host) {
  return host == "localhost" || host == "127.0.0.1";
}

/// Parses "service:port". @return nothing for any other text
std::optional<ServicePort> parse_service_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos) return std::nullopt;
  const std::string_view host = text.substr(0, colon);
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return std::nullopt;
  if (is_this_container(host)) return ServicePort{"", *port};
  if (!is_service_name(host)) return std::nullopt;
  return ServicePort{std::string(host), *port};
}

/// What is wrong with a text that is not a port, a range or a service's port, but may be meant as
/// one; "" for other texts.
std::string port_error(std::string_view text) {
  if (text.contains("${")) {
    return "the only known variables are ${localEnv:NAME} and ${localEnv:NAME:DEFAULT}";
  }
  if (is_number(text)) return "a port is a number from 1 to 65535";
  if (const auto colon = text.rfind(':'); colon != text.npos) {
    std::string_view host = text.substr(0, colon);
    if (!is_number(text.substr(colon + 1))) return "";
    if (is_number(host)) {
      return "this is no place for a host port: give the container's port alone, and for another "
             "host port appPort or a manual forward";
    }
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    if (IpAddress::parse(host)) return "an address is not allowed here: give only the port";
    return "";
  }
  if (text.find_first_not_of("0123456789- \t") == text.npos && text.contains('-')) {
    return "a range is written as \"3000-3005\": without spaces, the lower port first, at most "
           "65535";
  }
  return "";
}

// ---- wanted ports ------------------------------------------------------------------------------

void add_wanted(PortMetadata& into, WantedPort wanted) {
  const auto same = [&](const WantedPort& w) {
    return w.service == wanted.service && w.port == wanted.port;
  };
  std::erase_if(into.wanted, same);
  if (into.wanted.size() < kMostPorts) into.wanted.push_back(std::move(wanted));
}

void read_forward_port(PortMetadata& into, const Json& given, const Environment& environment) {
  const Json value = substituted_in(given, environment);
  if (const auto port = read_port(value)) return add_wanted(into, {"", *port, {}});
  if (value.is_string()) {
    if (const auto at = parse_service_port(value.get_ref<const std::string&>())) {
      return add_wanted(into, {at->service, at->port, {}});
    }
  }
  std::string wrong = value.is_string() ? port_error(value.get_ref<const std::string&>()) : "";
  if (wrong.empty()) wrong = "it is neither a port nor \"service:port\"";
  complain(into, fmt::format("forwardPorts: {}: {}", shown(given), wrong));
}

/// Parses an argument of docker's -p: PORT, HOST:PORT or ADDRESS:HOST:PORT. The address is ignored.
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

void read_app_port(PortMetadata& into, const Json& given, const Environment& environment) {
  const Json value = substituted_in(given, environment);
  std::optional<WantedPort> wanted;
  if (const auto port = read_port(value)) {
    wanted = WantedPort{"", *port, {}};
  } else if (value.is_string()) {
    wanted = parse_app_port(value.get_ref<const std::string&>());
  }
  if (!wanted) {
    return complain(into, fmt::format("appPort: {}: it is neither a port nor \"host:container\"",
                                      shown(given)));
  }
  if (wanted->host_port && *wanted->host_port < kFirstHostPort) {
    complain(into,
             fmt::format("appPort: {} requests a host port below {}, which only the user can: "
                         "another one is used",
                         shown(given), kFirstHostPort));
    wanted->host_port.reset();
  }
  wanted->by_engine = true;
  add_wanted(into, *wanted);
}

/// Reads one value or a list of values, up to the limit.
template <class Read>
void for_each_port(PortMetadata& into, Reading& reading, const Json& value, Read read) {
  const auto take = [&](const Json& port) {
    if (reading.ports == 0) return false;
    --reading.ports;
    read(into, port, reading.environment);
    return true;
  };
  const bool all = value.is_array() ? std::ranges::all_of(value, take) : take(value);
  if (!all) complain(into, fmt::format("it requests more than {} ports", kMostPorts));
}

// ---- attributes --------------------------------------------------------------------------------

void read_on_auto_forward(PortMetadata& into, PortAttributes& out, const Json& value) {
  const auto known = std::ranges::find_if(
      kOnAutoForward, [&](const auto& pair) { return value.is_string() && value == pair.first; });
  if (known != kOnAutoForward.end()) {
    out.on_auto_forward = std::string(known->second);
  } else {
    complain(into, fmt::format("onAutoForward: unknown value {}", shown(value)));
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
    if (v.is_string()) out.label = v.get_ref<const std::string&>().substr(0, kLongestLabel);
  });
  with("requireLocalPort", [&](const Json& v) { out.require_host_port = v == true; });
  with("elevateIfNeeded", [&](const Json& v) { out.elevate = v == true; });
  return out;
}

Answer<Regex> compile(std::string_view text, Reading& reading) {
  if (reading.expressions == 0) {
    return reject(fmt::format("it has more than {} expressions", kMostExpressions));
  }
  --reading.expressions;
  auto regex = Regex::compile(text, kContainersRegex);
  if (!regex) return regex;
  if (regex->cost() > reading.steps) {
    return reject("its expressions together would take too long to match");
  }
  reading.steps -= regex->cost();
  return regex;
}

Answer<PortSelector> parse_selector(std::string_view given, Reading& reading) {
  if (given.size() > kContainersRegex.longest) {
    return reject(fmt::format("it has more than {} bytes", kContainersRegex.longest));
  }
  const std::string key = substituted(given, reading.environment);
  if (const auto range = parse_port_range(key)) return *range;
  if (const auto service = parse_service_port(key)) {
    if (!service->service.empty()) return *service;
    return PortRange{service->port, service->port};
  }
  if (std::string wrong = port_error(key); !wrong.empty()) return reject(wrong);
  auto regex = compile(key, reading);
  if (regex) return *std::move(regex);
  if (key == given) return std::unexpected(regex.error());
  return reject("with its variables replaced it is not a regular expression");
}

bool is_expression(const PortMetadata::Entry& entry) {
  return std::holds_alternative<Regex>(entry.selector);
}

/// Later entries take precedence: beyond the limits the earliest expression is removed.
void set(std::vector<PortMetadata::Entry>& entries, PortMetadata::Entry entry) {
  std::erase_if(entries, [&](const auto& e) { return e.selector == entry.selector; });
  if (entries.size() == kMostAttributes) return;
  entries.push_back(std::move(entry));
  std::size_t expressions = 0;
  std::size_t steps = 0;
  for (auto it = entries.end(); it != entries.begin();) {
    if (!is_expression(*--it)) continue;
    steps += std::get<Regex>(it->selector).cost();
    if (++expressions > kMostExpressions || steps > kMostSteps) it = entries.erase(it);
  }
}

void read_ports_attributes(PortMetadata& into, const Json& object, Reading& reading) {
  for (const auto& [key, value] : object.items()) {
    if (reading.attributes == 0) {
      return complain(into,
                      fmt::format("portsAttributes: there are more than {}", kMostAttributes));
    }
    --reading.attributes;
    auto selector = parse_selector(key, reading);
    if (!selector) {
      complain(into, fmt::format("portsAttributes: {}: {}", shown(key), selector.error().text));
    } else if (value.is_object()) {
      set(into.attributes, {*std::move(selector), read_attributes(into, value)});
    }
  }
}

PortMetadata read_snippet(const Json& snippet, Reading& reading) {
  PortMetadata out;
  if (!snippet.is_object()) return out;
  const auto with = [&](const char* key, auto read) {
    if (const auto found = snippet.find(key); found != snippet.end()) read(*found);
  };
  with("forwardPorts", [&](const Json& v) { for_each_port(out, reading, v, read_forward_port); });
  with("appPort", [&](const Json& v) { for_each_port(out, reading, v, read_app_port); });
  with("portsAttributes", [&](const Json& v) {
    if (v.is_object()) read_ports_attributes(out, v, reading);
  });
  with("otherPortsAttributes", [&](const Json& v) {
    if (v.is_object()) out.others = read_attributes(out, v);
  });
  return out;
}

}  // namespace

PortMetadata parse_port_metadata(std::string_view text, const Environment& environment) {
  const auto json =
      read_json(to_plain_json(text.substr(0, kLargestMetadata + 1)), kLargestMetadata);
  PortMetadata all;
  if (!json) {
    complain(all, json.error().text);
    return all;
  }
  if (!json->is_structured()) {
    complain(all, "it is not a JSON object or array");
    return all;
  }
  Reading reading{environment};
  if (json->is_object()) return read_snippet(*json, reading);
  std::size_t snippets = 0;
  for (const Json& snippet : *json) {
    if (++snippets > kMostSnippets) break;
    all = merge(std::move(all), read_snippet(snippet, reading));
  }
  return all;
}

PortMetadata merge(PortMetadata earlier, PortMetadata later) {
  for (WantedPort& port : later.wanted) add_wanted(earlier, std::move(port));
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
  const bool matches =
      !command.empty() && std::get<Regex>(selector).matches(command.substr(0, kLongestCommand));
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

bool depends_on_command(const PortMetadata& metadata, Port port) {
  const auto named = [port](const PortMetadata::Entry& entry) {
    return fit_of(entry.selector, "", true, port, "") != Fit::None;
  };
  return std::ranges::any_of(metadata.attributes, is_expression) &&
         std::ranges::none_of(metadata.attributes, named);
}

std::size_t steps_to_match(const PortMetadata& metadata, std::string_view command) {
  std::size_t steps = 0;
  for (const PortMetadata::Entry& entry : metadata.attributes) {
    if (is_expression(entry)) steps += std::get<Regex>(entry.selector).cost();
  }
  return steps * std::min(command.size(), kLongestCommand);
}

}  // namespace portfwd::devcontainer
