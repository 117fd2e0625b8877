#include "broker/client/broker_set.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>

namespace portfwd {

namespace {

bool has_sys_admin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return false;
  return (sets[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

/// @param which NS_GET_USERNS or NS_GET_PARENT; EPERM for one that is not below our own user
/// namespace. Source: ioctl_ns(2).
Result<UniqueFd> related(int ns, unsigned long which) {
  UniqueFd fd(::ioctl(ns, which));
  if (!fd.valid()) return fail("ioctl of a namespace");
  return fd;
}

}  // namespace

NamespaceOwner NamespaceOwner::this_process() {
  return {::geteuid(), has_sys_admin()};
}

BrokerSet::BrokerSet(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher,
                     NamespaceOwner owner)
    : loop_(loop),
      launcher_(std::move(launcher)),
      owner_(owner),
      own_userns_(::open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC)) {}

BrokerSet::Identity BrokerSet::identity(const UniqueFd& ns) {
  struct stat status {};
  if (::fstat(ns.get(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

/// @return the ancestor of the owning user namespace that is a child of ours, or our own where that
/// is the owner and we are privileged in it.
Result<UniqueFd> BrokerSet::direct_child_above(int netns) const {
  auto userns = related(netns, NS_GET_USERNS);
  if (!userns) return userns;
  if (identity(*userns) == identity(own_userns_)) {
    return owner_.privileged ? std::move(userns) : fail("setns", EPERM);
  }
  for (;;) {
    auto parent = related(userns->get(), NS_GET_PARENT);
    if (!parent) return parent;
    if (identity(*parent) == identity(own_userns_)) break;
    userns = std::move(parent);
  }
  uid_t uid = 0;
  if (::ioctl(userns->get(), NS_GET_OWNER_UID, &uid) != 0) return fail("ioctl of a namespace");
  if (!owner_.privileged && uid != owner_.uid) return fail("setns", EPERM);
  return userns;
}

Result<std::shared_ptr<BrokerClient>> BrokerSet::enter(int netns) {
  auto userns = direct_child_above(netns);
  if (!userns) return std::unexpected(userns.error());
  std::erase_if(brokers_, [](const auto& entry) { return entry.second.expired(); });
  const Identity key = identity(*userns);
  std::weak_ptr<BrokerClient>& known = brokers_[key];
  if (auto client = known.lock()) return client;
  if (key == identity(own_userns_)) userns->reset();  // nothing to join
  auto client = std::make_shared<BrokerClient>(loop_, launcher_, std::move(*userns));
  known = client;
  return client;
}

std::vector<pid_t> BrokerSet::pids() const {
  std::vector<pid_t> pids;
  for (const auto& [key, broker] : brokers_) {
    const auto client = broker.lock();
    if (client && client->pid() != 0) pids.push_back(client->pid());
  }
  return pids;
}

std::uint64_t BrokerSet::failures() const {
  std::uint64_t sum = 0;
  for (const auto& [key, broker] : brokers_) {
    if (const auto client = broker.lock()) sum += client->failures();
  }
  return sum;
}

}  // namespace portfwd
