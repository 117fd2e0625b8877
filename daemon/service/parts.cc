#include "service/parts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "service/process_setup.h"

namespace portfwd {

namespace {

/// Probes with a socket of its own, which is not kept for one probe every 30 s.
Result<void> probe_module(Protocol protocol) {
  auto diag = SockDiag::open();
  if (!diag) return std::unexpected(diag.error());
  return diag->self_test(protocol);
}

void log_shortage(const Error& error) {
  log::write(
      log::Level::Warning,
      fmt::format(
          "file descriptors are short: {}; new connections wait until others end, first those to "
          "the busiest forwards; raise LimitNOFILE= of the unit",
          error.text()),
      {{"MESSAGE_ID", std::string(log::message_id::kLimitReached)}});
}

}  // namespace

RelayParts::RelayParts(EventLoop& loop, SockDiag diag)
    : context_(loop),
      gate_(loop, log_shortage),
      modules_(loop, probe_module),
      identity_(std::move(diag), ::geteuid(), Subuids("/etc/subuid", login_name(), ::geteuid()),
                &modules_),
      processes_(loop, std::make_shared<SpawnLauncher>(loop, relay_path())) {}

void RelayParts::add_facts(Facts& facts_out) const {
  facts_out["relay_processes_stuck"] = static_cast<std::int64_t>(processes_.stuck().size());
}

void DiscoveryParts::add_facts(Facts& facts_out) const {
  constexpr std::size_t kMostNamed = 8;
  std::vector<const Reader*> readers = names.readers();
  readers.push_back(&files);
  readers.push_back(&reader);
  std::int64_t timeouts = 0;
  std::int64_t stuck = 0;
  std::vector<std::string> timed_out_subjects;
  for (const Reader* each : readers) {
    timeouts += static_cast<std::int64_t>(each->timeouts());
    stuck += static_cast<std::int64_t>(each->stuck());
    std::ranges::move(each->timed_out_subjects(kMostNamed), std::back_inserter(timed_out_subjects));
  }
  if (timed_out_subjects.size() > kMostNamed)
    timed_out_subjects.erase(timed_out_subjects.begin(), timed_out_subjects.end() - kMostNamed);
  facts_out["reader_silences"] = timeouts;
  facts_out["readers_stuck"] = stuck;
  facts_out["not_read"] = std::move(timed_out_subjects);
}

namespace {

/// Without a root no path is found, and each request fails.
PathPlace host_place() {
  auto place = PathPlace::of_host();
  if (place) return std::move(*place);
  log::warning("cannot open the root folder: {}", place.error().text());
  return {};
}

bool runs(const ProcDir& proc, std::string_view program) {
  std::vector<ProcDir::Entry> processes;
  (void)proc.list(processes);
  return std::ranges::any_of(
      processes, [&](const ProcDir::Entry& process) { return proc.comm(process.pid) == program; });
}

}  // namespace

AccessParts::AccessParts(const Parts& parts, const Options& options, const Settings& settings)
    : launcher(std::make_shared<SpawnLauncher>(parts.loop, broker_path())),
      brokers(parts.loop, launcher, NamespaceOwner::this_process()),
      helpers({.loop = parts.loop,
               .http = parts.http,
               .folder = options.runtime_folder,
               .program = broker_path(),
               .docker = parts.docker,
               .user = {login_name(), ::geteuid()},
               .engine_runs = [&proc = parts.proc] { return runs(proc, "dockerd"); }}),
      path_brokers(parts.loop, launcher, parts.carriers),
      access_set(
          {parts.loop, brokers, helpers, parts.relay, parts.names, parts.modules, path_brokers},
          settings),
      host_paths(path_brokers.make(host_place(), "")),
      environment(parts.loop),
      host_path_parts{host_paths.get(), &environment, options.runtime_folder} {}

}  // namespace portfwd
