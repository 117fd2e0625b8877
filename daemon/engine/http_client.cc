// See http_client.h: libcurl's sockets and timer on the loop, and who is called when.
#include "engine/http_client.h"

#include "engine/http_exchange.h"

namespace portfwd {

void HttpCall::cancel() noexcept {
  if (auto* client = std::exchange(client_, nullptr)) client->cancel(id_);
}

HttpClient::HttpClient(EventLoop& loop)
    : loop_(loop), timer_(loop, [this] { act(CURL_SOCKET_TIMEOUT, 0); }) {}

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

HttpCall HttpClient::ask(HttpRequest request, OnAnswer on_answer) {
  return start(
      std::make_unique<Exchange>(*this, std::move(request), std::move(on_answer), nullptr));
}

HttpCall HttpClient::follow(HttpRequest request, HttpStreamHandler& handler) {
  return start(std::make_unique<Exchange>(*this, std::move(request), OnAnswer(), &handler));
}

HttpCall HttpClient::start(std::unique_ptr<Exchange> exchange) {
  const std::uint64_t id = ++last_id_;
  exchanges_.emplace(id, std::move(exchange)).first->second->open(id);
  return {*this, id};
}

/// libcurl says what it waits for on one of its sockets. Source: CURLMOPT_SOCKETFUNCTION(3).
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

/// A hang-up is for libcurl to find by reading and writing: what came before it still counts.
void HttpClient::on_io(IoSource& source, std::uint32_t events) {
  const bool over = (events & (EPOLLHUP | EPOLLERR)) != 0;
  const int in = (events & EPOLLIN) != 0 || over ? CURL_CSELECT_IN : 0;
  const int out = (events & EPOLLOUT) != 0 || over ? CURL_CSELECT_OUT : 0;
  act(source.fd(), in | out);
}

/// The only place where libcurl works; what it found is told when it has returned.
void HttpClient::act(int fd, int readiness) {
  int running = 0;
  curl_.multi_socket_action(multi_, fd, readiness, &running);
  deliver();
  collect();
}

void HttpClient::deliver() {
  for (const std::uint64_t id : std::exchange(fresh_, {})) {
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

std::unique_ptr<HttpClient::Exchange> HttpClient::take(std::uint64_t id) noexcept {
  auto node = exchanges_.extract(id);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void HttpClient::finish(std::uint64_t id, std::optional<Error> error) {
  auto taken = take(id);
  if (!taken) return;
  Exchange& exchange = *taken;  // retired: it lives to the end of the batch
  loop_.retire(std::move(taken));
  exchange.end(error);
}

void HttpClient::cancel(std::uint64_t id) noexcept {
  auto taken = take(id);
  if (!taken) return;
  taken->close();
  loop_.retire(std::move(taken));  // it may be what is calling
}

}  // namespace portfwd
