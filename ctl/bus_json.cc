#include "ctl/bus_json.h"

#include "ctl/when.h"

namespace portfwd::ctl {
namespace {

using sdbus::Variant;

/// A value of any type that the daemon sends in a dictionary.
Json json_of(const Variant& value) {
  const std::string type = value.peekValueType();
  if (type == "s") return value.get<std::string>();
  if (type == "o") return value.get<sdbus::ObjectPath>();
  if (type == "b") return value.get<bool>();
  if (type == "q") return value.get<std::uint16_t>();
  if (type == "u") return value.get<std::uint32_t>();
  if (type == "t") return value.get<std::uint64_t>();
  if (type == "i") return value.get<std::int32_t>();
  if (type == "x") return value.get<std::int64_t>();
  if (type == "d") return value.get<double>();
  if (type == "as") return value.get<std::vector<std::string>>();
  if (type == "a{ss}") {
    Json object = Json::object();
    for (const auto& [key, text] : value.get<std::map<std::string, std::string>>())
      object[key] = text;
    return object;
  }
  return nullptr;  // a newer daemon's; keys are only ever added
}

/// A property, or what an older daemon's object would have without it.
template <class T>
T get(const Properties& properties, const char* name) {
  const auto at = properties.find(name);
  if (at == properties.end() || !at->second.containsValueOfType<T>()) return T{};
  return at->second.get<T>();
}
std::string text(const Properties& p, const char* name) {
  return get<std::string>(p, name);
}
std::uint64_t number(const Properties& p, const char* name) {
  return get<std::uint64_t>(p, name);
}
std::uint16_t port(const Properties& p, const char* name) {
  return get<std::uint16_t>(p, name);
}

std::string time(const Properties& p, const char* name) {
  return rfc3339(WallTime(std::chrono::microseconds(number(p, name))));
}

std::string own_reason(const Properties& p) {
  return text(p, p.contains("StateReason") ? "StateReason" : "Reason");
}

Json listeners_json(const Properties& p) {
  Json list = Json::array();
  for (const Properties& l : get<std::vector<Properties>>(p, "Listeners")) {
    list.push_back({{"protocol", text(l, "Protocol")},
                    {"address", text(l, "Address")},
                    {"port", port(l, "Port")},
                    {"process", text(l, "Process")},
                    {"uid", get<std::uint32_t>(l, "Uid")}});
  }
  return list;
}

Json published_json(const Properties& p) {
  Json list = Json::array();
  for (const Properties& ports : get<std::vector<Properties>>(p, "Published")) {
    list.push_back({{"protocol", text(ports, "Protocol")},
                    {"host_address", text(ports, "HostAddress")},
                    {"host_port", port(ports, "HostPort")},
                    {"container_port", port(ports, "ContainerPort")},
                    {"count", get<std::uint32_t>(ports, "Count")}});
  }
  return list;
}

}  // namespace

Json forward_json(const Properties& p) {
  return {{"id", text(p, "Id")},
          {"container",
           {{"id", text(p, "ContainerId")},
            {"name", text(p, "ContainerName")},
            {"engine", text(p, "ContainerEngine")}}},
          {"protocol", text(p, "Protocol")},
          {"direction", text(p, "Direction")},
          {"target", text(p, "Target")},
          {"container_address", text(p, "ContainerAddress")},
          {"container_port", port(p, "ContainerPort")},
          {"host_address", text(p, "HostAddress")},
          {"host_addresses", get<std::vector<std::string>>(p, "HostAddresses")},
          {"host_port", port(p, "HostPort")},
          {"origin", text(p, "Origin")},
          {"state", text(p, "State")},
          {"reason", own_reason(p)},
          {"label", text(p, "Label")},
          {"process", text(p, "Process")},
          {"url", text(p, "Url")},
          {"since", time(p, "Since")},
          {"connections",
           {{"active", number(p, "ConnectionsActive")},
            {"total", number(p, "ConnectionsTotal")},
            {"failed", number(p, "ConnectionsFailed")},
            {"refused", number(p, "ConnectionsRefused")}}},
          {"bytes", {{"in", number(p, "BytesIn")}, {"out", number(p, "BytesOut")}}},
          {"on_auto_forward", text(p, "OnAutoForward")}};
}

Json container_json(const Properties& p) {
  Json labels = Json::object();
  for (const auto& [key, value] : get<std::map<std::string, std::string>>(p, "Labels")) {
    labels[key] = value;
  }
  return {{"id", text(p, "Id")},
          {"name", text(p, "Name")},
          {"engine", text(p, "Engine")},
          {"uid", get<std::uint32_t>(p, "Uid")},
          {"pid", get<std::uint32_t>(p, "Pid")},
          {"netns", number(p, "Netns")},
          {"image", text(p, "Image")},
          {"labels", labels},
          {"state", text(p, "State")},
          {"reach", text(p, "Reach")},
          {"reason", own_reason(p)},
          {"listeners", listeners_json(p)},
          {"listeners_total", get<std::uint32_t>(p, "ListenersTotal")},
          {"ever_listened", get<bool>(p, "EverListened")},
          {"attached", get<bool>(p, "Attached")},
          {"pod", text(p, "Pod")},
          {"project", text(p, "Project")},
          {"service", text(p, "Service")},
          {"published", published_json(p)}};
}

Json event_json(const std::string& type, const Properties& p) {
  Json event = {{"seq", number(p, "Sequence")},
                {"time", time(p, "Time")},
                {"type", type},
                {"reason", text(p, "Reason")}};
  if (type.starts_with("Port")) event["forward"] = forward_json(p);
  if (type.starts_with("Container")) {
    event["container"] = container_json(p);
    for (const char* list : {"labels", "listeners", "listeners_total", "published"}) {
      if (!p.contains("Listeners")) event["container"].erase(list);  // an event has none of them
    }
  }
  return event;
}

Json facts_json(const Properties& facts) {
  Json object = Json::object();
  for (const auto& [key, value] : facts) object[key] = json_of(value);
  return object;
}

}  // namespace portfwd::ctl
