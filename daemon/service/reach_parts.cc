#include "service/reach_parts.h"

#include "service/process_setup.h"

namespace portfwd {

ReachParts::ReachParts(const Parts& parts, const Options& options, const Settings& settings)
    : brokers(parts.loop, std::make_shared<SpawnLauncher>(parts.loop, broker_path()),
              NamespaceOwner::this_process()),
      helpers({parts.loop, parts.http, options.runtime_folder, broker_path(), parts.docker}),
      reaches({parts.loop, brokers, helpers, parts.relay, parts.names, parts.sock_diag}, settings) {
}

}  // namespace portfwd
