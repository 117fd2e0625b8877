// The daemon's side of a writer: has a process replace a file, since writing to a disk may take any
// time, and calls back when the file is on disk. Owned by main. There is one writer at a time, so
// that no two write the same temporary file. A writer that takes longer than kWriteTimeout is
// killed, and every request fails until it has exited.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "broker/client/broker_launcher.h"
#include "event/event_loop.h"

namespace portfwd {

class FileWriter final : private IoHandler {
 public:
  static constexpr Duration kWriteTimeout =
      std::chrono::seconds(30);  ///< enough for a disk to spin up

  using Done = std::move_only_function<void(Result<void>)>;
  /// @param program path of portfwd-broker
  FileWriter(EventLoop& loop, std::string program);
  ~FileWriter();

  /// Replaces the file at `path` by `text`. Must be called only if !busy().
  /// @param done called once, from the loop or before this returns
  void replace(const std::string& path, std::string_view text, Done done);
  [[nodiscard]] bool busy() const { return work_.has_value(); }

 private:
  struct Work {
    Work(EventLoop& loop, BrokerProcess started, IoHandler& handler, Done when_done)
        : process(std::move(started)),
          done(std::move(when_done)),
          source(loop, process.socket.get(), handler) {}
    BrokerProcess process;
    Done done;
    IoSource source;
  };

  [[nodiscard]] Result<void> send_request(const std::string& path, std::string_view text) const;
  void on_io(IoSource& source, std::uint32_t events) override;
  void finish(Result<void> result);

  EventLoop& loop_;
  SpawnLauncher launcher_;
  std::optional<Work> work_;
  bool stuck_ = false;  ///< a writer was killed before it answered
  Timer deadline_;
};

}  // namespace portfwd
