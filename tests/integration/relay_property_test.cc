// Random sequences of actions on several connections at a time, and what each end must receive from
// the other: only what was sent, in order; all of it if the other end closed in order; and never an
// end of stream after a part of it. The test uses nothing but the two ends of each relay.
//
// --gtest_random_seed=N selects another sequence. The messages of the checks are the contract.
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <functional>
#include <list>
#include <random>
#include <sstream>

#include "support/deadline.h"
#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t bound) { return engine_() % bound; }
  template <class Range>
  auto one_of(const Range& range) {
    return range[below(range.size())];
  }

 private:
  std::mt19937_64 engine_;
};

/// Sizes around the thresholds of a pump, and some arbitrary ones.
std::size_t random_size(Random& random) {
  static constexpr std::array kThresholds{std::size_t{1}, Pump::kSmallSplice, Pump::kBulkRead,
                                          RelayContext::kBufferSize, Pump::kBytesPerTurn};
  switch (random.below(4)) {
    case 0:
      return 1 + random.below(100);
    case 1:
      return 1 + random.below(100'000);
    default:
      return random.one_of(kThresholds) + random.below(3);
  }
}

/// The data that every end sends, each from its own offset.
const std::string& tape() {
  static const std::string kTape = random_text(1'048'573);  // a prime, so that chunks never align
  return kTape;
}

/// One end of a connection: its actions, and what it has seen.
class FarEnd {
 public:
  FarEnd(UniqueFd socket, StreamKind kind, std::size_t place)
      : fd_(std::move(socket)), kind_(kind), tape_offset_(place) {}

  /// Writes up to `size` bytes, as many as the socket accepts.
  void write(std::size_t size) {
    while (size > 0 && fd_.valid() && !fin_sent_ && !reset_seen_by_write_) {
      const std::string_view text = words(sent_, size);
      const ssize_t n = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      reset_seen_by_write_ = n < 0 && errno != EAGAIN;
      if (n < 0) return;
      sent_ += static_cast<std::size_t>(n);
      size -= static_cast<std::size_t>(n);
    }
  }
  /// Reads up to `most` bytes.
  /// @param other the other end; the bytes are compared with what it has sent
  void read(std::size_t most, const FarEnd& other) {
    static std::array<char, 65536> buffer;
    while (most > 0 && fd_.valid() && ending_ == Ending::None) {
      const ssize_t n = ::recv(fd_.get(), buffer.data(), std::min(most, buffer.size()), 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) ending_ = errno == ECONNRESET ? Ending::Reset : Ending::Other;
      if (n == 0) ending_ = reset_seen_by_write_ ? Ending::Reset : Ending::Fin;  // reported once
      if (n > 0) take({buffer.data(), static_cast<std::size_t>(n)}, other);
      most -= std::min(most, buffer.size());
    }
  }
  void half_close() {
    if (!fd_.valid()) return;
    ::shutdown(fd_.get(), SHUT_WR);
    fin_sent_ = true;
  }
  void close(const FarEnd& other) {
    if (!fd_.valid()) return;
    received_all_ = ending_ == Ending::Fin || got_ == other.sent_;
    abrupt_ = unread() > 0;
    fin_sent_ = fin_sent_ || !abrupt_;
    leave();
  }
  void reset() {
    if (!fd_.valid()) return;
    abrupt_ = kind_ != StreamKind::Unix || unread() > 0;
    fin_sent_ = fin_sent_ || !abrupt_;
    reset_on_close(fd_.get());
    leave();
  }

  [[nodiscard]] bool present() const { return fd_.valid(); }
  [[nodiscard]] bool finished() const { return !fd_.valid() || ending_ != Ending::None; }

  /// Checks what an end that stayed open must have received from `other`.
  void check(const FarEnd& other) const {
    const bool whole = got_ == other.sent_;
    EXPECT_TRUE(same_) << "only what was sent, in order";
    EXPECT_LE(got_, other.sent_);
    EXPECT_GE(got_, other.promised(*this)) << "what was under way before the end arrives";
    EXPECT_NE(ending_, Ending::Other);
    if (other.orderly(*this)) {
      EXPECT_EQ(ending_, Ending::Fin);
      EXPECT_TRUE(whole);
    } else if (kind_ != StreamKind::Unix) {  // Unix sockets see no reset
      EXPECT_TRUE(ending_ == Ending::Reset || (other.fin_sent_ && whole)) << "a part taken for all";
    }
  }

  friend std::ostream& operator<<(std::ostream& out, const FarEnd& end) {
    return out << name_of(end.kind_) << ": sent " << end.sent_ << ", got " << end.got_ << ", saw "
               << end.ending_ << (end.fin_sent_ ? ", had said all" : "")
               << (end.left_ ? end.abrupt_ ? ", was reset" : ", closed" : "");
  }

 private:
  [[nodiscard]] std::string_view words(std::size_t from, std::size_t most) const {
    return std::string_view(tape()).substr((tape_offset_ + from) % tape().size(), most);
  }
  void take(std::string_view text, const FarEnd& other) {
    while (!text.empty()) {
      const std::string_view expected = other.words(got_, text.size());
      same_ = same_ && text.starts_with(expected);
      got_ += expected.size();
      text.remove_prefix(expected.size());
    }
  }
  [[nodiscard]] std::size_t unread() const {
    int bytes = 0;
    EXPECT_EQ(::ioctl(fd_.get(), FIONREAD, &bytes), 0);
    return static_cast<std::size_t>(bytes);
  }
  void leave() {
    int unacked = 0;
    if (kind_ != StreamKind::Unix) (void)::ioctl(fd_.get(), SIOCOUTQ, &unacked);
    left_behind_ = static_cast<std::size_t>(unacked);
    left_ = true;
    fd_.reset();
  }

  /// Whether this end has ended so that `other` sees all data and an end of stream: it is still
  /// open, or had received everything when it closed.
  [[nodiscard]] bool orderly(const FarEnd& other) const {
    if (!left_) return true;
    return !abrupt_ && received_all_ && got_ == other.sent_;
  }
  /// Number of bytes that `other` must receive. A kernel discards unsent data when it sends a
  /// reset, or receives one because the other end has closed.
  [[nodiscard]] std::size_t promised(const FarEnd& other) const {
    return orderly(other) ? sent_ : sent_ - std::min(left_behind_, sent_);
  }

  UniqueFd fd_;
  StreamKind kind_;
  std::size_t tape_offset_;  ///< offset in the tape
  std::size_t sent_ = 0;
  std::size_t got_ = 0;
  std::size_t left_behind_ = 0;
  Ending ending_ = Ending::None;
  bool same_ = true;
  bool fin_sent_ = false;  ///< it has sent a FIN
  bool left_ = false;
  bool abrupt_ = false;               ///< its kernel has sent a RST
  bool received_all_ = false;         ///< at its close
  bool reset_seen_by_write_ = false;  ///< a write has reported the reset
};

/// Shared by all connections.
struct Place {
  explicit Place(std::uint64_t seed) : random(seed) {}
  Random random;
  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  Counters counters;
};

class Connection final {
 public:
  Connection(Place& place, StreamKind client, StreamKind target)
      : Connection(place, client, target, stream_pair(client), stream_pair(target)) {}

  void step() {
    Random& random = tape_offset_.random;
    const std::size_t from = random.below(2);
    FarEnd& end = ends_[from];
    FarEnd& other = ends_[1 - from];
    const std::size_t die = random.below(40);
    log_ << "ct"[from] << die << ' ';
    if (die < 24) end.write(random_size(random));
    if (die >= 24 && die < 28)
      for (int i = 0; i < 20; ++i) end.write(1);
    if (die >= 28 && die < 34) reads_[from] = !reads_[from];
    if (die >= 34 && die < 37) end.half_close();
    if (die == 37 || die == 38) end.close(other);
    if (die == 39) end.reset();
    for (std::size_t i : {0U, 1U}) {
      if (reads_[i]) ends_[i].read(random.below(200'000), ends_[1 - i]);
    }
  }
  void finish() {
    for (FarEnd& end : ends_) end.half_close();
  }
  /// @return whether each end has seen the end of the other one
  bool read_to_the_end() {
    for (std::size_t i : {0U, 1U}) ends_[i].read(SIZE_MAX, ends_[1 - i]);
    return ends_[0].finished() && ends_[1].finished();
  }
  void check() const {
    for (std::size_t i : {0U, 1U}) {
      if (ends_[i].present()) ends_[i].check(ends_[1 - i]);
    }
  }
  void close() {
    for (std::size_t i : {0U, 1U}) ends_[i].close(ends_[1 - i]);
  }
  [[nodiscard]] bool over() const { return relay_ == nullptr; }
  [[nodiscard]] std::string story() const {
    std::ostringstream out;
    out << "client " << ends_[0] << "; target " << ends_[1] << "; did " << log_.str();
    return out.str();
  }

 private:
  Connection(Place& place, StreamKind client, StreamKind target, StreamPair c, StreamPair t)
      : tape_offset_(place),
        ends_{FarEnd(std::move(c.first), client, place.random.below(tape().size())),
              FarEnd(std::move(t.first), target, place.random.below(tape().size()))} {
    for (const UniqueFd* inside : {&c.second, &t.second}) place.context.tune(inside->get());
    relay_ =
        std::make_unique<Relay>(place.context, group_, std::move(c.second), std::move(t.second));
    EXPECT_TRUE(relay_->start());
  }

  Place& tape_offset_;
  std::array<FarEnd, 2> ends_;
  std::array<bool, 2> reads_{true, true};
  RelayGroup group_{tape_offset_.counters, [this](RelayedConnection& over) {
                      EXPECT_EQ(&over, relay_.get());
                      tape_offset_.loop.retire(std::move(relay_));
                    }};
  std::unique_ptr<Relay> relay_;
  std::ostringstream log_;
};

/// Turns the loop until the condition holds for all connections.
/// @return whether it did before the deadline
bool until_all(Place& place, std::list<Connection>& all,
               const std::function<bool(Connection&)>& holds) {
  const TimePoint deadline = place.loop.now() + kDeadline;
  while (std::ranges::count_if(all, holds) < std::ssize(all)) {
    if (place.loop.now() >= deadline) return false;
    EXPECT_TRUE(place.loop.turn(std::chrono::milliseconds(1)));
  }
  return true;
}

/// Runs a few simultaneous connections from beginning to end.
void live_through(Place& place) {
  constexpr std::array kKinds{StreamKind::Tcp4, StreamKind::Tcp6, StreamKind::Unix};
  constexpr std::size_t kAtATime = 8;
  constexpr std::size_t kSteps = 15;  // about, of each connection
  std::list<Connection> all;
  while (all.size() < kAtATime) {
    all.emplace_back(place, place.random.one_of(kKinds), place.random.one_of(kKinds));
  }
  for (std::size_t i = 0; i < kSteps * kAtATime; ++i) {
    std::next(all.begin(), static_cast<std::ptrdiff_t>(place.random.below(kAtATime)))->step();
    if (place.random.below(2) == 0) (void)place.loop.turn(Duration::zero());
  }
  for (Connection& one : all) one.finish();
  const bool finished =
      until_all(place, all, [](Connection& one) { return one.read_to_the_end(); });
  EXPECT_TRUE(finished) << "an end that nobody was told of";
  for (const Connection& one : all) {
    SCOPED_TRACE(one.story());
    one.check();
  }
  for (Connection& one : all) one.close();
  EXPECT_TRUE(until_all(place, all, [](Connection& one) { return one.over(); }));
}

TEST(RelayPropertyTest, EachEndReceivesWhatTheOtherSent) {
  const std::uint64_t seed = 20260101U + static_cast<std::uint64_t>(GTEST_FLAG_GET(random_seed));
  Place place(seed);
  for (int round = 0; round < 150 && !HasFailure(); ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", round " << round);
    live_through(place);
  }
  EXPECT_EQ(place.context.pipes().leased(), 0U);
}

}  // namespace
}  // namespace portfwd
