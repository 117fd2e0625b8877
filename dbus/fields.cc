#include "dbus/fields.h"

#include <functional>
#include <map>
#include <ranges>
#include <type_traits>

namespace portfwd {

namespace {

using sdbus::Variant;

constexpr std::size_t kRow = 160;  ///< about so many bytes takes an entry of a list

Variant text(std::string_view value) {
  return Variant(bus_text(value));
}
void add(Properties& out, const std::monostate&) {
  out.clear();
}

void add(Properties& out, const ForwardInfo& forward) {
  add_event_properties(kForwardProperties, forward, out);
}

void add(Properties& out, const ContainerInfo& container) {
  add_event_properties(kContainerProperties, ContainerView{container}, out);
}

Variant fact_value(const Fact& fact) {
  return std::visit(
      [](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>)
          return text(value);
        else if constexpr (std::is_same_v<T, std::vector<std::string>>)
          return Variant(bus_texts(value));
        else
          return Variant(value);
      },
      fact);
}

}  // namespace

std::uint64_t microseconds(WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

std::vector<std::string> bus_texts(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const std::string& one : texts) out.push_back(bus_text(one));
  return out;
}

std::map<std::string, std::string> some_labels(const std::map<std::string, std::string>& labels,
                                               std::size_t most_bytes) {
  std::map<std::string, std::string> out;
  std::size_t bytes = 0;
  for (const auto& [key, value] : labels) {
    bytes += key.size() + value.size() + kRow;
    if (bytes > most_bytes) break;
    out[bus_text(key)] = bus_text(value);
  }
  return out;
}

std::vector<Properties> published_dictionaries(const std::vector<PublishedPorts>& published,
                                               std::size_t most_bytes) {
  std::vector<Properties> out;
  for (const PublishedPorts& p : published | std::views::take(most_bytes / kRow)) {
    out.push_back({{"Protocol", text(name_of(p.protocol))},
                   {"HostAddress", text(p.host_address)},
                   {"HostPort", Variant(p.host_port)},
                   {"ContainerPort", Variant(p.container_port)},
                   {"Count", Variant(std::uint32_t{p.count})}});
  }
  return out;
}

sdbus::Message& operator<<(sdbus::Message& message, const ListenerList& list) {
  const auto add = [&](const char* name, const char* type, const auto& value) {
    message.openDictEntry("sv");
    message << name;
    message.openVariant(type);
    message << value;
    message.closeVariant();
    message.closeDictEntry();
  };
  message.openContainer("a{sv}");
  for (const Listener& l : list.listeners | std::views::take(list.most_bytes / kRow)) {
    message.openContainer("{sv}");
    add("Protocol", "s", std::string(name_of(l.protocol)));
    add("Address", "s", l.local.ip().address.text());
    add("Port", "q", l.local.ip().port);
    add("Process", "s", bus_text(l.process));
    add("Uid", "u", std::uint32_t{l.uid});
    message.closeContainer();
  }
  message.closeContainer();
  return message;
}

std::size_t size_on_bus(const Event& event) {
  constexpr std::size_t kNamesAndNumbers = 1500;
  std::size_t bytes = kNamesAndNumbers + event.reason.size();
  if (const auto* f = std::get_if<ForwardInfo>(&event.subject)) {
    for (const std::string& text :
         {f->container_name, f->label, f->reason, f->process, f->url, f->container_engine}) {
      bytes += text.size();
    }
  }
  if (const auto* c = std::get_if<ContainerInfo>(&event.subject)) {
    for (const std::string& text : {c->name, c->image, c->pod, c->project, c->service, c->reason}) {
      bytes += text.size();
    }
  }
  return bytes;
}

Properties event_properties(const Event& event) {
  Properties out;
  std::visit([&](const auto& subject) { add(out, subject); }, event.subject);
  out.insert({{"Sequence", Variant(event.seq)},
              {"Time", Variant(microseconds(event.time))},
              {"Reason", text(event.reason)},
              {"BatchSize", Variant(event.batch_size)},
              {"BatchIndex", Variant(event.batch_index)}});
  return out;
}

std::string event_path(const Event& event) {
  if (const auto* forward = std::get_if<ForwardInfo>(&event.subject)) {
    return forward_path(forward->id);
  }
  if (const auto* container = std::get_if<ContainerInfo>(&event.subject)) {
    return container_path(container->id);
  }
  return kNoPath;
}

Properties fact_dictionary(const Facts& facts) {
  Properties out;
  for (const auto& [key, value] : facts) out.insert({bus_text(key), fact_value(value)});
  return out;
}

}  // namespace portfwd
