#include "engine/answers.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/json_reader.h"

namespace portfwd {
namespace {

using Json = nlohmann::json;

constexpr unsigned kPorts = 65536;

/// @return 0 for what is no number from 0 to `most`
template <class Number>
Number number_in(const Json& object, const char* key,
                 std::int64_t most = std::numeric_limits<Number>::max()) {
  const Json& value = member(object, key);
  if (!value.is_number_integer()) return 0;
  const auto number = value.get<std::int64_t>();
  return number >= 0 && number <= most ? static_cast<Number>(number) : Number{0};
}

/// Docker begins a name with a slash.
std::string name_in(const Json& container, const char* key) {
  const Json& names = member(container, key);
  if (!names.is_array() || names.empty() || !names.front().is_string()) return {};
  std::string name = names.front().get<std::string>();
  if (name.starts_with('/')) name.erase(0, 1);
  return name;
}

std::map<std::string, std::string> labels_in(const Json& container) {
  std::map<std::string, std::string> labels;
  const Json& all = member(container, "Labels");
  if (!all.is_object()) return labels;
  for (const auto& [key, value] : all.items()) {
    if (value.is_string()) labels.emplace(key, value.get<std::string>());
  }
  return labels;
}

/// The first of these labels that is there.
std::string label_of(const ContainerFacts& facts, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const auto found = facts.labels.find(key); found != facts.labels.end()) {
      return found->second;
    }
  }
  return {};
}

bool is_valid(const PublishedPorts& ports) {
  return ports.host_port != 0 && ports.container_port != 0 && ports.count != 0 &&
         ports.host_port + ports.count <= kPorts && ports.container_port + ports.count <= kPorts;
}

/// podman may name several protocols, apart by commas. Others than TCP and UDP are not ours.
void add_ports(PublishedPorts ports, std::string_view protocols, std::vector<PublishedPorts>& to) {
  if (ports.host_address == "0.0.0.0" || ports.host_address == "::") ports.host_address.clear();
  for (const Protocol protocol : {Protocol::Tcp, Protocol::Udp}) {
    ports.protocol = protocol;
    const bool named = protocols.find(name_of(protocol)) != protocols.npos;
    if (named && is_valid(ports) && std::ranges::find(to, ports) == to.end()) to.push_back(ports);
  }
}

/// Docker: {"IP","PrivatePort","PublicPort","Type"}; a port that is only exposed has no PublicPort.
/// podman: {"host_ip","container_port","host_port","range","protocol"}.
std::vector<PublishedPorts> published_in(const Json& container) {
  std::vector<PublishedPorts> published;
  const Json& all = member(container, "Ports");
  if (!all.is_array()) return published;
  for (const Json& ports : all) {
    add_ports({Protocol::Tcp, text_in(ports, "IP"), number_in<Port>(ports, "PublicPort"),
               number_in<Port>(ports, "PrivatePort")},
              text_in(ports, "Type"), published);
    add_ports(
        {Protocol::Tcp, text_in(ports, "host_ip"), number_in<Port>(ports, "host_port"),
         number_in<Port>(ports, "container_port"), number_in<unsigned>(ports, "range", kPorts)},
        text_in(ports, "protocol"), published);
  }
  return published;
}

std::vector<IpAddress> addresses_in(const Json& container) {
  std::vector<IpAddress> addresses;
  const Json& networks = member(member(container, "NetworkSettings"), "Networks");
  if (!networks.is_object()) return addresses;
  for (const auto& [name, network] : networks.items()) {
    for (const char* key : {"IPAddress", "GlobalIPv6Address"}) {
      if (const auto address = IpAddress::parse(text_in(network, key))) {
        addresses.push_back(*address);
      }
    }
  }
  return addresses;
}

ContainerFacts facts_in(const Json& container) {
  ContainerFacts facts;
  facts.id = text_in(container, "Id");
  facts.name = name_in(container, "Names");
  facts.image = text_in(container, "Image");
  facts.image_id = text_in(container, "ImageID");
  facts.state = text_in(container, "State");
  facts.pod = text_in(container, "PodName");
  facts.network_mode = text_in(member(container, "HostConfig"), "NetworkMode");
  facts.pid = number_in<pid_t>(container, "Pid");
  const Json& infra = member(container, "IsInfra");
  facts.infra = infra.is_boolean() && infra.get<bool>();
  facts.labels = labels_in(container);
  facts.project = label_of(facts, {"com.docker.compose.project", "io.podman.compose.project"});
  facts.service = label_of(facts, {"com.docker.compose.service", "io.podman.compose.service"});
  facts.published = published_in(container);
  facts.addresses = addresses_in(container);
  return facts;
}

}  // namespace

std::optional<std::vector<ContainerFacts>> parse_container_list(std::string_view text) {
  const Json all = parse_json(text);
  if (!all.is_array()) return std::nullopt;
  std::vector<ContainerFacts> list;
  for (const Json& container : all) {
    if (auto facts = facts_in(container); !facts.id.empty()) list.push_back(std::move(facts));
  }
  return list;
}

/// [{"id","names":["..."], ...}]
std::vector<ContainerFacts> parse_stored_containers(std::string_view text) {
  const Json all = parse_json(text);
  std::vector<ContainerFacts> list;
  if (!all.is_array()) return list;
  for (const Json& container : all) {
    ContainerFacts facts;
    facts.id = text_in(container, "id");
    facts.name = name_in(container, "names");
    if (!facts.id.empty() && !facts.name.empty()) list.push_back(std::move(facts));
  }
  return list;
}

std::string id_to_replace(std::string_view name) {
  constexpr std::size_t kBrief = 12;
  const bool so = name.find_first_not_of("0123456789abcdef") == kBrief && name[kBrief] == '_';
  return so ? std::string(name.substr(0, kBrief)) : "";
}

/// Docker: {"Type","Action","Actor":{"ID","Attributes":{"name", and its labels}}}; podman's file:
/// {"Type","Status","ID","Name","Attributes":{its labels}}.
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
