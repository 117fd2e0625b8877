// The broker's end of the socket pair: brings in requests, takes out replies. Owned by main for the
// life of the process. It answers what is no request itself, so nothing behind it ever sees one; it
// does not know what the operations do.
#pragma once

#include "broker/outcome.h"
#include "broker/protocol.h"

namespace portfwd::broker {

struct Message {
  Request request;
  UniqueFd passed;  ///< invalid when none came along
};

/// Is this a request that makes sense by itself? Pure. A terminated path is part of it.
/// @param passed whether a descriptor came along
[[nodiscard]] Outcome check(const Request& request, bool passed);

class Channel {
 public:
  /// @param socket borrowed, blocking
  explicit Channel(int socket) : socket_(socket) {}

  /// Waits for the next request that passes check(); the others are answered with an error.
  /// @return false when the daemon has gone
  [[nodiscard]] bool next(Message& message) const;

  /// @param made sent only with success; closed by its owner in any case
  /// @return false when the daemon has gone
  bool answer(std::uint32_t id, Outcome outcome, const FdBatch& made) const;

 private:
  [[nodiscard]] bool refuse(std::uint32_t id, Outcome outcome) const;
  int socket_;
};

}  // namespace portfwd::broker
