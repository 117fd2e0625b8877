// Asks the engines of one kind for the facts of containers that were seen to run: several at once,
// one call at a time, each container once if it goes well. Owned by EngineFacts. It knows no
// containers but by their ids.
//
// An engine may be asked before it has written its new container down, and podman's service may
// just be starting, so who got no answer is asked for again, twice and later each time. Where no
// engine is at all, nothing is tried again.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/answers.h"
#include "engine/engine_sockets.h"
#include "engine/http_client.h"

namespace portfwd {

class ContainerAsker {
 public:
  /// @param socket the one that knows the container
  using OnFacts = std::function<void(const std::string& socket, const ContainerFacts& facts)>;
  using OnNothing = std::function<void(const std::string& id)>;

  /// @param sockets best first @param on_nothing no engine has known the container so far;
  /// the loop and the client outlive this
  ContainerAsker(EventLoop& loop, HttpClient& http, EngineKind kind,
                 std::vector<std::string> sockets, OnFacts on_facts, OnNothing on_nothing);

  /// @param id in full; what is no engine's id is passed over
  void ask(const std::string& id);
  void forget(const std::string& id);
  [[nodiscard]] bool idle() const noexcept { return wanted_.empty(); }

 private:
  void begin();
  void ask_next_socket();
  void on_answer(const Result<HttpAnswer>& answer);
  void tell();
  void end();
  [[nodiscard]] std::string path() const;

  const EngineKind kind_;
  const std::vector<std::string> sockets_;
  OnFacts on_facts_;
  OnNothing on_nothing_;
  HttpClient& http_;
  std::map<std::string, unsigned> wanted_;  ///< by id: how often in vain
  std::vector<std::string> batch_;          ///< who is being asked for
  std::size_t socket_ = 0;                  ///< that is being asked
  bool asking_ = false;
  bool somebody_there_ = false;
  HttpCall call_;
  std::vector<ContainerFacts> answered_;  ///< and not told yet; the next one is the last
  Timer timer_;
  Timer tell_next_;
};

}  // namespace portfwd
