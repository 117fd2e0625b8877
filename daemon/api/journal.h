// What came and went, as lines for people and fields for the journal. Owned by main, called by the
// controller. It changes nothing.
#pragma once

#include "api/control.h"

namespace portfwd {

class Journal final : public ControlObserver {
 public:
  void on_forward_added(const ForwardInfo&) override {}
  void on_forward_changed(const ForwardInfo& forward) override;
  void on_forward_removed(const ForwardInfo&) override {}
  void on_container_added(const ContainerInfo&) override {}
  void on_container_changed(const ContainerInfo&) override {}
  void on_container_removed(const ContainerInfo&) override {}
  void on_event(const Event& event) override;
};

}  // namespace portfwd
