// One client of a datagram forward and the socket that stands for it inside: made in the
// container's namespace and connected to the listener, so that every client has a port of its own
// there and the kernel tells us when nobody listens any more. Owned by its DatagramPort, which
// moves the bytes. It knows neither users nor the host's socket.
//
// Until its socket is there, what the client sends is kept, a little of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "event/event_loop.h"
#include "kernel/datagrams.h"
#include "relay/dialer.h"
#include "relay/flow_table.h"

namespace portfwd {

class Flow;

class FlowObserver {
 public:
  // In each, `flow` may be retired, not destroyed.
  /// The target has sent something, or what was sent to it was refused.
  virtual void on_answers(Flow& flow) = 0;
  virtual void on_flow_connected(Flow& flow) = 0;
  virtual void on_flow_failed(Flow& flow, const Error& error) = 0;

 protected:
  ~FlowObserver() = default;
};

class Flow final : public Retirable, private IoHandler, private DialHandler {
 public:
  static constexpr std::size_t kMostKept = 64 * 1024;  ///< bytes, and datagrams of at least this:
  static constexpr std::size_t kLeastCharge = 1024;

  /// @param through which of its owner's sockets the client talks to; the references are borrowed
  Flow(EventLoop& loop, FlowObserver& observer, const FlowKey& client, std::size_t through)
      : key(client), via(through), loop_(loop), observer_(observer) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow() override = default;

  /// The observer is told within the call, if the socket is there at once.
  /// @param dialer of datagram sockets, borrowed until the outcome or stop_dialling()
  void dial(Dialer& dialer, std::span<const Address> candidates, TimePoint deadline);
  /// It waits: for another dial().
  void stop_dialling() { dial_.reset(); }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  /// It is done: nothing is heard of it from now on.
  void end();
  [[nodiscard]] bool ended() const { return ended_; }

  /// Towards the target, or kept until there is one. @return what was sent now
  DatagramsSent deliver(std::span<const Datagrams> messages);
  /// What was kept. To be called once it is connected.
  DatagramsSent deliver_kept();
  /// To it; -1 while it is not connected.
  [[nodiscard]] int socket() const { return socket_.get(); }

  [[nodiscard]] FlowRank rank() const { return flow_rank(asked, answered); }

  const FlowKey key;
  const std::size_t via;
  std::uint64_t asked = 0;     ///< the owner's: datagrams towards the target
  std::uint64_t answered = 0;  ///< the owner's
  TimePoint used{};            ///< the table's, as the next
  FlowTable<Flow>::Place place;
  TimePoint examined{};            ///< the owner's: when the client's standing was asked last
  std::uint32_t client_inode = 0;  ///< the owner's: of the client's socket, as it was let in

 private:
  void on_io(IoSource&, std::uint32_t) override { observer_.on_answers(*this); }
  void on_dialled(Result<UniqueFd> connected) override;
  void keep(const Datagrams& message);

  EventLoop& loop_;
  FlowObserver& observer_;
  std::unique_ptr<Dial> dial_;
  std::vector<std::vector<std::byte>> kept_;
  std::size_t kept_bytes_ = 0;
  UniqueFd socket_;
  std::optional<IoSource> source_;
  bool ended_ = false;
};

}  // namespace portfwd
