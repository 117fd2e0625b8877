// Start of one helper container, and its removal at the end: asks the engines for the image of the
// container to enter, has the engine that knows it create a helper from that image, starts it, and
// sends it its end of the broker's socket pair when it connects. Owned by the HelperLauncher; its
// destruction removes the helper. It knows nothing of what the broker does.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "access/helper_messages.h"
#include "engine/http_client.h"
#include "event/event_loop.h"

namespace portfwd {

class HelperStart final : private IoHandler {
 public:
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    std::vector<std::string> engines;  ///< sockets, best first; not empty
    /// Takes a helper away, sooner or later.
    std::function<void(const std::string& engine, const std::string& id)> remove;
    /// Called before `end` is closed, also from the constructor. @param why a sentence's end
    std::function<void(std::string why)> failed;
  };
  /// @param spec all but image_id @param end handed to the helper; closed when there will be none
  HelperStart(Parts parts, helper::Spec spec, UniqueFd end);
  HelperStart(const HelperStart&) = delete;
  HelperStart& operator=(const HelperStart&) = delete;
  ~HelperStart();

 private:
  using Next = void (HelperStart::*)(const std::string& body);

  [[nodiscard]] Result<void> listen();
  [[nodiscard]] const std::string& engine() const { return parts_.engines.front(); }
  void find_image();
  void ask(HttpRequest::Method method, std::string path, std::string body, Next next);
  void create(const std::string& inspected);
  void start(const std::string& created);
  void started(const std::string&) {}  // it will connect
  void on_io(IoSource& source, std::uint32_t events) override;
  void give_up(std::string why);

  Parts parts_;
  helper::Spec spec_;
  UniqueFd end_;
  std::string id_;  ///< of the helper; "" before there is one
  HttpCall call_;
  UniqueFd listening_;
  IoSource source_;
};

}  // namespace portfwd
