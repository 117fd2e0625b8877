#include "reach/process_names.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "discover/names.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

constexpr std::size_t kEnvironmentLimit = 65536;  ///< bytes worth reading

void copy_program(const Listener& from, Listener& to) {
  to.process = from.process;
  to.command = from.command;
  to.opted_out = from.opted_out;
}

bool opts_out(std::string_view environment) {
  return std::ranges::count(procfs::split_strings(environment), "PORTFWD=off") > 0;
}

}  // namespace

std::string command_text(std::string_view cmdline) {
  std::string text(cmdline.substr(0, cmdline.find_last_not_of('\0') + 1));
  std::ranges::replace(text, '\0', ' ');
  return text;
}

void describe_process(const ProcDir& proc, pid_t pid, Listener& listener) {
  listener.process = names::printable(proc.comm(pid));
  listener.command = command_text(proc.read(pid, "cmdline").value_or(""));
  listener.opted_out = opts_out(proc.read(pid, "environ", kEnvironmentLimit).value_or(""));
}

void ProcessNames::name_new(std::uint64_t netns, const std::vector<Listener>& before,
                            std::vector<Listener>& now) {
  std::map<std::pair<std::uint64_t, Endpoint>, const Listener*> known;
  for (const Listener& old : before) known[{old.cookie, old.local}] = &old;
  std::vector<Listener*> unknown;
  for (Listener& listener : now) {
    const auto same = known.find({listener.cookie, listener.local});
    if (same != known.end()) {
      copy_program(*same->second, listener);
    } else {
      unknown.push_back(&listener);
    }
  }
  if (!unknown.empty()) name(netns, unknown);
}

void FoundProcessNames::name(std::uint64_t netns, std::span<Listener* const> listeners) {
  std::set<std::uint64_t> inodes;
  for (const Listener* listener : listeners) inodes.insert(listener->inode);
  const auto owners = proc_.socket_owners(discovery_.processes_in(netns), std::move(inodes));
  for (Listener* listener : listeners) {
    const auto owner = owners.find(listener->inode);
    if (owner != owners.end()) describe_process(proc_, owner->second, *listener);
  }
}

}  // namespace portfwd
