#include "kernel/datagrams.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

namespace portfwd {

namespace {

constexpr std::size_t kMostSegments = 64;   // UDP_MAX_SEGMENTS of linux/udp.h before 6.10
constexpr std::size_t kMostBytes = 65'000;  // of several datagrams; below any header's limit
constexpr std::size_t kMostParts = 64;      // gathered in the messages of one call
constexpr std::size_t kMostHeaders = 32;    // messages of one call
constexpr std::size_t kControlBytes =
    CMSG_SPACE(sizeof(std::uint16_t)) + CMSG_SPACE(sizeof(in6_pktinfo));

template <class T>
std::optional<T> value_of(const cmsghdr& message) {
  if (message.cmsg_len < CMSG_LEN(sizeof(T))) return std::nullopt;
  T value;
  std::memcpy(&value, CMSG_DATA(&message), sizeof value);
  return value;
}

void read_control(const cmsghdr& message, Datagrams& datagrams, Arrived& end) {
  if (message.cmsg_level == SOL_UDP && message.cmsg_type == UDP_GRO) {
    const auto each = value_of<int>(message);
    if (each && *each > 0) datagrams.each = static_cast<std::size_t>(*each);
  } else if (message.cmsg_level == IPPROTO_IP && message.cmsg_type == IP_PKTINFO) {
    const auto info = value_of<in_pktinfo>(message);
    if (info) end.at = IpAddress::from_network(Family::V4, &info->ipi_spec_dst);
  } else if (message.cmsg_level == IPPROTO_IPV6 && message.cmsg_type == IPV6_PKTINFO) {
    const auto info = value_of<in6_pktinfo>(message);
    if (info) end.at = IpAddress::from_network(Family::V6, &info->ipi6_addr);
  }
}

/// Consecutive messages whose datagrams are sent in one message.
struct Run {
  std::size_t first;  ///< index of the first message
  std::size_t messages;
  std::size_t bytes;
  std::size_t each;
  std::size_t count;
  bool ends_short;  ///< the last datagram is shorter, so that none can follow

  [[nodiscard]] bool takes(const Datagrams& next) const {
    const bool fits = next.each == each || (next.count() == 1 && next.each < each);
    return fits && !ends_short && next.each > 0 && bytes + next.bytes.size() <= kMostBytes &&
           count + next.count() <= kMostSegments;
  }
  void add(const Datagrams& next) {
    ++messages;
    bytes += next.bytes.size();
    count += next.count();
    ends_short = each == 0 || bytes % each != 0;
  }
};

Run run_at(std::span<const Datagrams> messages, std::size_t first) {
  Run run{first, 0, 0, messages[first].each, 0, false};
  run.add(messages[first]);
  while (first + run.messages < messages.size() && run.takes(messages[first + run.messages])) {
    run.add(messages[first + run.messages]);
  }
  return run;
}

/// The control messages of one header.
class Control {
 public:
  void clear() { used_ = 0; }
  template <class T>
  void add(int level, int type, const T& value) {
    auto* const message =
        reinterpret_cast<cmsghdr*>(bytes_.data() + used_);  // CMSG_SPACE keeps it aligned
    message->cmsg_level = level;
    message->cmsg_type = type;
    message->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(message), &value, sizeof value);
    used_ += CMSG_SPACE(sizeof value);
  }
  void attach(msghdr& header) {
    header.msg_control = used_ == 0 ? nullptr : bytes_.data();
    header.msg_controllen = used_;
  }

 private:
  alignas(cmsghdr) std::array<std::byte, kControlBytes> bytes_;  // written before it is read
  std::size_t used_ = 0;
};

void add_source(Control& control, const IpAddress& from) {
  if (from.family() == Family::V4) {
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, from.data(), sizeof info.ipi_spec_dst);
    control.add(IPPROTO_IP, IP_PKTINFO, info);
  } else {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, from.data(), sizeof info.ipi6_addr);
    control.add(IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
}

/// Sends messages to one destination.
class Sending {
 public:
  Sending(int socket, std::span<const Datagrams> messages, const DatagramRoute* route)
      : socket_(socket), messages_(messages), route_(route) {
    if (route_ != nullptr) to_ = to_sockaddr(route_->to);
  }

  DatagramsSent send_all() {
    while (next_ < messages_.size()) send_some();
    return sent_;
  }

 private:
  void send_some() {
    prepare();
    std::size_t done = 0;
    while (done < runs_used_) {
      const auto left = static_cast<unsigned>(runs_used_ - done);
      const int sent = ::sendmmsg(socket_, &headers_[done], left, MSG_DONTWAIT | MSG_NOSIGNAL);
      for (int i = 0; i < sent; ++i) sent_.bytes += runs_[done + static_cast<std::size_t>(i)].bytes;
      done += static_cast<std::size_t>(std::max(sent, 0));
      if (sent <= 0) failed(runs_[done++], errno);
    }
  }

  /// Prepares as many runs as one call accepts.
  void prepare() {
    runs_used_ = 0;
    std::size_t parts = 0;
    while (next_ < messages_.size() && runs_used_ < kMostHeaders) {
      const Run run = run_at(messages_, next_);
      if (parts + run.messages > kMostParts) break;
      for (std::size_t i = 0; i < run.messages; ++i) {
        parts_[parts + i] = part(messages_[run.first + i].bytes);
      }
      describe(run, &parts_[parts]);
      parts += run.messages;
      next_ += run.messages;
    }
  }

  void describe(const Run& run, iovec* parts) {
    Control& control = controls_[runs_used_];
    control.clear();
    if (route_ != nullptr && route_->from) add_source(control, *route_->from);
    if (run.count > 1) {
      control.add(SOL_UDP, UDP_SEGMENT, static_cast<std::uint16_t>(run.each));
    }
    msghdr& header = headers_[runs_used_].msg_hdr = {};
    header.msg_iov = parts;
    header.msg_iovlen = run.messages;
    control.attach(header);
    address(header);
    runs_[runs_used_++] = run;
  }

  void address(msghdr& header) {
    header.msg_name = route_ == nullptr ? nullptr : &to_.storage;
    header.msg_namelen = route_ == nullptr ? 0 : to_.length;
  }

  static iovec part(std::span<const std::byte> bytes) {
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};  // the call only reads it
  }

  /// Sends datagrams one by one after an error that concerns their size: where packets must be
  /// smaller than the datagrams, the kernel accepts only single ones.
  void failed(const Run& run, int error) {
    const bool by_size = error == EINVAL || error == EMSGSIZE || error == EIO;
    if (run.count == 1 || !by_size) {
      sent_.error = error;
      return;
    }
    for (std::size_t i = run.first; i < run.first + run.messages; ++i) send_singly(messages_[i]);
  }

  void send_singly(const Datagrams& message) {
    for (std::size_t at = 0; at < message.bytes.size(); at += message.each) {
      const auto one =
          message.bytes.subspan(at).first(std::min(message.each, message.bytes.size() - at));
      iovec bytes = part(one);
      Control control;
      if (route_ != nullptr && route_->from) add_source(control, *route_->from);
      msghdr header{};
      header.msg_iov = &bytes;
      header.msg_iovlen = 1;
      control.attach(header);
      address(header);
      if (::sendmsg(socket_, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        sent_.error = errno;
      } else {
        sent_.bytes += one.size();
      }
    }
  }

  int socket_;
  std::span<const Datagrams> messages_;
  const DatagramRoute* route_;
  SockAddr to_;
  std::size_t next_ = 0;
  std::size_t runs_used_ = 0;
  DatagramsSent sent_;
  // Not zeroed: written before they are read.
  std::array<Run, kMostHeaders> runs_;
  std::array<mmsghdr, kMostHeaders> headers_;
  std::array<iovec, kMostParts> parts_;
  std::array<Control, kMostHeaders> controls_;
};

void switch_on(int socket, int level, int option) {
  const int on = 1;
  (void)::setsockopt(socket, level, option, &on, sizeof on);
}

}  // namespace

DatagramReceiver::DatagramReceiver() : memory_(std::make_unique_for_overwrite<Memory>()) {
  for (std::size_t slot = 0; slot < kMessages; ++slot) {
    parts_[slot] = {memory_->data() + slot * kLargest, kLargest};
    reset_header(slot);
  }
}

/// Restores the buffer sizes in the header, which a receive call overwrites.
void DatagramReceiver::reset_header(std::size_t slot) {
  msghdr& header = headers_[slot].msg_hdr;
  header.msg_iov = &parts_[slot];
  header.msg_iovlen = 1;
  header.msg_name = &senders_[slot];
  header.msg_namelen = sizeof(sockaddr_storage);
  header.msg_control = controls_[slot].data();
  header.msg_controllen = kControl;
}

void DatagramReceiver::store_message(std::size_t slot) {
  assert(slot < kMessages && headers_[slot].msg_len <= kLargest);
  msghdr& header = headers_[slot].msg_hdr;
  Datagrams& out = received_[slot];
  out.bytes = {memory_->data() + slot * kLargest, headers_[slot].msg_len};
  out.each = out.bytes.size();
  Arrived& end = ends_[slot] = {};
  SockAddr sender;
  sender.length = header.msg_namelen;
  std::memcpy(&sender.storage, &senders_[slot], sender.length);
  if (const auto from = from_sockaddr(sender)) end.from = *from;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    read_control(*c, out, end);
  }
}

Result<ReceivedDatagrams> DatagramReceiver::receive(int socket) {
  const int got = ::recvmmsg(socket, headers_.data(), kMessages, MSG_DONTWAIT, nullptr);
  if (got < 0 && errno != EAGAIN) return fail("recvmmsg");
  const auto count = static_cast<std::size_t>(std::max(got, 0));
  for (std::size_t slot = 0; slot < count; ++slot) {
    store_message(slot);
    reset_header(slot);
  }
  return ReceivedDatagrams{std::span(received_).first(count), std::span(ends_).first(count),
                           count < kMessages};
}

DatagramsSent send_datagrams(int socket, std::span<const Datagrams> messages,
                             const DatagramRoute* route) {
  return Sending(socket, messages, route).send_all();
}

void receive_together(int socket) {
  switch_on(socket, SOL_UDP, UDP_GRO);
}

void enable_arrival_address(int socket, Family family) {
  if (family == Family::V4) {
    switch_on(socket, IPPROTO_IP, IP_PKTINFO);
  } else {
    switch_on(socket, IPPROTO_IPV6, IPV6_RECVPKTINFO);
  }
}

}  // namespace portfwd
