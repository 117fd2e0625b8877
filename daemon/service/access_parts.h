// The ways into containers put together for this process: brokers of its own, helper containers by
// the engines that obey this user, and the set that chooses. Owned by main.
#pragma once

#include "access/access_set.h"
#include "engine/http_client.h"
#include "service/options.h"

namespace portfwd {

struct AccessParts {
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    const ProcDir& proc;
    std::vector<std::string> docker;  ///< sockets of Docker engines, best first
    RelayContext& relay;
    ProcessNames& names;
    const DiagModules& modules;
  };
  AccessParts(const Parts& parts, const Options& options, const Settings& settings);

  BrokerSet brokers;
  HelperContainers helpers;
  AccessSet reaches;
};

}  // namespace portfwd
