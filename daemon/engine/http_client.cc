// See http_client.h.

#include "engine/http_client.h"

#include <dlfcn.h>

#include <cassert>

namespace portfwd {

// ---- the library

namespace {

constexpr const char* kLibrary = "libcurl.so.4";  // in Debian's libcurl4 and libcurl4t64

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

}  // namespace

Result<CurlLibrary> CurlLibrary::load() {
  void* library = ::dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) return fail("load libcurl.so.4", ELIBACC);
  CurlLibrary curl;
  const bool complete = find(library, "curl_global_init", curl.global_init) &&
                        find(library, "curl_multi_init", curl.multi_init) &&
                        find(library, "curl_multi_cleanup", curl.multi_cleanup) &&
                        find(library, "curl_multi_setopt", curl.multi_setopt) &&
                        find(library, "curl_multi_add_handle", curl.multi_add_handle) &&
                        find(library, "curl_multi_remove_handle", curl.multi_remove_handle) &&
                        find(library, "curl_multi_socket_action", curl.multi_socket_action) &&
                        find(library, "curl_multi_info_read", curl.multi_info_read) &&
                        find(library, "curl_easy_init", curl.easy_init) &&
                        find(library, "curl_easy_cleanup", curl.easy_cleanup) &&
                        find(library, "curl_easy_setopt", curl.easy_setopt) &&
                        find(library, "curl_easy_getinfo", curl.easy_getinfo) &&
                        find(library, "curl_slist_append", curl.slist_append) &&
                        find(library, "curl_slist_free_all", curl.slist_free_all);
  if (!complete || curl.global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
    return fail("use libcurl.so.4", ELIBACC);
  }
  return curl;
}

void HttpCall::cancel() noexcept {
  if (auto* client = std::exchange(client_, nullptr)) client->cancel(id_);
}

HttpClient::HttpClient(EventLoop& loop)
    : loop_(loop), timer_(loop, [this] { run_curl(CURL_SOCKET_TIMEOUT, 0); }) {}

HttpClient::~HttpClient() {
  exchanges_.clear();
  if (multi_ != nullptr) curl_.multi_cleanup(multi_);
}

Result<void> HttpClient::set_up() {
  if (multi_ != nullptr) return {};
  auto loaded = CurlLibrary::load();
  if (!loaded) return std::unexpected(loaded.error());
  curl_ = *loaded;
  multi_ = curl_.multi_init();
  if (multi_ == nullptr) return fail("curl_multi_init", ENOMEM);
  curl_.multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &HttpClient::on_socket);
  curl_.multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_.multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &HttpClient::on_timer);
  curl_.multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  return {};
}

HttpCall HttpClient::send_request(HttpRequest request, OnAnswer on_answer) {
  return start(
      std::make_unique<Exchange>(*this, std::move(request), std::move(on_answer), std::nullopt));
}

HttpCall HttpClient::stream(HttpRequest request, HttpStream stream) {
  assert(stream.on_open != nullptr && stream.on_line != nullptr && stream.on_end != nullptr);
  return start(
      std::make_unique<Exchange>(*this, std::move(request), OnAnswer(), std::move(stream)));
}

HttpCall HttpClient::start(std::unique_ptr<Exchange> exchange) {
  const std::uint64_t id = ++last_id_;
  exchanges_.emplace(id, std::move(exchange)).first->second->open(id);
  return {*this, id};
}

/// Called by libcurl with the events that it waits for on a socket.
/// Source: CURLMOPT_SOCKETFUNCTION(3)
int HttpClient::on_socket(CURL*, curl_socket_t fd, int what, void* self, void*) {
  auto& client = *static_cast<HttpClient*>(self);
  if (what == CURL_POLL_REMOVE) {
    client.sources_.erase(fd);
    return 0;
  }
  const std::uint32_t in = (what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U;
  const std::uint32_t out = (what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U;
  IoHandler& handler = client;
  IoSource& source = client.sources_.try_emplace(fd, client.loop_, fd, handler).first->second;
  return source.watch(in | out) ? 0 : -1;
}

int HttpClient::on_timer(CURLM*, long timeout_ms, void* self) {
  Timer& timer = static_cast<HttpClient*>(self)->timer_;
  if (timeout_ms < 0) {
    timer.disarm();
  } else {
    timer.arm_after(std::chrono::milliseconds(timeout_ms));
  }
  return 0;
}

/// A hang-up is passed to libcurl as readable and writable, so that it still reads the bytes that
/// arrived before.
void HttpClient::on_io(IoSource& source, std::uint32_t events) {
  const bool over = (events & (EPOLLHUP | EPOLLERR)) != 0;
  const int in = (events & EPOLLIN) != 0 || over ? CURL_CSELECT_IN : 0;
  const int out = (events & EPOLLOUT) != 0 || over ? CURL_CSELECT_OUT : 0;
  run_curl(source.fd(), in | out);
}

/// The only function in which libcurl transfers data. Results are delivered after it has returned.
void HttpClient::run_curl(int fd, int readiness) {
  int running = 0;
  curl_.multi_socket_action(multi_, fd, readiness, &running);
  deliver();
  collect();
}

void HttpClient::deliver() {
  for (const std::uint64_t id : std::exchange(streams_to_deliver_, {})) {
    const auto known = exchanges_.find(id);
    if (known != exchanges_.end()) known->second->deliver();
  }
}

void HttpClient::collect() {
  int left = 0;
  while (const CURLMsg* message = curl_.multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    Exchange* exchange = nullptr;
    curl_.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
    finish(exchange->id(), exchange->error_of(code));
  }
}

std::unique_ptr<HttpClient::Exchange> HttpClient::extract(std::uint64_t id) noexcept {
  auto node = exchanges_.extract(id);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void HttpClient::finish(std::uint64_t id, std::optional<Error> error) {
  auto taken = extract(id);
  if (!taken) return;
  Exchange& exchange = *taken;  // once retired, it lives until the end of the batch
  loop_.retire(std::move(taken));
  exchange.end(error);
}

void HttpClient::cancel(std::uint64_t id) noexcept {
  auto taken = extract(id);
  if (!taken) return;
  taken->close();
  loop_.retire(std::move(taken));  // it may be the caller
}

// ---- one exchange

namespace {

constexpr std::string_view kOperation = "request to the engine";
constexpr std::size_t kHeaderLimit = 64UL << 10;  // libcurl limits each line, not the whole header
constexpr long kChunk = 64L << 10;                // bytes that libcurl reads at once

}  // namespace

HttpClient::Exchange::Exchange(HttpClient& client, HttpRequest request, OnAnswer on_answer,
                               std::optional<HttpStream> stream)
    : client_(client),
      request_(std::move(request)),
      on_answer_(std::move(on_answer)),
      stream_(std::move(stream)),
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

/// Set up libcurl's handle. Each call has its own connection, since an idle one would keep podman's
/// service running. No proxies from the environment, no protocol but HTTP, no redirects, no content
/// encodings, which could expand a short answer. Source: curl_easy_setopt(3)
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
    exchange.limit_exceeded_ = true;
    return 0;  // makes libcurl fail
  }
  if (std::string_view(text, size) == "\r\n" || std::string_view(text, size) == "\n") {
    exchange.header_complete_ = true;
    if (exchange.stream_) exchange.client_.streams_to_deliver_.push_back(exchange.id_);
  }
  return size;
}

std::size_t HttpClient::Exchange::on_body(char* text, std::size_t, std::size_t size, void* self) {
  return static_cast<Exchange*>(self)->append_body({text, size}) ? size : 0;
}

bool HttpClient::Exchange::append_body(std::string_view bytes) {
  const auto line_end = bytes.rfind('\n');
  open_line_ = line_end == bytes.npos ? open_line_ + bytes.size() : bytes.size() - line_end - 1;
  limit_exceeded_ = (stream_ ? open_line_ : body_.size() + bytes.size()) > request_.limit;
  if (limit_exceeded_) return false;
  body_ += bytes;
  if (stream_) client_.streams_to_deliver_.push_back(id_);
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
  if (code < 200) return;  // interim answer
  if (code > 299) return fail_soon({EPROTO, kOperation});
  opened_ = true;
  deadline_.disarm();
  stream_->on_open();
}

void HttpClient::Exchange::deliver_lines() {
  const std::string text = std::exchange(body_, {});
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != text.npos && easy_ != nullptr;
       begin = end + 1, end = text.find('\n', begin)) {
    std::string_view line(text.data() + begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) stream_->on_line(line);
  }
  body_ = text.substr(begin);
}

void HttpClient::Exchange::end(std::optional<Error> error) {
  const long code = status();
  close();
  if (stream_) {
    const Error ended{opened_ ? ENODATA : EPROTO, "stream of the engine"};
    return stream_->on_end(error.value_or(ended));
  }
  if (error) return on_answer_(std::unexpected(*error));
  on_answer_(HttpAnswer{code, std::move(body_)});
}

std::optional<Error> HttpClient::Exchange::error_of(CURLcode code) const {
  if (code == CURLE_OK) return std::nullopt;
  long os_error = 0;
  (void)client_.curl_.easy_getinfo(easy_, CURLINFO_OS_ERRNO, &os_error);
  if (limit_exceeded_) return Error{EMSGSIZE, "answer of the engine"};
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:  // a path that is too long for a socket address
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
