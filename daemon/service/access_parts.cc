#include "service/access_parts.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "service/process_setup.h"

namespace portfwd {

namespace {

bool runs(const ProcDir& proc, std::string_view program) {
  std::vector<ProcDir::Entry> processes;
  (void)proc.list(processes);
  return std::ranges::any_of(
      processes, [&](const ProcDir::Entry& process) { return proc.comm(process.pid) == program; });
}

}  // namespace

AccessParts::AccessParts(const Parts& parts, const Options& options, const Settings& settings)
    : brokers(parts.loop, std::make_shared<SpawnLauncher>(parts.loop, broker_path()),
              NamespaceOwner::this_process()),
      helpers({.loop = parts.loop,
               .http = parts.http,
               .folder = options.runtime_folder,
               .program = broker_path(),
               .docker = parts.docker,
               .user = {login_name(), ::geteuid()},
               .engine_runs = [&proc = parts.proc] { return runs(proc, "dockerd"); }}),
      reaches({parts.loop, brokers, helpers, parts.relay, parts.names, parts.modules}, settings) {}

}  // namespace portfwd
