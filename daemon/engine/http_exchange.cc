// See http_exchange.h.
#include "engine/http_exchange.h"

namespace portfwd {
namespace {

constexpr std::string_view kOperation = "request to the engine";
constexpr std::size_t kHeaderLimit = 64UL << 10;  // libcurl bounds a line of it, not the whole
constexpr long kChunk = 64L << 10;                // bytes that libcurl reads at once

}  // namespace

HttpClient::Exchange::Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer,
                               HttpStreamHandler* handler)
    : client_(client),
      request_(std::move(request)),
      on_answer_(std::move(on_answer)),
      handler_(handler),
      deadline_(client.loop_, [this] { client_.finish(id_, failure_); }) {}

void HttpClient::Exchange::open(std::uint64_t id) {
  id_ = id;
  deadline_.arm_after(request_.deadline);
  if (auto ready = client_.set_up(); !ready) return fail_soon(ready.error());
  easy_ = client_.curl_.easy_init();
  if (easy_ == nullptr || !make_handle()) return fail_soon({EINVAL, kOperation});
  if (client_.curl_.multi_add_handle(client_.multi_, easy_) != CURLM_OK) {
    fail_soon({EINVAL, kOperation});
  }
}

void HttpClient::Exchange::fail_soon(Error error) {
  failure_ = error;
  deadline_.arm_now();
}

/// One connection a call: an idle one would keep podman's service from ending. Nothing from the
/// environment (proxies), nothing but HTTP, no redirects, no content encodings to blow up.
/// Source: curl_easy_setopt(3).
bool HttpClient::Exchange::make_handle() {
  headers_ = client_.curl_.slist_append(nullptr, "Content-Type: application/json");
  const std::string url = "http://engine" + request_.path;
  return headers_ != nullptr && set(CURLOPT_URL, url.c_str()) &&
         set(CURLOPT_UNIX_SOCKET_PATH, request_.socket.c_str()) && set(CURLOPT_PROXY, "") &&
         set(CURLOPT_PROTOCOLS_STR, "http") && set(CURLOPT_FORBID_REUSE, 1L) &&
         set(CURLOPT_NOSIGNAL, 1L) && set(CURLOPT_PATH_AS_IS, 1L) &&
         set(CURLOPT_BUFFERSIZE, kChunk) && set(CURLOPT_PRIVATE, this) &&
         set(CURLOPT_HEADERFUNCTION, &Exchange::on_header) && set(CURLOPT_HEADERDATA, this) &&
         set(CURLOPT_WRITEFUNCTION, &Exchange::on_body) && set(CURLOPT_WRITEDATA, this) &&
         set_method();
}

bool HttpClient::Exchange::set_method() {
  switch (request_.method) {
    case HttpRequest::Method::Get:
      return set(CURLOPT_HTTPGET, 1L);
    case HttpRequest::Method::Delete:
      return set(CURLOPT_CUSTOMREQUEST, "DELETE");
    case HttpRequest::Method::Post:
      return set(CURLOPT_POST, 1L) && set(CURLOPT_POSTFIELDS, request_.body.data()) &&
             set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size())) &&
             set(CURLOPT_HTTPHEADER, headers_);
  }
  return false;
}

void HttpClient::Exchange::close() noexcept {
  deadline_.disarm();
  if (CURL* easy = std::exchange(easy_, nullptr)) {
    client_.curl_.multi_remove_handle(client_.multi_, easy);
    client_.curl_.easy_cleanup(easy);
  }
  if (auto* headers = std::exchange(headers_, nullptr)) client_.curl_.slist_free_all(headers);
}

std::size_t HttpClient::Exchange::on_header(char* text, std::size_t, std::size_t size, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  exchange.header_bytes_ += size;
  if (exchange.header_bytes_ > kHeaderLimit) {
    exchange.too_much_ = true;
    return 0;  // an error to libcurl
  }
  if (std::string_view(text, size) == "\r\n" || std::string_view(text, size) == "\n") {
    exchange.header_complete_ = true;
    if (exchange.handler_ != nullptr) exchange.client_.fresh_.push_back(exchange.id_);
  }
  return size;
}

std::size_t HttpClient::Exchange::on_body(char* text, std::size_t, std::size_t size, void* self) {
  return static_cast<Exchange*>(self)->take_body({text, size}) ? size : 0;
}

bool HttpClient::Exchange::take_body(std::string_view bytes) {
  const auto line_end = bytes.rfind('\n');
  open_line_ = line_end == bytes.npos ? open_line_ + bytes.size() : bytes.size() - line_end - 1;
  too_much_ = (handler_ != nullptr ? open_line_ : body_.size() + bytes.size()) > request_.limit;
  if (too_much_) return false;
  body_ += bytes;
  if (handler_ != nullptr) client_.fresh_.push_back(id_);
  return true;
}

long HttpClient::Exchange::status() const {
  long status = 0;
  if (easy_ == nullptr) return status;
  (void)client_.curl_.easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

void HttpClient::Exchange::deliver() {
  if (easy_ != nullptr && !opened_ && header_complete_) deliver_header();
  if (easy_ != nullptr && opened_) deliver_lines();
}

void HttpClient::Exchange::deliver_header() {
  const long code = status();
  if (code < 200) return;  // an interim answer
  if (code > 299) return fail_soon({EPROTO, kOperation});
  opened_ = true;
  deadline_.disarm();
  handler_->on_stream_open();
}

void HttpClient::Exchange::deliver_lines() {
  const std::string text = std::exchange(body_, {});
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != text.npos && easy_ != nullptr;
       begin = end + 1, end = text.find('\n', begin)) {
    std::string_view line(text.data() + begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) handler_->on_stream_line(line);
  }
  body_ = text.substr(begin);
}

void HttpClient::Exchange::end(std::optional<Error> error) {
  const long code = status();
  close();
  if (handler_ != nullptr) {
    const Error ended{opened_ ? ENODATA : EPROTO, "stream of the engine"};
    return handler_->on_stream_end(error.value_or(ended));
  }
  if (error) return on_answer_(std::unexpected(*error));
  on_answer_(HttpAnswer{code, std::move(body_)});
}

std::optional<Error> HttpClient::Exchange::error_of(CURLcode code) const {
  if (code == CURLE_OK) return std::nullopt;
  long os_error = 0;
  (void)client_.curl_.easy_getinfo(easy_, CURLINFO_OS_ERRNO, &os_error);
  if (too_much_) return Error{EMSGSIZE, "answer of the engine"};
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:  // libcurl's word for a path that no socket address can hold
      return Error{ENAMETOOLONG, "connect to the engine"};
    case CURLE_COULDNT_CONNECT:
      return Error{os_error != 0 ? static_cast<int>(os_error) : ECONNREFUSED,
                   "connect to the engine"};
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
      return Error{ECONNRESET, "answer of the engine"};
    default:
      return Error{EPROTO, "answer of the engine"};
  }
}

}  // namespace portfwd
