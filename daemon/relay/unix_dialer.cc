
#include "relay/unix_dialer.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace portfwd {

/// An attempt in progress: waits for the broker, or for the next try while a backlog is full.
class UnixDialer::Attempt final : public Dial {
 public:
  Attempt(UnixDialer& owner, std::span<const Address> candidates, TimePoint deadline,
          DialHandler& handler)
      : owner_(owner),
        handler_(handler),
        candidates_(candidates.begin(), candidates.end()),
        retry_(owner.loop_, [this] { try_candidate(); }),
        deadline_(owner.loop_, [this] {
          end({ETIMEDOUT, "connect"});
        }) {
    assert(!candidates_.empty());
    deadline_.arm_at(deadline);
    try_candidate();
  }

 private:
  void try_candidate() {
    assert(tried_ < candidates_.size());
    call_ = owner_.broker_.connect(
        candidates_[tried_], owner_.options_,
        [this](std::expected<UniqueFd, PathFailure> connected) { on_reply(std::move(connected)); });
  }

  void on_reply(std::expected<UniqueFd, PathFailure> connected) {
    if (connected) {
      deadline_.disarm();
      handler_.on_dialled(std::move(*connected));
      return;
    }
    const Error error = connected.error().error;
    if (error.code == EAGAIN) {
      retry_.arm_after(pause_);
      pause_ = std::min(2 * pause_, kLongestRetry);
      return;
    }
    if (++tried_ == candidates_.size()) return end(error);
    pause_ = kFirstRetry;
    try_candidate();
  }

  void end(Error error) {
    call_ = {};
    retry_.disarm();
    deadline_.disarm();
    handler_.on_dialled(std::unexpected(error));
  }

  UnixDialer& owner_;
  DialHandler& handler_;
  std::vector<Address> candidates_;
  std::size_t tried_ = 0;  ///< candidates that have failed
  Duration pause_ = kFirstRetry;
  Timer retry_;
  Timer deadline_;
  PathCall call_;
};

DialStart UnixDialer::dial(std::span<const Address> candidates, TimePoint deadline,
                           DialHandler& handler) {
  return {UniqueFd(), std::make_unique<Attempt>(*this, candidates, deadline, handler)};
}

}  // namespace portfwd
