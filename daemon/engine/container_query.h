// Queries the engines of one kind for the facts of containers that were found: several in one
// request, one request at a time, each container once if it is answered. Owned by EngineFacts. It
// knows containers by their ids alone.
//
// An engine may be queried before it has recorded its new container, and podman's service may just
// be starting, so a container without an answer is queried again, twice, with growing pauses. Where
// there is no engine at all, nothing is retried.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/answers.h"
#include "engine/engine_sockets.h"
#include "engine/http_client.h"

namespace portfwd {

class ContainerQuery {
 public:
  /// @param socket of the engine that knows the container
  using OnFacts =
      std::move_only_function<void(const std::string& socket, const ContainerFacts& facts)>;
  using OnFailure = std::move_only_function<void(const std::string& id)>;

  /// The loop and the client outlive this. @param sockets best first
  /// @param on_failure called after each attempt in which no engine knew the container
  ContainerQuery(EventLoop& loop, HttpClient& http, EngineKind kind,
                 std::vector<std::string> sockets, OnFacts on_facts, OnFailure on_failure);

  /// @param id in full; anything else is ignored
  void request(const std::string& id);
  void forget(const std::string& id);
  [[nodiscard]] bool idle() const noexcept { return tries_.empty(); }

 private:
  void begin();
  void ask_next_socket();
  void on_answer(const Result<HttpAnswer>& answer);
  void report_next();
  void end();
  [[nodiscard]] std::string path() const;

  const EngineKind kind_;
  const std::vector<std::string> sockets_;
  OnFacts on_facts_;
  OnFailure on_failure_;
  HttpClient& http_;
  std::map<std::string, unsigned> tries_;  ///< failed attempts, by container id
  std::vector<std::string> batch_;         ///< ids in the present request
  std::size_t socket_ = 0;                 ///< index of the engine that is being asked
  bool asking_ = false;
  bool engine_there_ = false;
  HttpCall call_;
  std::vector<ContainerFacts> answered_;  ///< not reported yet; the last one is the next
  Timer timer_;
  Timer report_next_;
};

}  // namespace portfwd
