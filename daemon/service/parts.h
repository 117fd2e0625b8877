// The parts of the daemon, as main assembles them: each struct owns one layer's objects, in the
// order of their dependencies.
#pragma once

#include <unistd.h>

#include "access/access_set.h"
#include "access/process_names.h"
#include "base/error.h"
#include "base/facts.h"
#include "dbus/user_environment.h"
#include "discover/discovery.h"
#include "discover/engine_facts.h"
#include "engine/http_client.h"
#include "forward/host_paths.h"
#include "relay/accept_gate.h"
#include "relay/forward_port.h"
#include "relay/relay_context.h"
#include "relay_process/client/relay_process.h"
#include "service/lifecycle.h"
#include "service/options.h"
#include "service/process_setup.h"

namespace portfwd {

// Objects that all relays share: their context, the gate before accept, and the identification of
// clients. Owned by main.
class RelayParts final {
 public:
  /// @param diag opened in the daemon's own namespaces
  RelayParts(EventLoop& loop, SockDiag diag);

  [[nodiscard]] RelayContext& context() { return context_; }
  [[nodiscard]] DiagModules& modules() { return modules_; }
  [[nodiscard]] RelayServices services() { return {context_, gate_, identity_, &processes_}; }
  [[nodiscard]] RelayProcesses& processes() { return processes_; }
  void add_facts(Facts& facts_out) const;

 private:
  RelayContext context_;
  AcceptGate gate_;
  DiagModules modules_;
  ClientIdentity identity_;
  RelayProcesses processes_;
};

// Discovery with its dependencies: this machine's /proc, the registry that it fills, the engines,
// and the names of the programs that it has seen. Owned by main.
struct DiscoveryParts {
  /// The daemon's only children are its brokers, readers and file writers, which are no containers.
  explicit DiscoveryParts(EventLoop& event_loop)
      : loop(event_loop),
        reader(loop, {.program = broker_path()}),
        files(loop, {.program = broker_path(), .purpose = broker::Purpose::Files}),
        registry(loop, proc),
        discovery({loop, proc, facts, identifier, boundary, registry},
                  {.is_ours = [this](pid_t pid) { return proc.parent(pid) == ::getpid(); }}),
        http(loop),
        engines(loop, registry, http, engine_sockets(environment), podman_files(environment),
                files),
        trim(loop) {
    registry.add_observer(trim);
  }

  /// Adds what the readers could not read.
  void add_facts(Facts& facts_out) const;

  EventLoop& loop;
  const ProcDir proc;
  Reader reader;  ///< of processes
  Reader files;
  ProcessFactsCache facts{reader, proc};
  const Identifier identifier{proc, facts};
  const Boundary boundary{proc, identifier};
  Registry registry;
  AttachRequests attach{registry, proc, identifier, boundary};
  Discovery discovery;
  const EngineEnvironment environment = EngineEnvironment::of_this_process();
  HttpClient http;
  EngineFacts engines;
  FoundProcessNames names{{loop, proc, reader, facts, discovery, broker_path()}};
  MemoryTrim trim;
};

// Access to containers: the daemon's own brokers, helper containers of engines whose socket this
// user may access, and the set that chooses between them. Owned by main.
struct AccessParts {
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    const ProcDir& proc;
    std::vector<std::string> docker;  ///< sockets of Docker engines, best first
    RelayContext& relay;
    ProcessNames& names;
    const DiagModules& modules;
    UnixCarriers& carriers;
  };
  AccessParts(const Parts& parts, const Options& options, const Settings& settings);

  std::shared_ptr<BrokerLauncher> launcher;
  BrokerSet brokers;
  HelperContainers helpers;
  PathBrokers path_brokers;
  AccessSet access_set;
  PathBrokers::Lease host_paths;   ///< of the host, for forwards of Unix sockets
  ManagerEnvironment environment;  ///< for their paths
  HostPathParts host_path_parts;   ///< both, and the folder of portfwd
};

}  // namespace portfwd
