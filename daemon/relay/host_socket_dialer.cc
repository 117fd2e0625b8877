#include "relay/host_socket_dialer.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <utility>
#include <vector>

namespace portfwd {

/// Reads the environment, then dials.
class HostSocketDialer::Attempt final : public Dial, private DialHandler {
 public:
  Attempt(HostSocketDialer& owner, std::span<const Address> candidates, TimePoint deadline,
          DialHandler& handler)
      : owner_(owner),
        handler_(handler),
        candidates_(candidates.begin(), candidates.end()),
        deadline_(deadline),
        timeout_(owner.loop_,
                 [this] {
                   end({ETIMEDOUT, "read the environment"});
                 }),
        read_(owner.environment_.read([this](const VariableOf& value_of) { on_read(value_of); })) {
    timeout_.arm_at(deadline);
  }

 private:
  void on_read(const VariableOf& value_of) {
    timeout_.disarm();
    std::vector<Address> expanded;
    for (const Address& candidate : candidates_) {
      const auto* const path = std::get_if<UnixPath>(&candidate);
      assert(path != nullptr);
      auto there = expand(path->path, value_of);
      const bool usable = there && there->starts_with('/') && there->size() <= kLongestUnixName;
      if (usable) expanded.push_back(UnixPath{std::move(*there)});
    }
    if (expanded.empty()) return end({ENOENT, "find the socket on the host"});
    DialStart start = owner_.sockets_.dial(expanded, deadline_, *this);
    assert(!start.connected.valid());
    dial_ = std::move(start.attempt);
  }

  void on_dialled(Result<UniqueFd> connected) override {
    owner_.loop_.retire(std::move(dial_));  // not destroyed: it is the caller
    handler_.on_dialled(std::move(connected));
  }

  void end(Error error) { handler_.on_dialled(std::unexpected(error)); }

  HostSocketDialer& owner_;
  DialHandler& handler_;
  std::vector<Address> candidates_;
  TimePoint deadline_;
  Timer timeout_;
  std::unique_ptr<Dial> dial_;
  std::unique_ptr<UserEnvironment::Read> read_;
};

DialStart HostSocketDialer::dial(std::span<const Address> candidates, TimePoint deadline,
                                 DialHandler& handler) {
  const bool plain = std::ranges::none_of(
      candidates, [](const Address& candidate) { return has_variables(candidate.text()); });
  if (plain) return sockets_.dial(candidates, deadline, handler);
  return {UniqueFd(), std::make_unique<Attempt>(*this, candidates, deadline, handler)};
}

}  // namespace portfwd
