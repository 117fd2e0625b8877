#include "broker/client/broker_set.h"

#include <unistd.h>

#include "kernel/netns.h"

namespace portfwd {

NamespaceOwner NamespaceOwner::this_process() {
  return {::geteuid(), privileged_here()};
}

BrokerSet::BrokerSet(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher,
                     NamespaceOwner owner)
    : loop_(loop), launcher_(std::move(launcher)), owner_(owner) {}

Result<std::shared_ptr<BrokerClient>> BrokerSet::enter(int netns) {
  auto gate = gate_of(netns);
  if (!gate) return std::unexpected(gate.error());
  const bool is_owners = gate->userns.valid() && gate->owner == owner_.uid;
  if (!owner_.privileged && !is_owners) return fail("setns", EPERM);
  const std::uint64_t inode = gate->inode;
  if (const auto known = brokers_.find(inode); known != brokers_.end()) return known->second.lock();
  const auto forget = [this, inode](BrokerClient* client) {
    brokers_.erase(inode);  // before another user namespace can have the inode
    delete client;
  };
  std::shared_ptr<BrokerClient> client(new BrokerClient(loop_, launcher_, std::move(gate->userns)),
                                       forget);
  brokers_.emplace(inode, client);
  return client;
}

std::vector<pid_t> BrokerSet::pids() const {
  std::vector<pid_t> pids;
  for (const auto& [inode, broker] : brokers_) {
    const auto client = broker.lock();
    if (client && client->pid() != 0) pids.push_back(client->pid());
  }
  return pids;
}

std::uint64_t BrokerSet::failures() const {
  std::uint64_t sum = 0;
  for (const auto& [inode, broker] : brokers_) {
    if (const auto client = broker.lock()) sum += client->failures();
  }
  return sum;
}

}  // namespace portfwd
