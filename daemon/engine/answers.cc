// See answers.h: slices of JSON, then containers and events.

#include "engine/answers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/json_reader.h"

namespace portfwd {

namespace {

enum class Kind : std::uint8_t { Other, Quote, Open, Close, End };

/// Kinds of characters in the search for the end of a value. End: it ends a number or a word.
constexpr auto kKinds = [] {
  std::array<Kind, 256> kinds{};
  for (const char c : {',', ' ', '\t', '\r', '\n'})
    kinds[static_cast<unsigned char>(c)] = Kind::End;
  kinds['"'] = Kind::Quote;
  kinds['['] = kinds['{'] = Kind::Open;
  kinds[']'] = kinds['}'] = Kind::Close;
  return kinds;
}();

Kind kind_of(char c) {
  return kKinds[static_cast<unsigned char>(c)];
}

bool is_space(char c) {
  return c != ',' && kind_of(c) == Kind::End;
}

/// Index after the string that begins at `at`; the end of the text if it is not closed.
std::size_t after_string(std::string_view text, std::size_t at) {
  const char* const end = text.data() + text.size();
  for (const char* p = text.data() + at + 1; p < end; ++p) {
    if (*p == '"') return static_cast<std::size_t>(p + 1 - text.data());
    if (*p == '\\') ++p;
  }
  return text.size();
}

/// Index after the list or object that begins at `at`; npos if it is not closed.
std::size_t after_brackets(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  while (at < text.size()) {
    switch (kind_of(text[at])) {
      case Kind::Quote:
        at = after_string(text, at);
        continue;
      case Kind::Open:
        ++depth;
        break;
      case Kind::Close:
        if (--depth == 0) return at + 1;
        break;
      default:
        break;
    }
    ++at;
  }
  return text.npos;
}

}  // namespace

JsonSlices::JsonSlices(std::string_view text) : text_(text) {
  skip_space();
  if (accept('[')) {
    close_ = ']';
  } else if (accept('{')) {
    close_ = '}';
  } else {
    ended_ = true;
  }
}

std::optional<JsonSlice> JsonSlices::next() {
  if (ended_) return std::nullopt;
  skip_space();
  if (accept(close_)) return first_ ? end() : fail();  // after a comma
  JsonSlice slice;
  if (is_object()) {
    slice.key = read_string();
    skip_space();
    if (slice.key.data() == nullptr || !accept(':')) return fail();
    skip_space();
  }
  slice.value = read_value();
  if (slice.value.empty()) return fail();
  first_ = false;
  skip_space();
  if (accept(',')) return slice;
  if (!accept(close_)) return fail();
  (void)end();
  return slice;
}

std::optional<JsonSlice> JsonSlices::end() {
  ended_ = true;
  skip_space();
  complete_ = at_ == text_.size();
  return std::nullopt;
}

std::optional<JsonSlice> JsonSlices::fail() {
  ended_ = true;
  return std::nullopt;
}

void JsonSlices::skip_space() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
}

bool JsonSlices::accept(char c) {
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

/// @return the string without its quotes; null if there is none here
std::string_view JsonSlices::read_string() {
  if (at_ >= text_.size() || text_[at_] != '"') return {};
  const std::size_t begin = at_;
  at_ = after_string(text_, at_);
  if (at_ - begin < 2) return {};
  return text_.substr(begin + 1, at_ - begin - 2);
}

/// @return "" if there is no value here or it is not closed
std::string_view JsonSlices::read_value() {
  const std::size_t begin = at_;
  if (at_ >= text_.size()) return {};
  const Kind kind = kind_of(text_[at_]);
  if (kind == Kind::Quote) {
    at_ = after_string(text_, at_);
  } else if (kind == Kind::Open) {
    at_ = after_brackets(text_, at_);
    if (at_ == text_.npos) return {};
  } else {
    while (at_ < text_.size() && kind_of(text_[at_]) == Kind::Other) ++at_;
  }
  return text_.substr(begin, at_ - begin);
}

namespace {

using Json = nlohmann::json;

constexpr unsigned kPorts = 65536;
constexpr std::size_t kMostContainers = 4096;    // in a list
constexpr std::size_t kMostPublished = 1024;     // ranges of one container
constexpr std::size_t kMostNetworks = 64;        // addresses of one container
constexpr std::size_t kLongestMember = 1 << 14;  // bytes of a member other than labels and ports

/// Prefixes of the labels that portfwd itself reads.
constexpr std::array<std::string_view, 4> kOwnLabels{"portfwd", "devcontainer.",
                                                     "com.docker.compose.", "io.podman.compose."};

/// The parsed slice; null if it is too long.
Json value_of(std::string_view slice) {
  return slice.size() > kLongestMember ? Json() : parse_json(slice);
}

/// Whether the slice is a string of printable ASCII without escapes, which needs no parsing.
bool is_plain(std::string_view slice) {
  return slice.size() >= 2 && slice.front() == '"' && slice.find('"', 1) == slice.size() - 1 &&
         std::ranges::all_of(slice, [](char c) { return c >= ' ' && c < 127 && c != '\\'; });
}

/// @return the text of a string; "" for other slices and for one that is longer than `longest`
std::string text_of(std::string_view slice, std::size_t longest = kLongestMember) {
  if (is_plain(slice) && slice.size() <= longest) return std::string(slice, 1, slice.size() - 2);
  if (slice.size() > longest) return {};
  const Json value = parse_json(slice);
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// @return the number; 0 unless it is one from 0 to `most`
template <class Number>
Number number_of(std::string_view slice, std::int64_t most = std::numeric_limits<Number>::max()) {
  std::int64_t number = 0;
  const char* end = slice.data() + slice.size();
  const auto read = std::from_chars(slice.data(), end, number);
  const bool whole = read.ec == std::errc() && read.ptr == end;
  return whole && number >= 0 && number <= most ? static_cast<Number>(number) : Number{0};
}

/// The first name without the slash that Docker puts before it.
std::string first_name_of(std::string_view slice) {
  const Json names = value_of(slice);
  if (!names.is_array() || names.empty() || !names.front().is_string()) return {};
  std::string name = names.front().get<std::string>();
  if (name.starts_with('/')) name.erase(0, 1);
  return name;
}

// ---- labels ------------------------------------------------------------------------------------

/// Collects labels within the limits.
class LabelCollector {
 public:
  void add(const JsonSlice& label) {
    const bool metadata = label.key == kMetadataLabel;
    const std::size_t longest = metadata ? kLongestMetadata : kLongestLabel;
    const std::size_t written =
        metadata ? kLargestJson : 6 * kLongestLabel;  // escapes have 6 bytes
    const std::size_t bytes = label.key.size() + label.value.size();
    if (labels_.size() == kMostLabels || bytes > written) return;
    if (!metadata && bytes > std::exchange(to_read_, to_read_ - std::min(bytes, to_read_))) return;
    const Json key = parse_json({label.key.data() - 1, label.key.size() + 2});  // with its quotes
    const Json value = parse_json(label.value);
    if (!key.is_string() || !value.is_string()) return;
    store(key.get<std::string>(), value.get<std::string>(), longest, metadata);
  }
  [[nodiscard]] std::map<std::string, std::string> done() { return std::move(labels_); }

 private:
  void store(std::string key, std::string value, std::size_t longest, bool metadata) {
    const std::size_t bytes = metadata ? 0 : key.size() + value.size();
    if (key.size() > kLongestLabel || value.size() > longest || bytes > room_) return;
    room_ -= bytes;
    labels_.insert_or_assign(std::move(key), std::move(value));
  }

  std::map<std::string, std::string> labels_;
  std::size_t room_ = kMostLabelBytes;
  std::size_t to_read_ = 4 * kMostLabelBytes;  ///< bytes as written that are still to be parsed
};

bool is_own(std::string_view key) {
  return std::ranges::any_of(kOwnLabels,
                             [&](std::string_view own) { return key.starts_with(own); });
}

std::map<std::string, std::string> labels_of(std::string_view object) {
  LabelCollector collector;
  for (const bool own : {true, false}) {
    JsonSlices labels(object);
    if (!labels.is_object()) break;
    while (const auto label = labels.next()) {
      if (is_own(label->key) == own) collector.add(*label);
    }
  }
  return collector.done();
}

/// The value of the first of these labels that exists, or "".
std::string label_of(const ContainerFacts& facts, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const auto found = facts.labels.find(key); found != facts.labels.end()) {
      return found->second;
    }
  }
  return {};
}

// ---- published ports ---------------------------------------------------------------------------

bool is_valid(const PublishedPorts& ports) {
  return ports.host_port != 0 && ports.container_port != 0 && ports.count != 0 &&
         ports.host_port + ports.count <= kPorts && ports.container_port + ports.count <= kPorts;
}

/// Add the ports for each protocol, of which podman may give several, separated by commas.
/// Protocols other than TCP and UDP are ignored.
void add_ports(PublishedPorts ports, std::string_view protocols, std::vector<PublishedPorts>& to) {
  if (!is_valid(ports)) return;
  if (ports.host_address == "0.0.0.0" || ports.host_address == "::") ports.host_address.clear();
  for (const Protocol protocol : {Protocol::Tcp, Protocol::Udp}) {
    ports.protocol = protocol;
    if (protocols.find(name_of(protocol)) != protocols.npos) to.push_back(ports);
  }
}

/// Add one element of a list of ports:
/// - Docker: {"IP","PrivatePort","PublicPort","Type"}; without PublicPort if it is only exposed
/// - podman: {"host_ip","container_port","host_port","range","protocol"}
void add_ports(std::string_view object, std::vector<PublishedPorts>& to) {
  if (!object.contains("PublicPort") && !object.contains("host_port")) return;  // only exposed
  PublishedPorts ports;
  std::string_view host_port;
  std::string_view container_port;
  std::string_view address;
  std::string_view protocols;
  JsonSlices members(object);
  while (const auto member = members.next()) {
    const std::string_view key = member->key;
    if (key == "PublicPort" || key == "host_port") host_port = member->value;
    if (key == "PrivatePort" || key == "container_port") container_port = member->value;
    if (key == "IP" || key == "host_ip") address = member->value;
    if (key == "Type" || key == "protocol") protocols = member->value;
    if (key == "range") ports.count = number_of<unsigned>(member->value, kPorts);
  }
  if (host_port.empty()) return;
  ports.host_port = number_of<Port>(host_port);
  ports.container_port = number_of<Port>(container_port);
  ports.host_address = text_of(address);
  add_ports(std::move(ports), protocols, to);
}

bool continues(const PublishedPorts& a, const PublishedPorts& b) {
  return a.protocol == b.protocol && a.host_address == b.host_address &&
         a.host_port + a.count == b.host_port && a.container_port + a.count == b.container_port;
}

/// Sort the ports and join adjacent ones to ranges.
std::vector<PublishedPorts> joined(std::vector<PublishedPorts> all) {
  std::ranges::sort(all);
  const auto twice = std::ranges::unique(all);
  all.erase(twice.begin(), twice.end());
  std::vector<PublishedPorts> ranges;
  for (PublishedPorts& ports : all) {
    if (!ranges.empty() && continues(ranges.back(), ports)) {
      ranges.back().count += ports.count;
    } else {
      ranges.push_back(std::move(ports));
    }
  }
  if (ranges.size() > kMostPublished) ranges.resize(kMostPublished);
  return ranges;
}

std::vector<PublishedPorts> published_of(std::string_view list) {
  std::vector<PublishedPorts> published;
  JsonSlices all(list);
  if (!all.is_list()) return published;
  while (const auto ports = all.next()) add_ports(ports->value, published);
  return joined(std::move(published));
}

// ---- one container -----------------------------------------------------------------------------

std::vector<IpAddress> addresses_of(std::string_view settings) {
  std::vector<IpAddress> addresses;
  const Json all = value_of(settings);
  const Json& networks = member(all, "Networks");
  if (!networks.is_object()) return addresses;
  for (const auto& [name, network] : networks.items()) {
    for (const char* key : {"IPAddress", "GlobalIPv6Address"}) {
      if (const auto address = IpAddress::parse(text_in(network, key))) {
        addresses.push_back(*address);
      }
    }
    if (addresses.size() >= kMostNetworks) break;
  }
  return addresses;
}

ContainerFacts facts_of(std::string_view container) {
  ContainerFacts facts;
  JsonSlices members(container);
  while (const auto member = members.next()) {
    const auto& [key, value] = *member;
    if (key == "Id") facts.id = text_of(value);
    if (key == "Names") facts.name = first_name_of(value);
    if (key == "Image") facts.image = text_of(value);
    if (key == "ImageID") facts.image_id = text_of(value);
    if (key == "State") facts.state = text_of(value);
    if (key == "PodName") facts.pod = text_of(value);
    if (key == "HostConfig") facts.network_mode = text_in(value_of(value), "NetworkMode");
    if (key == "Pid") facts.pid = number_of<pid_t>(value);
    if (key == "IsInfra") facts.infra = value == "true";
    if (key == "Labels") facts.labels = labels_of(value);
    if (key == "Ports") facts.published = published_of(value);
    if (key == "NetworkSettings") facts.addresses = addresses_of(value);
  }
  facts.project = label_of(facts, {"com.docker.compose.project", "io.podman.compose.project"});
  facts.service = label_of(facts, {"com.docker.compose.service", "io.podman.compose.service"});
  return facts;
}

/// The facts of each element of a list that has an id. @return nothing if it is no list or too long
template <class Read>
std::optional<std::vector<ContainerFacts>> read_list(std::string_view text, Read read) {
  JsonSlices all(text);
  std::vector<ContainerFacts> list;
  std::size_t seen = 0;
  while (const auto element = all.next()) {
    if (++seen > kMostContainers) return std::nullopt;
    if (auto facts = read(element->value); !facts.id.empty()) list.push_back(std::move(facts));
  }
  if (!all.is_list() || !all.complete()) return std::nullopt;
  return list;
}

}  // namespace

std::optional<std::vector<ContainerFacts>> parse_container_list(std::string_view text) {
  return read_list(text, facts_of);
}

/// [{"id","names":["..."], ...}]
std::vector<ContainerFacts> parse_stored_containers(std::string_view text) {
  auto list = read_list(text, [](std::string_view container) {
    ContainerFacts facts;
    JsonSlices members(container);
    while (const auto member = members.next()) {
      if (member->key == "id") facts.id = text_of(member->value);
      if (member->key == "names") facts.name = first_name_of(member->value);
      if (member->key == "metadata") {
        facts.image = text_in(parse_json(text_of(member->value)), "image-name");
      }
    }
    if (facts.name.empty()) facts.id.clear();
    return facts;
  });
  return std::move(list).value_or(std::vector<ContainerFacts>());
}

std::string id_to_replace(std::string_view name) {
  constexpr std::size_t kShortIdLength = 12;
  const bool so =
      name.find_first_not_of("0123456789abcdef") == kShortIdLength && name[kShortIdLength] == '_';
  return so ? std::string(name.substr(0, kShortIdLength)) : "";
}

/// The two forms:
/// - Docker: {"Type","Action","Actor":{"ID","Attributes":{"name", and its labels}}}
/// - podman: {"Type","Status","ID","Name","Attributes":{its labels}}
std::optional<ContainerEvent> parse_container_event(std::string_view text) {
  const Json event = parse_json(text);
  if (text_in(event, "Type") != "container") return std::nullopt;
  const Json& actor = member(event, "Actor");
  ContainerEvent out{text_in(event, "ID"), text_in(event, "Status"), text_in(event, "Name"), ""};
  if (out.id.empty()) out.id = text_in(actor, "ID");
  if (out.action.empty()) out.action = text_in(event, "Action");
  if (out.name.empty()) out.name = text_in(member(actor, "Attributes"), "name");
  if (out.id.empty() || out.action.empty()) return std::nullopt;
  const Json& labels = member(actor.is_object() ? actor : event, "Attributes");
  const bool by_compose = !text_in(labels, "com.docker.compose.replace").empty();
  if (out.action == "create" && by_compose) out.replaces = id_to_replace(out.name);
  return out;
}

}  // namespace portfwd
