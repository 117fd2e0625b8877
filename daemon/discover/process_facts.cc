// See process_facts.h.

#include "discover/process_facts.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/unique_fd.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

std::string own_host_name() {
  std::array<char, 256> buffer{};
  return ::gethostname(buffer.data(), buffer.size() - 1) == 0 ? buffer.data() : "";
}

/// Whether the entry has the form NAME=VALUE; environ(7).
bool is_variable(std::string_view entry) {
  const auto equals = entry.find('=');
  if (equals == entry.npos || equals == 0) return false;
  return std::ranges::all_of(entry.substr(0, equals), [](char c) { return c > ' ' && c != 0x7F; });
}

/// Whether the text is a program's title, or the NULs behind one, instead of an environment. An
/// empty text is an environment.
bool is_overwritten(std::string_view environ) {
  return !environ.empty() && !is_variable(environ.substr(0, environ.find('\0')));
}

}  // namespace

std::string command_text(std::string_view cmdline) {
  std::string text(cmdline.substr(0, cmdline.find_last_not_of('\0') + 1));
  std::ranges::replace(text, '\0', ' ');
  return text;
}

ProcessFacts parse_process_facts(std::string_view cmdline, std::optional<std::string_view> environ,
                                 std::string_view host_name, const ProcessFacts& before) {
  ProcessFacts facts;
  const auto words = procfs::split_strings(cmdline);
  facts.command = command_text(cmdline);
  facts.keeper = names::from_keeper(words);
  facts.replaces = names::name_to_replace(words);
  if (!environ || is_overwritten(*environ)) {
    facts.by_environment = before.by_environment;
    facts.opted_out = before.opted_out;
    const bool known = before.opted_out || !before.by_environment.engine.empty() ||
                       !before.by_environment.name.empty();
    facts.environment_lost = environ.has_value() && !known;
    return facts;
  }
  const auto variables = procfs::split_strings(*environ);
  facts.by_environment = names::from_environment(variables, host_name);
  facts.opted_out = std::ranges::find(variables, "PORTFWD=off") != variables.end();
  return facts;
}

ProcessFactsCache::ProcessFactsCache(Reader& reader, const ProcDir& proc)
    : reader_(reader), proc_(proc), host_name_(own_host_name()), opt_outs_(sysctl::boot_id()) {}

ProcessFactsCache::Entry& ProcessFactsCache::entry_of(pid_t pid) {
  const auto stat = proc_.stat(pid);
  const std::uint64_t started = stat ? stat->started : 0;
  Entry& entry = entries_[pid];
  if (entry.started != started) entry = Entry{.started = started};
  return entry;
}

bool ProcessFactsCache::update(pid_t pid, Entry& entry, const Result<Reader::Texts>& texts) {
  ProcessFacts before = entry.facts.value_or(ProcessFacts());
  if (!entry.facts) before.opted_out = opt_outs_.contains(pid, entry.started);
  const bool known = entry.facts.has_value();
  if (texts) {
    const std::optional<std::string_view> environ = texts->environment;
    entry.facts = parse_process_facts(texts->command, environ, host_name_, before);
  } else {
    entry.facts = before;
    const int code = texts.error().code;  // with these the reader failed: try the process again
    entry.stale = code == EBUSY || code == ECONNRESET || is_descriptor_shortage(texts.error());
  }
  if (entry.facts->opted_out) opt_outs_.add(pid, entry.started);
  return !known || *entry.facts != before;
}

const ProcessFacts* ProcessFactsCache::of(pid_t pid) {
  Entry& entry = entry_of(pid);
  if (!entry.call.pending() && (!entry.facts || std::exchange(entry.stale, false))) {
    entry.call = reader_.read_texts(
        pid, entry.started,
        [this, pid, started = entry.started](const Result<Reader::Texts>& texts) {
          const auto found = entries_.find(pid);
          if (found == entries_.end() || found->second.started != started) return;
          if (update(pid, found->second, texts)) on_facts_(pid);
        });
  }
  return entry.facts ? &*entry.facts : nullptr;
}

void ProcessFactsCache::renew(pid_t pid) {
  const auto found = entries_.find(pid);
  if (found != entries_.end()) found->second.stale = true;
}

Reader::Call ProcessFactsCache::read(pid_t pid, Reader* by, Done done) {
  const std::uint64_t started = entry_of(pid).started;
  return (by != nullptr ? *by : reader_)
      .read_texts(
          pid, started,
          [this, pid, started, done = std::move(done)](const Result<Reader::Texts>& texts) mutable {
            Entry& entry = entries_[pid];
            if (entry.started != started) entry = Entry{.started = started};
            update(pid, entry, texts);
            const ProcessFacts facts = *entry.facts;  // `done` may change the entries
            done(facts);
          });
}

void ProcessFactsCache::forget_unless(const std::function<bool(pid_t)>& is_there) {
  std::erase_if(entries_, [&](const auto& entry) { return !is_there(entry.first); });
  opt_outs_.forget_unless(is_there);
}

bool ProcessFactsCache::wait(Duration limit) {
  const bool waits = reader_.waiting() > 0;
  reader_.wait(limit);
  return waits;
}

}  // namespace portfwd
