// The HttpClient's private part: one request with its answer, or its stream, as far as it has come.
// Owned by the client. Included by the client's own sources only.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/http_client.h"

namespace portfwd {

class HttpClient::Exchange final : public Retirable {
 public:
  Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer, HttpStreamHandler* handler);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() override { close(); }

  /// Begins. A failure is told from the loop's next turn, like any other.
  void open(std::uint64_t id);
  /// No callback is made from here on. Not to be called from within libcurl.
  void close() noexcept;
  /// Gives a stream's handler what has come, which may end in this exchange's being closed.
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
  HttpStreamHandler* const handler_;  ///< of a stream, else nullptr
  std::uint64_t id_ = 0;
  CURL* easy_ = nullptr;  ///< while open
  curl_slist* headers_ = nullptr;
  std::string body_;  ///< of a stream: what is not delivered yet
  std::size_t header_bytes_ = 0;
  std::size_t open_line_ = 0;  ///< bytes of a stream's last, unended line
  bool header_complete_ = false;
  bool opened_ = false;  ///< on_stream_open() was called
  bool too_much_ = false;
  Error failure_{ETIMEDOUT, "answer of the engine"};  ///< what it means that deadline_ is over
  Timer deadline_;
};

}  // namespace portfwd
