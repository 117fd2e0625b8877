// HTTP/1.1 to container engines over their Unix sockets, on the event loop: libcurl's multi
// interface, which never waits. Owned by main; whoever asks holds an HttpCall. It knows nothing of
// what is asked.
//
// The other side may be slow, hang, lie about its lengths or never end: every call has a deadline
// and a bound on its bytes. Callbacks are never made from within libcurl or from within ask() and
// follow(), so they may cancel any call and make others.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/curl_library.h"
#include "event/event_loop.h"

namespace portfwd {

struct HttpRequest {
  enum class Method : std::uint8_t { Get, Post, Delete };
  std::string socket;  ///< path of a Unix socket
  Method method = Method::Get;
  std::string path;  ///< begins with '/'; the caller has percent-encoded it, its query too
  std::string body;  ///< of a Post: JSON
  Duration deadline = std::chrono::seconds(5);  ///< to the answer's end; of a stream: its header's
  std::size_t limit = 4UL << 20;                ///< bytes of the answer; of a stream: of one line
};

struct HttpAnswer {
  long status = 0;  ///< 100 to 599; whether that is good news is for the caller to say
  std::string body;
};

class HttpStreamHandler {
 public:
  /// The engine has accepted the request with a status of 2xx; lines follow.
  virtual void on_stream_open() = 0;
  /// @param line without its end; borrowed for the call
  virtual void on_stream_line(std::string_view line) = 0;
  /// The last call. @param why as of HttpClient::ask; ENODATA when the engine ended it in good
  /// order
  virtual void on_stream_end(const Error& why) = 0;

 protected:
  ~HttpStreamHandler() = default;
};

class HttpClient;

/// One call under way. Its owner's death cancels it: no callback is made afterwards.
class HttpCall {
 public:
  HttpCall() noexcept = default;
  HttpCall(HttpCall&& other) noexcept
      : client_(std::exchange(other.client_, nullptr)), id_(other.id_) {}
  HttpCall& operator=(HttpCall&& other) noexcept {
    std::swap(client_, other.client_);
    std::swap(id_, other.id_);
    other.cancel();
    return *this;
  }
  HttpCall(const HttpCall&) = delete;
  HttpCall& operator=(const HttpCall&) = delete;
  ~HttpCall() { cancel(); }

  void cancel() noexcept;

 private:
  friend class HttpClient;
  HttpCall(HttpClient& client, std::uint64_t id) noexcept : client_(&client), id_(id) {}
  HttpClient* client_ = nullptr;
  std::uint64_t id_ = 0;
};

class HttpClient final : private IoHandler {
 public:
  /// An error is one of the socket's (ENOENT, ECONNREFUSED, EACCES, ...), ETIMEDOUT, EMSGSIZE
  /// (more than the limit), ECONNRESET (ended early), EPROTO (not HTTP), ELIBACC (no libcurl).
  using OnAnswer = std::move_only_function<void(Result<HttpAnswer>)>;

  /// @param loop outlives this. Nothing is loaded before the first call.
  explicit HttpClient(EventLoop& loop);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  /// Every HttpCall's owner is gone before.
  ~HttpClient();

  [[nodiscard]] HttpCall ask(HttpRequest request, OnAnswer on_answer);
  /// An answer of lines that need not end. @param handler outlives the call
  [[nodiscard]] HttpCall follow(HttpRequest request, HttpStreamHandler& handler);

  [[nodiscard]] std::size_t calls() const noexcept { return exchanges_.size(); }

 private:
  friend class HttpCall;
  class Exchange;
  using Exchanges = std::map<std::uint64_t, std::unique_ptr<Exchange>>;

  static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void*);
  static int on_timer(CURLM*, long timeout_ms, void* self);

  [[nodiscard]] HttpCall start(std::unique_ptr<Exchange> exchange);
  Result<void> set_up();
  void on_io(IoSource& source, std::uint32_t events) override;
  void act(int fd, int readiness);
  void collect();
  void deliver();
  void finish(std::uint64_t id, std::optional<Error> error);
  void cancel(std::uint64_t id) noexcept;
  std::unique_ptr<Exchange> take(std::uint64_t id) noexcept;

  EventLoop& loop_;
  CurlLibrary curl_;
  CURLM* multi_ = nullptr;
  Exchanges exchanges_;
  std::uint64_t last_id_ = 0;
  std::vector<std::uint64_t> fresh_;  ///< streams that have got bytes since deliver()
  std::map<int, IoSource>
      sources_;  ///< by fd; libcurl owns the descriptors and tells before it closes one
  Timer timer_;  ///< libcurl's
};

}  // namespace portfwd
