// Discovery put together for this machine: its /proc, the registry it fills, the engines that may
// be asked, and the names of the programs it has seen. Owned by main.
#pragma once

#include <unistd.h>

#include "access/process_names.h"
#include "base/facts.h"
#include "discover/discovery.h"
#include "discover/engine_facts.h"
#include "service/memory_trim.h"
#include "service/process_setup.h"

namespace portfwd {

struct DiscoveryParts {
  /// The daemon's only children are its brokers and readers, whose home is no container.
  explicit DiscoveryParts(EventLoop& event_loop)
      : loop(event_loop),
        reader(loop, {.program = broker_path()}),
        files(loop, {.program = broker_path(), .purpose = broker::Purpose::Files}),
        registry(loop, proc, identifier, boundary),
        discovery({loop, proc, facts, identifier, boundary, registry},
                  {.is_ours = [this](pid_t pid) { return proc.parent(pid) == ::getpid(); }}),
        http(loop),
        engines(loop, registry, http, engine_sockets(environment), podman_files(environment),
                files),
        trim(loop) {
    registry.add_observer(trim);
  }

  /// Of the readers: whom a name is missing for, and why.
  void add_facts(Facts& facts_out) const;

  EventLoop& loop;
  const ProcDir proc;
  Reader reader;  ///< of processes
  Reader files;
  ProcessFactsCache facts{reader, proc};
  const Identifier identifier{proc, facts};
  const Boundary boundary{proc, identifier};
  Registry registry;
  Discovery discovery;
  const EngineEnvironment environment = EngineEnvironment::of_this_process();
  HttpClient http;
  EngineFacts engines;
  FoundProcessNames names{{loop, proc, reader, facts, discovery, broker_path()}};
  MemoryTrim trim;
};

}  // namespace portfwd
