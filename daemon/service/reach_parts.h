// The ways into containers put together for this process: brokers of its own, helper containers by
// the engines that obey this user, and the set that chooses. Owned by main.
#pragma once

#include "engine/http_client.h"
#include "reach/reach_set.h"
#include "service/options.h"

namespace portfwd {

struct ReachParts {
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    const ProcDir& proc;
    std::vector<std::string> docker;  ///< sockets of Docker engines, best first
    RelayContext& relay;
    ProcessNames& names;
    const DiagModules& modules;
  };
  ReachParts(const Parts& parts, const Options& options, const Settings& settings);

  BrokerSet brokers;
  HelperContainers helpers;
  ReachSet reaches;
};

}  // namespace portfwd
