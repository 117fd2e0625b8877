#include "forward/forward.h"

#include <fmt/format.h>

#include <cassert>
#include <tuple>

#include "state/lasting_names.h"

namespace portfwd {

Forward::Forward(const RelayServices& relay, ForwardObserver& observer, std::string id,
                 ForwardKey key, Origin origin)
    : relay_(relay), observer_(observer), key_(std::move(key)) {
  assert(!id.empty());
  info_.id = std::move(id);
  info_.origin = origin;
  info_.protocol = protocol();
  info_.direction = key_.direction;
  info_.container_port = key_.target.port_number();
  info_.target = key_.target.text();
  info_.state = ForwardState::Waiting;
  info_.since = relay.context.loop().clock().wall();
}

bool Forward::describe(const Container& container) {
  assert(key_.container == container.id);
  names_ = lasting_names(container);
  const auto ours = std::tie(info_.container_id, info_.container_name, info_.container_engine);
  const auto theirs = std::tie(container.id, container.name, container.engine);
  if (ours == theirs) return false;
  info_.container_id = container.id;
  info_.container_name = container.name;
  info_.container_engine = container.engine;
  configure(settings_);
  return true;
}

void Forward::describe_missing(const std::string& container_name) {
  info_.container_id.clear();
  info_.container_engine.clear();
  info_.container_name = container_name;
  names_ = {container_name};
}

void Forward::configure(const ForwardPortSettings& settings) {
  assert(port_ != nullptr);
  settings_ = adapted(settings);
  settings_.id = info_.id;
  settings_.name = fmt::format("{}:{}{}", info_.container_name, info_.target,
                               key_.direction == Direction::Reverse ? " (reverse)" : "");
  port_->configure(settings_);
}

bool Forward::treat(const Treatment& treatment, const ForwardPortSettings& settings) {
  treatment_ = treatment;
  configure(settings);
  const auto before = std::tie(info_.label, info_.on_auto_forward, info_.url);
  const std::string address = url();
  const auto now = std::tie(treatment_.label, treatment_.on_auto_forward, address);
  if (before == now) return false;
  info_.label = treatment_.label;
  info_.on_auto_forward = treatment_.on_auto_forward;
  info_.url = address;
  return true;
}

}  // namespace portfwd
