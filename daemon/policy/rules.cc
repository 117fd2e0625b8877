#include "policy/rules.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>

#include "discover/names.h"

namespace portfwd {

namespace {

using Wanted = Conditions;

/// One condition of a rule: how to tell whether it is given and holds, and how to speak of it.
struct Condition {
  std::string_view key;
  bool (*given)(const Wanted&);
  bool (*holds)(const Wanted&, const Container&, const Listener&);  ///< asked if given
  std::string (*wanted)(const Wanted&);
  std::string (*seen)(const Wanted&, const Container&, const Listener&);
};

/// '*' stands for slashes and leading dots too. Source: fnmatch(3) without flags.
bool like(const std::string& pattern, const std::string& text) {
  return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

std::string in_quotes(std::string_view text) {
  return fmt::format("\"{}\"", text);
}

/// A condition that is a shell pattern on some text of the container.
template <auto Member, auto TextOf>
constexpr Condition on_text(std::string_view key) {
  return {key, [](const Wanted& w) { return (w.*Member).has_value(); },
          [](const Wanted& w, const Container& c, const Listener&) {
            return like(*(w.*Member), TextOf(c));
          },
          [](const Wanted& w) { return in_quotes(*(w.*Member)); },
          [](const Wanted&, const Container& c, const Listener&) {
            return in_quotes(names::printable(TextOf(c)));
          }};
}

std::string name_of_container(const Container& c) {
  return c.name;
}
std::string engine_of(const Container& c) {
  return c.engine;
}
std::string image_of(const Container& c) {
  return c.image;
}
std::string project_of(const Container& c) {
  return c.project;
}

bool labels_hold(const Wanted& w, const Container& c, const Listener&) {
  return std::ranges::all_of(w.labels, [&](const auto& wanted) {
    const auto label = c.labels.find(wanted.first);
    return label != c.labels.end() && like(wanted.second, label->second);
  });
}

std::string labels_text(const std::map<std::string, std::string>& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += fmt::format("{}{} = {}", out.empty() ? "" : ", ", name, in_quotes(value));
  }
  return fmt::format("{{{}}}", out);
}

std::string labels_seen(const Wanted& w, const Container& c, const Listener&) {
  std::map<std::string, std::string> seen;
  for (const auto& [name, pattern] : w.labels) {
    const auto label = c.labels.find(name);
    if (label != c.labels.end()) seen[name] = names::printable(label->second);
  }
  return labels_text(seen);
}

bool process_holds(const Wanted& w, const Container&, const Listener& l) {
  return (!l.process.empty() && w.process->matches(l.process)) ||
         (!l.command.empty() && w.process->matches(l.command));
}

std::string process_seen(const Wanted&, const Container&, const Listener& l) {
  if (l.process.empty()) return "a program that can't be known";
  return fmt::format("{}, started as {}", in_quotes(l.process),
                     in_quotes(names::printable(l.command)));
}

std::string ports_text(const Wanted& w) {
  std::string out;
  for (const PortRange& range : w.ports) out += (out.empty() ? "" : ", ") + range.text();
  return out;
}

constexpr std::array kOnContainer{
    on_text<&Conditions::container, name_of_container>("container"),
    on_text<&Conditions::engine, engine_of>("engine"),
    on_text<&Conditions::image, image_of>("image"),
    on_text<&Conditions::project, project_of>("project"),
    Condition{"labels", [](const Wanted& w) { return !w.labels.empty(); }, labels_hold,
              [](const Wanted& w) { return labels_text(w.labels); }, labels_seen},
};
constexpr std::array kOnListener{
    Condition{"protocol", [](const Wanted& w) { return w.protocol.has_value(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return *w.protocol == l.protocol;
              },
              [](const Wanted& w) { return std::string(name_of(*w.protocol)); },
              [](const Wanted&, const Container&, const Listener& l) {
                return std::string(name_of(l.protocol));
              }},
    Condition{"port", [](const Wanted& w) { return !w.ports.empty(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return contains(w.ports, l.local.ip().port);
              },
              ports_text,
              [](const Wanted&, const Container&, const Listener& l) {
                return std::to_string(l.local.ip().port);
              }},
    Condition{"process", [](const Wanted& w) { return w.process.has_value(); }, process_holds,
              [](const Wanted& w) { return in_quotes(w.process->text()); }, process_seen},
    Condition{
        "uid", [](const Wanted& w) { return w.uid.has_value(); },
        [](const Wanted& w, const Container&, const Listener& l) { return *w.uid == l.uid; },
        [](const Wanted& w) { return std::to_string(*w.uid); },
        [](const Wanted&, const Container&, const Listener& l) { return std::to_string(l.uid); }},
    Condition{"address", [](const Wanted& w) { return w.address.has_value(); },
              [](const Wanted& w, const Container&, const Listener& l) {
                return *w.address == l.local.ip().address;
              },
              [](const Wanted& w) { return w.address->text(); },
              [](const Wanted&, const Container&, const Listener& l) {
                return l.local.ip().address.text();
              }},
};

template <std::size_t N>
bool all_hold(const std::array<Condition, N>& conditions, const Wanted& w, const Container& c,
              const Listener& l) {
  return std::ranges::all_of(
      conditions, [&](const Condition& one) { return !one.given(w) || one.holds(w, c, l); });
}

template <std::size_t N>
void add_mismatches(const std::array<Condition, N>& conditions, const Wanted& w, const Container& c,
                    const Listener& l, std::string& out) {
  for (const Condition& one : conditions) {
    if (!one.given(w) || one.holds(w, c, l)) continue;
    out += fmt::format("{}{} is {}, not {}", out.empty() ? "" : "; ", one.key, one.seen(w, c, l),
                       one.wanted(w));
  }
}

}  // namespace

bool matches(const Conditions& when, const Container& container, const Listener& listener) {
  return all_hold(kOnContainer, when, container, listener) &&
         all_hold(kOnListener, when, container, listener);
}

bool may_match(const Conditions& when, const Container& container) {
  return all_hold(kOnContainer, when, container, {});
}

bool matches_whole(const Conditions& when, const Container& container) {
  return may_match(when, container) &&
         std::ranges::none_of(kOnListener, [&](const Condition& one) { return one.given(when); });
}

std::string mismatch_text(const Conditions& when, const Container& container,
                          const Listener& listener) {
  std::string out;
  add_mismatches(kOnContainer, when, container, listener, out);
  add_mismatches(kOnListener, when, container, listener, out);
  return out;
}

}  // namespace portfwd
