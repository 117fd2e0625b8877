// Queries to the engines of one kind for the facts of containers: up to 32 containers in a request,
// one request at a time. Owned by EngineFacts. It identifies containers by their full ids.
//
// An engine may be queried before it has recorded a new container, and podman's service may just be
// starting. Therefore a container that no engine has reported is queried again, twice, after 1 s
// and 5 s. If no engine runs, nothing is retried.
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

  /// The loop and the client must outlive this. @param sockets best first
  /// @param on_facts called for each container that an engine reports
  /// @param on_failure called after each attempt in which no engine has reported the container
  ContainerQuery(EventLoop& loop, HttpClient& http, EngineKind kind,
                 std::vector<std::string> sockets, OnFacts on_facts, OnFailure on_failure);

  /// Query the engines for a container. @param id the engine's; one that is not 12 to 64 hex digits
  /// is ignored
  void request(const std::string& id);
  /// Make no callback for this container any more.
  void forget(const std::string& id);
  [[nodiscard]] bool idle() const noexcept { return tries_.empty(); }

 private:
  void begin();
  void query_next_socket();
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
  std::vector<std::string> batch_;         ///< ids in the present request, not reported yet
  std::size_t socket_ = 0;                 ///< index of the engine that is being queried
  bool querying_ = false;                  ///< between begin() and end()
  bool engine_runs_ = false;               ///< an engine runs, whether or not it has answered
  HttpCall call_;
  std::vector<ContainerFacts> answered_;  ///< not passed on yet; the last one is the next
  Timer timer_;
  Timer report_next_;
};

}  // namespace portfwd
