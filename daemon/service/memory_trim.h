// Gives memory back after containers have ended. The heap of a daemon that has seen hundreds of
// containers stays as large as it was at most: glibc gives back only what is free at its end. Owned
// by main with the registry.
#pragma once

#include <malloc.h>

#include "discover/container.h"
#include "event/event_loop.h"

namespace portfwd {

class MemoryTrim final : public RegistryObserver {
 public:
  explicit MemoryTrim(EventLoop& loop) : trim_(loop, [] { (void)::malloc_trim(kKeep); }) {}

 private:
  static constexpr std::size_t kKeep = 256UL << 10;  ///< bytes: so much is soon used again
  /// For the others that end meanwhile, and for what ends with them: names, clients, answers.
  static constexpr Duration kDelay = std::chrono::seconds(2);

  void on_container_added(const Container&) override {}
  void on_container_changed(const Container&) override {}
  void on_container_removed(const Container&, RemovalReason) override {
    if (!trim_.armed()) trim_.arm_after(kDelay);
  }
  void on_sign_of_life(const Container&) override {}

  Timer trim_;
};

}  // namespace portfwd
