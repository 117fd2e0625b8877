#include "dbus/fields.h"

#include <ranges>
#include <type_traits>
#include <variant>

namespace portfwd {

namespace {

constexpr std::size_t kRow = 160;  ///< estimated size of an entry of a list, in bytes

}  // namespace

std::uint64_t microseconds(WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

std::vector<std::string> bus_texts(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const std::string& one : texts) out.push_back(bus_text(one));
  return out;
}

std::map<std::string, std::string> first_labels(const std::map<std::string, std::string>& labels,
                                                std::size_t max_bytes) {
  std::map<std::string, std::string> out;
  std::size_t bytes = 0;
  for (const auto& [key, value] : labels) {
    bytes += key.size() + value.size() + kRow;
    if (bytes > max_bytes) break;
    out[bus_text(key)] = bus_text(value);
  }
  return out;
}

void PublishedList::write(MessageWriter& writer) const {
  writer.array("a{sv}", [&] {
    for (const PublishedPorts& p : published | std::views::take(max_bytes / kRow)) {
      writer.array("{sv}", [&] {
        writer.entry("Protocol", std::string(name_of(p.protocol)))
            .entry("HostAddress", bus_text(p.host_address))
            .entry("HostPort", p.host_port)
            .entry("ContainerPort", p.container_port)
            .entry("Count", std::uint32_t{p.count});
      });
    }
  });
}

namespace {

constexpr std::size_t kUnixRow = 320;  ///< as kRow, of a Unix socket with the longest name

/// Writes the entries that depend on the kind of address.
struct AddressEntries {
  MessageWriter& writer;
  const Listener& listener;

  void operator()(const Endpoint& at) const {
    writer.entry("Address", at.address.text()).entry("Port", at.port);
  }
  void operator()(const auto&) const {
    writer.entry("Path", bus_text(listener.local.text()))
        .entry("Type", std::string(name_of(listener.type)))
        .entry("Backlog", std::uint32_t{listener.backlog});
  }
};

}  // namespace

void ListenerList::write(MessageWriter& writer) const {
  std::size_t bytes = 0;
  writer.array("a{sv}", [&] {
    for (const Listener& l : listeners) {
      bytes += l.ip_address() == nullptr ? kUnixRow : kRow;
      if (bytes > max_bytes) break;
      writer.array("{sv}", [&] {
        writer.entry("Protocol", std::string(name_of(l.protocol)));
        std::visit(AddressEntries{writer, l}, l.local);
        writer.entry("Process", bus_text(l.process)).entry("Uid", std::uint32_t{l.uid});
      });
    }
  });
}

void RemedyList::write(MessageWriter& writer) const {
  writer.array("(sas)", [&] {
    for (const Remedy& remedy : remedies) {
      writer.structure("sas", [&] {
        writer.add(std::string(row_of(remedy.code).name)).add(bus_texts(remedy.arguments));
      });
    }
  });
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

void write_event(const Event& event, MessageWriter& writer) {
  writer.array("{sv}", [&] {
    if (const auto* forward = std::get_if<ForwardInfo>(&event.subject)) {
      write_event_properties(kForwardProperties, *forward, writer);
    } else if (const auto* container = std::get_if<ContainerInfo>(&event.subject)) {
      write_event_properties(kContainerProperties, ContainerView{*container}, writer);
    }
    writer.entry("Sequence", event.seq)
        .entry("Time", microseconds(event.time))
        .entry("Reason", bus_text(event.reason))
        .entry("BatchSize", event.batch_size)
        .entry("BatchIndex", event.batch_index);
  });
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

void write_fact(const std::string& key, const Fact& fact, MessageWriter& writer) {
  const auto write = [&](const auto& value) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::string>)
      writer.entry(bus_text(key).c_str(), bus_text(value));
    else if constexpr (std::is_same_v<T, std::vector<std::string>>)
      writer.entry(bus_text(key).c_str(), bus_texts(value));
    else if constexpr (std::is_same_v<T, std::vector<Remedy>>)
      writer.entry(bus_text(key).c_str(), RemedyList{value});
    else
      writer.entry(bus_text(key).c_str(), value);
  };
  std::visit(write, fact);
}

}  // namespace portfwd
