#include "bench/udp_load.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "bench/figures.h"
#include "kernel/datagrams.h"
#include "net/address.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::size_t kBatch = 64;
constexpr std::size_t kLargest = 2048;
constexpr int kPatience = 20;  // ms without an answer, after which the datagrams count as lost

/// Sends and receives datagrams one message each, since servers and clients need not support more.
class Batch {
 public:
  explicit Batch(std::size_t size) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts_[i] = {bytes_[i].data(), size};
      headers_[i].msg_hdr.msg_iov = &parts_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
    }
  }
  /// @return the number of datagrams
  int receive(const UniqueFd& fd, bool with_senders) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts_[i].iov_len = kLargest;
      headers_[i].msg_hdr.msg_name = with_senders ? &senders_[i] : nullptr;
      headers_[i].msg_hdr.msg_namelen = with_senders ? sizeof senders_[i] : 0;
    }
    return ::recvmmsg(fd.get(), headers_.data(), kBatch,
                      with_senders ? MSG_WAITFORONE : MSG_DONTWAIT, nullptr);
  }
  void send_back(const UniqueFd& fd, int count) {
    for (int i = 0; i < count; ++i)
      parts_[std::size_t(i)].iov_len = headers_[std::size_t(i)].msg_len;
    (void)::sendmmsg(fd.get(), headers_.data(), unsigned(count), 0);
  }
  void send(const UniqueFd& fd, std::uint32_t count, std::size_t size) {
    for (std::size_t i = 0; i < count; ++i) {
      parts_[i].iov_len = size;
      headers_[i].msg_hdr.msg_name = nullptr;
      headers_[i].msg_hdr.msg_namelen = 0;
    }
    (void)::sendmmsg(fd.get(), headers_.data(), count, 0);
  }

 private:
  std::array<std::array<char, kLargest>, kBatch> bytes_{};
  std::array<iovec, kBatch> parts_{};
  std::array<mmsghdr, kBatch> headers_{};
  std::array<sockaddr_storage, kBatch> senders_{};
};

SockAddr loopback(std::uint16_t port) {
  return to_sockaddr({IpAddress::loopback(Family::V4), port});
}

UniqueFd open_client(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SockAddr to = loopback(port);
  if (::connect(fd.get(), to.get(), to.length) != 0) give_up("UDP: connect failed");
  return fd;
}

UniqueFd open_server(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const SockAddr at = loopback(port);
  if (::bind(fd.get(), at.get(), at.length) != 0) give_up("UDP: bind failed");
  return fd;
}

bool readable(const UniqueFd& fd, int patience) {
  pollfd ready{fd.get(), POLLIN, 0};
  return ::poll(&ready, 1, patience) == 1;
}

[[noreturn]] void serve_trains(std::uint16_t port) {
  const UniqueFd fd = open_server(port);
  receive_together(fd.get());
  DatagramReceiver receiver;
  for (;;) {
    (void)readable(fd, -1);
    const auto got = receiver.receive(fd.get());
    for (std::size_t i = 0; got && i < got->messages.size(); ++i) {
      const DatagramRoute back{got->ends[i].from, std::nullopt};
      (void)send_datagrams(fd.get(), got->messages.subspan(i, 1), &back);
    }
  }
}

double run_trains(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds duration) {
  const UniqueFd fd = open_client(port);
  receive_together(fd.get());
  DatagramReceiver receiver;
  const std::vector<std::byte> bytes(std::size_t{load.train} * load.size);
  const Datagrams train{bytes, load.size};
  std::uint64_t echoes = 0;
  std::uint64_t may_send = load.under_way;
  const auto began = Clock::now();
  while (Clock::now() < began + duration) {
    for (; may_send >= load.train; may_send -= load.train) {
      (void)send_datagrams(fd.get(), std::span(&train, 1));
    }
    if (!readable(fd, kPatience)) may_send = load.under_way;
    const auto got = receiver.receive(fd.get());
    if (!got) continue;
    for (const Datagrams& message : got->messages) {
      echoes += message.count();
      may_send = std::min<std::uint64_t>(may_send + message.count(), load.under_way);
    }
  }
  return double(echoes) / std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace

void serve_datagrams(std::uint16_t port) {
  if (::fork() == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve_trains(port + kTrains);
  }
  const UniqueFd fd = open_server(port);
  Batch batch(kLargest);
  for (;;) {
    if (const int got = batch.receive(fd, true); got > 0) batch.send_back(fd, got);
  }
}

double run_udp_load(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds duration) {
  if (load.train > 1) return run_trains(load, port + kTrains, duration);
  Batch batch(load.size);
  std::vector<UniqueFd> clients;
  std::vector<pollfd> waits;
  const auto renew = [&](std::size_t i) {
    clients[i] = open_client(port);
    waits[i] = {clients[i].get(), POLLIN, 0};
  };
  clients.resize(load.clients);
  waits.resize(load.clients);
  for (std::size_t i = 0; i < load.clients; ++i) {
    renew(i);
    batch.send(clients[i], load.under_way, load.size);
  }
  std::uint64_t echoes = 0;
  const auto began = Clock::now();
  while (Clock::now() < began + duration) {
    const bool lost = ::poll(waits.data(), waits.size(), kPatience) == 0;
    for (std::size_t i = 0; i < load.clients; ++i) {
      if (!lost && waits[i].revents == 0) continue;
      const int got = batch.receive(clients[i], false);
      echoes += got > 0 ? std::uint64_t(got) : 0;
      if (load.renewed && got > 0) renew(i);
      const std::uint32_t again = lost ? load.under_way : std::uint32_t(got > 0 ? got : 1);
      batch.send(clients[i], again, load.size);
    }
  }
  return double(echoes) / std::chrono::duration<double>(Clock::now() - began).count();
}

void ask_once_each(std::size_t clients, std::uint16_t port) {
  Batch batch(64);
  std::vector<UniqueFd> asked;
  while (asked.size() < clients) {
    const UniqueFd& one = asked.emplace_back(open_client(port));
    const auto end = Clock::now() + 5s;
    do {
      if (Clock::now() > end) give_up("UDP: no echo");
      batch.send(one, 1, 64);
    } while (!readable(one, kPatience) || batch.receive(one, false) <= 0);
  }
}

}  // namespace portfwd::bench
