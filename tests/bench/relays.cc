#include "bench/relays.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "bench/load.h"
#include "support/veth.h"

namespace portfwd::bench {
namespace {

using Words = std::vector<std::string>;

/// The task of one relay.
struct Order {
  Place from;
  Place to;
  std::string folder;
  pid_t container = 0;
};

/// Which process makes the listener, and from where the target is reached.
enum class Kind : std::uint8_t {
  TakesListener,  ///< the benchmark makes it on the host; the relay runs inside
  Enters,         ///< the relay makes it and enters by itself
  Outside,        ///< the relay makes it and cannot enter
};

struct Peer {
  const char* name;
  const char* program;
  Kind kind;
  Words (*words)(const Order& order);
};

std::string write_config(const Order& order, const char* name, const std::string& text) {
  std::string path = order.folder + "/" + name;
  std::ofstream(path) << text;
  return path;
}

Words socket_proxyd(const Order& order) {
  return {"--connections-max=5000", order.to.text()};
}

Words haproxy(const Order& order) {
  const std::string path = write_config(
      order, "haproxy.cfg",
      fmt::format("global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n"
                  " timeout client 60s\n timeout server 60s\nlisten relay\n bind fd@3\n"
                  " option splice-request\n option splice-response\n server target {}\n",
                  order.to.text("unix@")));
  return {"-db", "-q", "-f", path};
}

/// Inherits the listener in the variable NGINX if the configuration names the same address.
Words nginx(const Order& order) {
  const std::string path = write_config(
      order, "nginx.conf",
      fmt::format("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\n"
                  "worker_processes 1;\nerror_log /dev/null;\npid {}/nginx.pid;\n"
                  "events {{ worker_connections 8192; }}\n"
                  "stream {{ server {{ listen {}; proxy_pass {}; }} }}\n",
                  order.folder, order.from.text("unix:"), order.to.text("unix:")));
  return {"-p", order.folder, "-e", "/dev/null", "-c", path};
}

/// It requires a network interface with an address that it can use; lo serves, under another name
/// inside.
Words pasta(const Order& order) {
  const std::string ports = fmt::format("127.0.0.1/{}:{}", order.from.port, order.to.port);
  return {"-f",   "-q",       "-4",
          "-i",   "lo",       "-I",
          "tap0", "-M",       "02:00:00:00:00:01",
          "-a",   "10.1.1.2", "-n",
          "24",   "-g",       "10.1.1.1",
          "-t",   ports,      "-T",
          "none", "-u",       "none",
          "-U",   "none",     std::to_string(order.container)};
}

Words docker_proxy(const Order& order) {
  return {"-proto",          "tcp",
          "-host-ip",        order.from.address,
          "-host-port",      std::to_string(order.from.port),
          "-container-ip",   order.to.address,
          "-container-port", std::to_string(order.to.port)};
}

Words socat(const Order& order) {
  if (!order.from.path.empty()) {
    return {"-b65536", fmt::format("UNIX-LISTEN:{},fork,backlog=4096", order.from.path),
            "UNIX-CONNECT:" + order.to.path};
  }
  return {"-b65536",
          fmt::format("TCP4-LISTEN:{},bind={},fork,backlog=4096,reuseaddr,nodelay", order.from.port,
                      order.from.address),
          fmt::format("TCP4:{},nodelay", order.to.text())};
}

constexpr Peer kSocketProxyd{"systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd",
                             Kind::TakesListener, socket_proxyd};
constexpr Peer kHaproxy{"haproxy, splice", "/usr/sbin/haproxy", Kind::TakesListener, haproxy};
constexpr Peer kNginx{"nginx, stream", "/usr/sbin/nginx", Kind::TakesListener, nginx};
constexpr Peer kPasta{"pasta", "/usr/bin/pasta", Kind::Enters, pasta};
constexpr Peer kDockerProxy{"docker-proxy", "/usr/sbin/docker-proxy", Kind::Outside, docker_proxy};
constexpr Peer kSocat{"socat", "/usr/bin/socat", Kind::Outside, socat};

constexpr std::array kPeers{kPasta, kHaproxy, kSocketProxyd, kNginx, kDockerProxy, kSocat};
constexpr std::array kUnixPeers{kHaproxy, kSocketProxyd, kNginx, kSocat};

/// Keeps the capabilities of a process in its own user namespace across execve(2), which otherwise
/// clears them.
void keep_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  ::syscall(SYS_capget, &header, sets.data());
  for (auto& set : sets) set.inheritable = set.permitted;
  ::syscall(SYS_capset, &header, sets.data());
  for (int cap = 0; cap <= CAP_LAST_CAP; ++cap) {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
  }
}

pid_t start(const Peer& peer, Order& order) {
  UniqueFd listener;
  if (order.from.path.empty() || peer.kind == Kind::TakesListener) {
    listener = listen_at(order.from, SOCK_NONBLOCK);
  }
  if (order.from.path.empty()) order.from.port = port_of(listener);
  const bool takes = peer.kind == Kind::TakesListener;
  if (!takes) listener.reset();
  return start_program(peer.program, peer.words(order), takes ? listener.get() : -1,
                       takes ? order.container : 0);
}

bool works(const Place& place) {
  const Load probe{"", LoadKind::Echo, 1};
  for (const auto end = Clock::now() + std::chrono::seconds(5); Clock::now() < end;) {
    if (run_load(probe, place, std::chrono::milliseconds(1)).rate > 0) return true;
  }
  return false;
}

void drop_broken(std::list<RelayProcess>& all) {
  all.remove_if([](const RelayProcess& relay) {
    const bool broken = !works(relay.place());
    if (broken) fmt::print(stderr, "{} is installed but does not work here\n", relay.name());
    return broken;
  });
}

bool installed(const Peer& peer) {
  return std::filesystem::exists(peer.program);
}

}  // namespace

std::string join_by_veth(pid_t container) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    keep_capabilities();
    const testing_support::Veth veth(container, 1);
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
  return "10.88.1.2";
}

std::list<RelayProcess> start_peers(const Target& target) {
  std::list<RelayProcess> all;
  for (const Peer& peer : kPeers) {
    if (!installed(peer)) continue;
    Order order{{}, {.port = target.port}, target.folder, target.container};
    if (peer.kind == Kind::Outside) order.to.address = target.address;
    const pid_t pid = start(peer, order);
    all.emplace_back(peer.name, order.from, pid);
  }
  drop_broken(all);
  return all;
}

std::list<RelayProcess> start_unix_peers(const std::string& server, const std::string& folder) {
  std::list<RelayProcess> all;
  for (const Peer& peer : kUnixPeers) {
    if (!installed(peer)) continue;
    Order order{{.path = fmt::format("{}/relay{}", folder, all.size())}, {.path = server}, folder};
    const pid_t pid = start(peer, order);
    all.emplace_back(peer.name, order.from, pid);
  }
  drop_broken(all);
  return all;
}

}  // namespace portfwd::bench
