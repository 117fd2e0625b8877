// HTTP/1.1 to container engines over their Unix sockets, on the event loop: libcurl's multi
// interface, which never waits. Owned by main; whoever asks holds an HttpCall. It knows nothing of
// what is asked.
//
// The other side may be slow, hang, lie about its lengths or never end: every call has a deadline
// and a bound on its bytes. Callbacks are never made from within libcurl or from within ask() and
// follow(), so they may cancel any call and make others.
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

// libcurl's functions, looked up when an engine is asked for the first time. Owned by HttpClient.
//
// Not linked: libcurl brings 30 further libraries, which make every start 13 ms longer and the
// daemon 8 MiB bigger (1.2 MiB of it private). A machine without engines shall not pay for that.
struct CurlLibrary {
  /// Loads it, for the rest of the process's life, and initialises it without TLS.
  /// @return ELIBACC when there is none or it lacks a function. Source: dlopen(3), libcurl(3).
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
  std::string path;  ///< begins with '/'; the caller has percent-encoded it, its query too
  std::string body;  ///< of a Post: JSON
  Duration deadline = std::chrono::seconds(5);  ///< to the answer's end; of a stream: its header's
  std::size_t limit = 4UL << 20;                ///< bytes of the answer; of a stream: of one line
};

struct HttpAnswer {
  long status = 0;  ///< 100 to 599; whether that is good news is for the caller to say
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

// The HttpClient's private part: one request with its answer, or its stream, as far as it has come.
// Owned by the client. Included by the client's own sources only.
class HttpClient::Exchange final : public Retirable {
 public:
  Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer,
           std::optional<HttpStream> stream);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() override { close(); }

  /// Begins. A failure is told from the loop's next turn, like any other.
  void open(std::uint64_t id);
  /// No callback is made from here on. Not to be called from within libcurl.
  void close() noexcept;
  /// Passes on what has arrived of a stream; its callbacks may close this exchange.
  void deliver();
  /// Closes and makes the last callback. @param error nothing: the answer is complete
  void end(std::optional<Error> error);
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  /// What libcurl's verdict means.
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
  std::string body_;  ///< of a stream: what is not delivered yet
  std::size_t header_bytes_ = 0;
  std::size_t open_line_ = 0;  ///< bytes of a stream's last, unended line
  bool header_complete_ = false;
  bool opened_ = false;  ///< on_open() was called
  bool too_much_ = false;
  Error failure_{ETIMEDOUT, "answer of the engine"};  ///< what it means that deadline_ is over
  Timer deadline_;
};

}  // namespace portfwd
