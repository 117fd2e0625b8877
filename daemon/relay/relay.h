// One relayed connection: two stream sockets, and a pump for each direction. Owned by its
// StreamPort, retired when it is over. It works with any stream sockets, and knows neither users
// nor containers.
//
// Each direction closes separately: the end of input becomes a FIN at the other side, and the
// opposite direction continues. A reset is not an end of input. When one side is reset, nothing
// more is written to it, what it sent before is still delivered, and then the other side is reset
// too, so that no program takes a truncated stream for a complete one. A Unix socket reports a
// reset only if its peer has closed with unread bytes. It can be reset only by closing it while it
// has unread bytes; otherwise its peer sees an end of stream. Descriptors are never relayed.
//
// Each idle connection costs one relay, so a relay contains only what differs between connections.
#pragma once

#include <cassert>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "event/event_loop.h"
#include "net/address.h"
#include "relay/connection.h"
#include "relay/pump.h"

namespace portfwd {

// A set of owned objects that are added and removed in any order, in O(1), at the cost of one
// pointer each. Each element stores its position in its member `index`.
template <class T>
class SlotVector {
 public:
  T& add(std::unique_ptr<T> element) {
    element->index = static_cast<std::uint32_t>(elements_.size());
    return *elements_.emplace_back(std::move(element));
  }

  /// Releases `element`; the last element takes its position.
  [[nodiscard]] std::unique_ptr<T> remove(T& element) {
    assert(element.index < elements_.size() && elements_[element.index].get() == &element);
    std::unique_ptr<T> out = std::move(elements_[element.index]);
    if (element.index + 1 < elements_.size()) {
      elements_[element.index] = std::move(elements_.back());
      elements_[element.index]->index = element.index;
    }
    elements_.pop_back();
    return out;
  }

  [[nodiscard]] T& operator[](std::size_t index) { return *elements_[index]; }
  [[nodiscard]] T& last() { return *elements_.back(); }
  [[nodiscard]] bool empty() const { return elements_.empty(); }
  [[nodiscard]] std::size_t size() const { return elements_.size(); }
  [[nodiscard]] auto begin() const { return elements_.begin(); }
  [[nodiscard]] auto end() const { return elements_.end(); }

 private:
  std::vector<std::unique_ptr<T>> elements_;
};

/// The state of one relay, for its successor in a restarted daemon. See Relay::End.
struct RelayRecord {
  struct End {
    ResettingFd socket;
    PumpRecord pump;  ///< moves the input of this side
    PumpState state = PumpState::NeedsInput;
    bool broken = false;
    bool fin_sent = false;
    bool hung_up = false;
  };
  End client;
  End target;
  TimePoint began{};
  Family family = Family::V4;  ///< of the client
  bool redialled = false;
};

class Relay final : public RelayedConnection, private IoHandler {
 public:
  /// @param context, group borrowed @param client, target connected, non-blocking
  Relay(RelayContext& context, RelayGroup& group, UniqueFd client, UniqueFd target);
  /// Continues a connection of a former daemon. resume() must be called instead of start().
  Relay(RelayContext& context, RelayGroup& group, RelayRecord record);
  ~Relay() override;

  /// Makes a message with descriptors from that side reset the connection. For a Unix socket; see
  /// Pump::refuse_descriptors(). Must be called before start().
  void refuse_descriptors_of_client() { client_.pump.refuse_descriptors(); }
  void refuse_descriptors_of_target() { target_.pump.refuse_descriptors(); }
  /// Whether the connection was reset because of such a message.
  [[nodiscard]] bool has_refused_descriptors() const {
    return client_.pump.has_refused() || target_.pump.has_refused();
  }

  /// Starts at once with what the client has already sent: most clients send first. on_over is
  /// called from within if the client has reset the connection. Fails with the error of
  /// epoll_ctl(2).
  [[nodiscard]] Result<void> start() override;
  /// As start(), for a relay that was created from a record.
  [[nodiscard]] Result<void> resume();
  [[nodiscard]] std::optional<RelayRecord> save() override;
  void abort() override;
  [[nodiscard]] UniqueFd release_turned_away() override;

 private:
  /// One side, and the pump that moves its input to the other side. The small members after the
  /// pump are stored in its padding.
  struct End {
    End(EventLoop& loop, UniqueFd socket, IoHandler& handler)
        : fd(std::move(socket)), source(loop, fd.get(), handler) {}
    End(RelayContext& context, RelayRecord::End record, IoHandler& handler);
    [[nodiscard]] RelayRecord::End save();
    [[nodiscard]] bool done() const { return state == PumpState::Finished; }

    UniqueFd fd;
    IoSource source;
    [[no_unique_address]] Pump pump;
    PumpState state = PumpState::NeedsInput;  ///< of `pump`; between events never a broken one
    bool broken = false;                      ///< was reset: accepts no bytes, has no more events
    bool fin_sent = false;
    bool hung_up = false;  ///< closed both ways without an error: epoll has no more events for it
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void advance(End& from, End& to, std::size_t most = Pump::kBytesPerTurn);
  static void check_for_reset(End& end, End& other);
  static void mark_broken(End& end, End& other);
  static std::uint32_t interest(const End& end, const End& other);
  [[nodiscard]] bool end_if_done();
  [[nodiscard]] Result<void> watch_both();
  void end_or_watch();
  void end_with_reset(End& lost, End& survivor);
  [[nodiscard]] bool was_turned_away() const;
  void discard_input_until_sent(End& survivor);
  void finish();
  void close_both();

  RelayContext& context_;
  RelayGroup& group_;
  End client_;
  End target_;
  TimePoint began_;
};

/// Relays in this process.
class LocalCarrier final : public Carrier {
 public:
  /// @param context borrowed
  explicit LocalCarrier(RelayContext& context) : context_(context) {}

  [[nodiscard]] std::unique_ptr<RelayedConnection> carry(RelayGroup& group, UniqueFd client,
                                                         UniqueFd target,
                                                         const CarryOptions&) override {
    return std::make_unique<Relay>(context_, group, std::move(client), std::move(target));
  }
  void discard(UniqueFd socket) override { reset_on_close(socket.get()); }

 private:
  RelayContext& context_;
};

static_assert(sizeof(Relay) <= 200, "an idle connection costs a quarter of a KiB");

}  // namespace portfwd
