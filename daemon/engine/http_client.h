// HTTP/1.1 client for container engines on Unix sockets, on the event loop: libcurl's multi
// interface, which never waits. Owned by main; each caller owns its HttpCall. It does not interpret
// requests or answers.
//
// The other side may be slow, hang, send wrong lengths or never end: every call has a deadline and
// a limit of its bytes. Callbacks are never made from within libcurl or from within ask() and
// stream(), so they may cancel any call and begin others.
#pragma once

#include <curl/curl.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "event/event_loop.h"

namespace portfwd {

// libcurl's functions, loaded with the first request. Owned by HttpClient.
//
// libcurl is not linked: it brings 30 further libraries, which make every start 13 ms longer and
// the daemon 8 MiB larger (1.2 MiB of it private). A machine without engines must not pay for that.
struct CurlLibrary {
  /// Loads it, until the process exits, and initialises it without TLS.
  /// @return ELIBACC when it is not installed or lacks a function. Source: dlopen(3), libcurl(3).
  [[nodiscard]] static Result<CurlLibrary> load();

  decltype(&::curl_global_init) global_init = nullptr;
  decltype(&::curl_multi_init) multi_init = nullptr;
  decltype(&::curl_multi_cleanup) multi_cleanup = nullptr;
  decltype(&::curl_multi_setopt) multi_setopt = nullptr;
  decltype(&::curl_multi_add_handle) multi_add_handle = nullptr;
  decltype(&::curl_multi_remove_handle) multi_remove_handle = nullptr;
  decltype(&::curl_multi_socket_action) multi_socket_action = nullptr;
  decltype(&::curl_multi_info_read) multi_info_read = nullptr;
  decltype(&::curl_easy_init) easy_init = nullptr;
  decltype(&::curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&::curl_easy_setopt) easy_setopt = nullptr;
  decltype(&::curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&::curl_slist_append) slist_append = nullptr;
  decltype(&::curl_slist_free_all) slist_free_all = nullptr;
};

struct HttpRequest {
  enum class Method : std::uint8_t { Get, Post, Delete };
  std::string socket;  ///< path of a Unix socket
  Method method = Method::Get;
  std::string path;  ///< begins with '/'; percent-encoded, as is its query
  std::string body;  ///< of a Post: JSON
  Duration deadline = std::chrono::seconds(5);  ///< for the answer; of a stream: for its header
  std::size_t limit = 4UL << 20;                ///< bytes of the answer; of a stream: of one line
};

struct HttpAnswer {
  long status = 0;  ///< 100 to 599; the caller decides whether that is a success
  std::string body;
};

/// Callbacks of a streamed answer.
struct HttpStream {
  /// The engine has accepted the request with a status of 2xx; lines follow.
  std::move_only_function<void()> on_open;
  /// The line is without its end, and borrowed for the call.
  std::move_only_function<void(std::string_view line)> on_line;
  /// The last call. The error is as of HttpClient::ask, or ENODATA when the engine ended the stream
  /// regularly.
  std::move_only_function<void(const Error& why)> on_end;
};

class HttpClient;

/// A call in progress. Destroying it cancels the call: no callback is made afterwards.
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
  /// Errors: those of connect(2) (ENOENT, ECONNREFUSED, EACCES, ...), ETIMEDOUT, EMSGSIZE (more
  /// than the limit), ECONNRESET (ended early), EPROTO (not HTTP), ELIBACC (no libcurl).
  using OnAnswer = std::move_only_function<void(Result<HttpAnswer>)>;

  /// @param loop outlives this. Nothing is loaded before the first call.
  explicit HttpClient(EventLoop& loop);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  /// All HttpCalls must be destroyed before.
  ~HttpClient();

  [[nodiscard]] HttpCall ask(HttpRequest request, OnAnswer on_answer);
  /// For an answer of lines that need not end.
  [[nodiscard]] HttpCall stream(HttpRequest request, HttpStream stream);

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
  std::unique_ptr<Exchange> extract(std::uint64_t id) noexcept;

  EventLoop& loop_;
  CurlLibrary curl_;
  CURLM* multi_ = nullptr;
  Exchanges exchanges_;
  std::uint64_t last_id_ = 0;
  std::vector<std::uint64_t> fresh_;  ///< streams that received bytes since deliver()
  /// By descriptor. libcurl owns the descriptors and calls on_socket() before it closes one.
  std::map<int, IoSource> sources_;
  Timer timer_;  ///< of libcurl
};

// One request with its answer, or its stream, as far as it was received. Owned by the client.
class HttpClient::Exchange final : public Retirable {
 public:
  Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer,
           std::optional<HttpStream> stream);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() override { close(); }

  /// Begins. A failure is reported in the loop's next turn.
  void open(std::uint64_t id);
  /// No callback is made after this. Must not be called from within libcurl.
  void close() noexcept;
  /// Passes on what has arrived of a stream; its callbacks may close this exchange.
  void deliver();
  /// Closes and makes the last callback. @param error nothing: the answer is complete
  void end(std::optional<Error> error);
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  /// The error that libcurl's result stands for.
  [[nodiscard]] std::optional<Error> error_of(CURLcode code) const;

 private:
  static std::size_t on_header(char* text, std::size_t one, std::size_t size, void* self);
  static std::size_t on_body(char* text, std::size_t one, std::size_t size, void* self);

  bool make_handle();
  bool set_method();
  template <class Value>
  bool set(CURLoption option, Value value) {
    return client_.curl_.easy_setopt(easy_, option, value) == CURLE_OK;
  }
  bool take_body(std::string_view bytes);
  [[nodiscard]] long status() const;
  void deliver_header();
  void deliver_lines();
  void fail_soon(Error error);

  HttpClient& client_;
  HttpRequest request_;
  OnAnswer on_answer_;
  std::optional<HttpStream> stream_;  ///< if the answer is one
  std::uint64_t id_ = 0;
  CURL* easy_ = nullptr;  ///< while open
  curl_slist* headers_ = nullptr;
  std::string body_;  ///< of a stream: the part that is not delivered yet
  std::size_t header_bytes_ = 0;
  std::size_t open_line_ = 0;  ///< bytes of a stream's last, unended line
  bool header_complete_ = false;
  bool opened_ = false;  ///< on_open() was called
  bool too_much_ = false;
  Error failure_{ETIMEDOUT, "answer of the engine"};  ///< reported when deadline_ is over
  Timer deadline_;
};

}  // namespace portfwd
