// A log of a Registry's notifications. It owns nothing and decides nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "discover/container.h"

namespace portfwd::testing_support {

struct RegistryLog final : RegistryObserver {
  struct Line {
    enum class What { Added, Changed, Removed, Life } what;
    std::string id;
    std::uint64_t netns = 0;
    RemovalReason reason = RemovalReason::Gone;
    std::string name;
    std::string image;
    bool undecided = false;
  };
  void on_container_added(const Container& c) override { note(Line::What::Added, c); }
  void on_container_changed(const Container& c) override { note(Line::What::Changed, c); }
  void on_container_removed(const Container& c, RemovalReason reason) override {
    note(Line::What::Removed, c, reason);
  }
  void on_sign_of_life(const Container& c) override { note(Line::What::Life, c); }

  void note(Line::What what, const Container& c, RemovalReason reason = RemovalReason::Gone) {
    lines.push_back({what, c.id, c.netns, reason, c.name, c.image, c.undecided});
  }
  [[nodiscard]] int count(Line::What what, std::uint64_t netns) const {
    return static_cast<int>(std::ranges::count_if(
        lines, [&](const Line& line) { return line.what == what && line.netns == netns; }));
  }
  [[nodiscard]] int added(std::uint64_t netns) const { return count(Line::What::Added, netns); }
  [[nodiscard]] int removed(std::uint64_t netns) const { return count(Line::What::Removed, netns); }

  std::vector<Line> lines;
};

}  // namespace portfwd::testing_support
