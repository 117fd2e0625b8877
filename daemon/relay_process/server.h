// The process's side of the protocol: carries out the daemon's requests and reports. Owned by main.
//
// Sockets that a message carried are *pending* until Released says that the daemon has closed its
// own descriptors of them. Then a Pair becomes a relay and a Discard is closed, in order, and each
// is accepted when that has been done: a process that waits in close(2) accepts nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "event/event_loop.h"
#include "relay/relay.h"
#include "relay/relay_context.h"
#include "relay_process/message_relay.h"
#include "relay_process/protocol.h"

namespace portfwd::relay_process {

class Server final : private IoHandler, private WaitHook {
 public:
  /// @param context borrowed @param daemon the process's end of the socket pair
  Server(RelayContext& context, UniqueFd daemon);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  /// Stops the loop when the daemon closes its end or sends a request that is not valid.
  [[nodiscard]] Result<void> start();
  /// Resets all connections, without reports.
  void reset_all();

 private:
  struct Pending {
    Request request;
    std::vector<UniqueFd> fds;
  };
  struct Connection {
    std::uint32_t group = 0;
    std::unique_ptr<Relay> relay;  ///< one of the two is null
    std::unique_ptr<MessageRelay> message_relay;
  };
  /// The relays of one forward.
  struct Group final : Retirable {
    Group(Server& server, std::uint32_t id);
    [[nodiscard]] bool has_news() const;
    /// Moves what was counted since the last call into `report`.
    void fill(Report& report);

    std::uint32_t id;
    Counters counters;
    std::uint64_t reported_in = 0;
    std::uint64_t reported_out = 0;
    std::size_t connections = 0;
    RelayGroup relays;
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void before_wait() override;
  [[nodiscard]] bool receive_one();
  void handle(const Request& request, std::vector<UniqueFd> fds);
  [[nodiscard]] bool is_in_use(std::uint32_t relay) const;
  void carry_out_pending();
  void relay(const Request& request, std::vector<UniqueFd> fds);
  void start_relay(const Request& request, UniqueFd client, UniqueFd target);
  void start_message_relay(const Request& request, UniqueFd client, UniqueFd target);
  void abort(std::uint32_t id);
  void end(std::uint32_t id, bool failed);
  Group& group(std::uint32_t id);
  void report_counters();
  void send(const Report& report);
  void send_unsent();

  RelayContext& context_;
  EventLoop& loop_;
  std::unique_ptr<MessageBuffer> message_buffer_;           ///< made when first needed
  std::map<std::uint32_t, std::unique_ptr<Group>> groups_;  ///< those with connections
  std::map<std::uint32_t, Connection> connections_;         ///< by the daemon's id
  std::vector<Pending> pending_;
  std::vector<Report> unsent_;  ///< the daemon's socket was full
  UniqueFd daemon_;
  IoSource source_;
  Timer report_;  ///< armed while a group has moved bytes that were not reported
};

}  // namespace portfwd::relay_process
