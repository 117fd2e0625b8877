// The reach of one container: a view on the access to its network namespace, with those of the
// listeners in there that are its own. Owned by the SharedNetns, which deals them out.
#pragma once

#include <fmt/format.h>

#include <cassert>
#include <string>
#include <utility>
#include <vector>

#include "access/netns_access.h"
#include "access/outside.h"

namespace portfwd {

class NetnsMember final : public ContainerAccess {
 public:
  /// @param container borrowed
  /// @param access borrowed; null for one that can't be entered @param reason why not, then
  NetnsMember(const Container& container, NetnsAccess* access, std::string reason)
      : container_(container), access_(access), reason_(std::move(reason)) {}

  [[nodiscard]] const Container& container() const override { return container_; }
  [[nodiscard]] ContainerState state() const override {
    if (container_.on_host) return ContainerState::Ignored;
    return access_ != nullptr ? ContainerState::Watched : ContainerState::Inaccessible;
  }
  [[nodiscard]] AccessKind kind() const override {
    return access_ != nullptr ? access_->kind() : AccessKind::None;
  }
  [[nodiscard]] const std::string& reason() const override { return reason_; }
  [[nodiscard]] const std::vector<Listener>& listeners() const override { return listeners_; }
  [[nodiscard]] bool ever_listened() const override { return ever_listened_; }
  /// Only for one that is watched.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    assert(access_ != nullptr);
    return access_->dialer(protocol);
  }
  void expedite() override {
    if (access_ != nullptr) access_->expedite();
  }

  void poll_now() override {
    if (access_ != nullptr) access_->poll_now();
  }

  [[nodiscard]] TakenPort listen_inside(Port port, InsidePortHandler& handler) override {
    if (access_ == nullptr) return std::unexpected(reason_);
    return access_->listen_inside(port, handler);
  }

  /// @return whether that is a change, or there is another way to them now
  bool show(std::vector<Listener> listeners) {
    const bool other_way = std::exchange(shown_kind_, kind()) != kind();
    if (listeners == listeners_ && !other_way) return false;
    listeners_ = std::move(listeners);
    ever_listened_ |= !listeners_.empty();
    reason_ = what_is_missing();
    return true;
  }

 private:
  [[nodiscard]] std::string what_is_missing() const {
    for (const Listener& l : listeners_) {
      if (l.unreachable.empty() || l.local.ip().address == kEnginesResolver) continue;
      return fmt::format("port {} is not reached: {}", l.local.ip().port, l.unreachable);
    }
    return {};
  }

  const Container& container_;
  NetnsAccess* access_;
  std::string reason_;
  std::vector<Listener> listeners_;
  AccessKind shown_kind_ = kind();
  bool ever_listened_ = false;
};

}  // namespace portfwd
