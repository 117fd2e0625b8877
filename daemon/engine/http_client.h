// HTTP/1.1 client for container engines on Unix sockets, on the event loop, by libcurl's multi
// interface, which never blocks. Owned by main; each caller owns its HttpCall. It does not
// interpret requests or answers.
//
// The engine may be slow, hang, send wrong lengths or never end: every call has a deadline and a
// limit of bytes. Callbacks are never made from within libcurl or from within ask() and stream(),
// so they may cancel any call and begin others.
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

// Functions of libcurl, loaded with the first request. Owned by HttpClient.
//
// libcurl is not linked: it brings 30 further libraries, which make every start 13 ms longer and
// the daemon 8 MiB larger (1.2 MiB of it private), also on a machine without engines.
struct CurlLibrary {
  /// Load it, until the process exits, and initialise it without TLS.
  /// @return ELIBACC if it is not installed or lacks a function. Source: dlopen(3), libcurl(3)
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
  std::string path;  ///< begins with '/'; percent-encoded, with its query
  std::string body;  ///< of a Post: JSON
  Duration deadline = std::chrono::seconds(5);  ///< for the answer; of a stream: for the header
  std::size_t limit = 4UL << 20;                ///< bytes of the answer; of a stream: of a line
};

struct HttpAnswer {
  long status = 0;  ///< 100 to 599; the caller decides which are successes
  std::string body;
};

/// Callbacks of a streamed answer.
struct HttpStream {
  /// The engine has answered with a status of 2xx; lines follow.
  std::move_only_function<void()> on_open;
  /// @param line without its line end, valid during the call; never empty
  std::move_only_function<void(std::string_view line)> on_line;
  /// The last callback. @param why an error as of HttpClient::ask(), or ENODATA if the engine ended
  /// the stream regularly
  std::move_only_function<void(const Error& why)> on_end;
};

class HttpClient;

/// A call in progress. Destroying it cancels the call; no callback is made afterwards.
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
  /// Errors: those of connect(2) (ENOENT, ECONNREFUSED, EACCES, ...), ENAMETOOLONG (path of the
  /// socket), ETIMEDOUT, EMSGSIZE (limit exceeded), ECONNRESET (ended early), EPROTO (not HTTP; for
  /// a stream, also a status other than 2xx), ELIBACC (no libcurl), ENOMEM and EINVAL (libcurl has
  /// failed).
  using OnAnswer = std::move_only_function<void(Result<HttpAnswer>)>;

  /// @param loop must outlive this. libcurl is loaded by the first call.
  explicit HttpClient(EventLoop& loop);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  /// All HttpCalls must be destroyed before.
  ~HttpClient();

  /// Send a request for an answer as a whole.
  [[nodiscard]] HttpCall send_request(HttpRequest request, OnAnswer on_answer);
  /// Send a request for an answer in lines, which may be endless.
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
  void run_curl(int fd, int readiness);
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
  std::vector<std::uint64_t> streams_to_deliver_;  ///< streams that received bytes since deliver()
  /// By descriptor. libcurl owns the descriptors; it calls on_socket() before it closes one.
  std::map<int, IoSource> sources_;
  Timer timer_;  ///< set by libcurl
};

// One request and what was received of its answer or stream. Owned by the HttpClient.
class HttpClient::Exchange final : public Retirable {
 public:
  Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer,
           std::optional<HttpStream> stream);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() override { close(); }

  /// Send the request. A failure is reported in the next turn of the loop.
  void open(std::uint64_t id);
  /// Free libcurl's handle. No callback is made afterwards. Must not be called from within libcurl.
  void close() noexcept;
  /// Pass on the received part of a stream. The callbacks may close this exchange.
  void deliver();
  /// Close and make the last callback. @param error nothing: the answer is complete
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
  bool append_body(std::string_view bytes);
  [[nodiscard]] long status() const;
  void deliver_header();
  void deliver_lines();
  void fail_soon(Error error);

  HttpClient& client_;
  HttpRequest request_;
  OnAnswer on_answer_;
  std::optional<HttpStream> stream_;  ///< set if the answer is a stream
  std::uint64_t id_ = 0;
  CURL* easy_ = nullptr;  ///< while open
  curl_slist* headers_ = nullptr;
  std::string body_;  ///< of a stream: the part that is not delivered yet
  std::size_t header_bytes_ = 0;
  std::size_t open_line_ = 0;  ///< bytes received of a line that has not ended
  bool header_complete_ = false;
  bool opened_ = false;  ///< on_open() was called
  bool limit_exceeded_ = false;
  Error failure_{ETIMEDOUT, "answer of the engine"};  ///< reported when deadline_ expires
  Timer deadline_;
};

}  // namespace portfwd
