// An HTTP server on a Unix socket that answers as a test scripts it: correctly, slowly, without
// end, or with false claims. Runs on the test's own event loop. Parses only what is needed to find
// the end of a request.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "event/event_loop.h"

namespace portfwd::testing_support {

struct HttpReply {
  enum class Then { Close, Stay, Repeat, Drip };
  std::string bytes;        ///< as sent, status line included
  Then then = Then::Close;  ///< Repeat: `again` without end; Drip: `bytes` one by one
  std::string again = std::string(65536, 'x');

  static HttpReply with(int status, std::string_view body) {
    return {"HTTP/1.1 " + std::to_string(status) + " So\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n" + std::string(body)};
  }
  static HttpReply ok(std::string_view body) { return with(200, body); }
};

class HttpServer final : private IoHandler {
 public:
  /// @param request the head and the body that its Content-Length announces
  using Script = std::function<HttpReply(const std::string& request)>;

  HttpServer(EventLoop& loop, std::string path, Script script, int backlog = 16)
      : path_(std::move(path)),
        script_(std::move(script)),
        loop_(loop),
        fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
        source_(loop, fd_.get(), *this) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
    EXPECT_EQ(::listen(fd_.get(), backlog), 0) << std::strerror(errno);
    // Without a script nothing is accepted.
    EXPECT_TRUE(source_.watch(script_ ? std::uint32_t{EPOLLIN} : 0U));
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer() {
    source_.disarm();
    ::unlink(path_.c_str());
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::vector<std::string>& requests() const { return requests_; }
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  [[nodiscard]] std::size_t sent() const { return sent_; }
  void send_to_all(std::string_view bytes) {
    for (const auto& connection : connections_) connection->send(bytes);
  }
  void close_all() { connections_.clear(); }

 private:
  class Connection final : private IoHandler {
   public:
    Connection(HttpServer& server, UniqueFd fd)
        : server_(server),
          fd_(std::move(fd)),
          source_(server.loop_, fd_.get(), *this),
          drip_(server.loop_, [this] { drip(); }) {
      EXPECT_TRUE(source_.watch(EPOLLIN));
    }
    void send(std::string_view bytes) {
      reply_.bytes += bytes;
      write();
    }

   private:
    void on_io(IoSource&, std::uint32_t events) override {
      if ((events & EPOLLIN) != 0 && !read()) return server_.drop(*this);
      if ((events & (EPOLLERR | EPOLLHUP)) != 0) return server_.drop(*this);
      if (answering_) write();
    }
    bool read() {
      std::array<char, 4096> buffer{};
      const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) return n < 0 && errno == EAGAIN;
      request_.append(buffer.data(), static_cast<std::size_t>(n));
      if (answering_ || !complete()) return true;
      server_.requests_.push_back(request_);
      reply_ = server_.script_(request_);
      answering_ = true;
      if (reply_.then == HttpReply::Then::Drip) drip_.arm_now();
      return true;
    }
    [[nodiscard]] bool complete() const {
      const auto head = request_.find("\r\n\r\n");
      if (head == request_.npos) return false;
      const auto length = request_.find("Content-Length: ");
      std::size_t body = 0;
      if (length < head) {
        std::from_chars(request_.data() + length + 16, request_.data() + head, body);
      }
      return request_.size() >= head + 4 + body;
    }
    void write() {
      if (reply_.then == HttpReply::Then::Drip) return;
      if (reply_.bytes.empty() && reply_.then == HttpReply::Then::Repeat) {
        reply_.bytes = reply_.again;
      }
      push(reply_.bytes.size());
      const bool more = !reply_.bytes.empty() || reply_.then == HttpReply::Then::Repeat;
      if (!more && reply_.then == HttpReply::Then::Close) return server_.drop(*this);
      EXPECT_TRUE(source_.watch(more ? EPOLLIN | EPOLLOUT : EPOLLIN));
    }
    void drip() {
      push(1);
      if (reply_.bytes.empty()) return server_.drop(*this);
      drip_.arm_after(std::chrono::milliseconds(1));
    }
    void push(std::size_t most) {
      const ssize_t n = ::send(fd_.get(), reply_.bytes.data(), most, MSG_NOSIGNAL);
      if (n <= 0) return;
      server_.sent_ += static_cast<std::size_t>(n);
      reply_.bytes.erase(0, static_cast<std::size_t>(n));
    }

    HttpServer& server_;
    std::string request_;
    HttpReply reply_;
    bool answering_ = false;
    UniqueFd fd_;
    IoSource source_;
    Timer drip_;
  };

  struct Grave final : Retirable {
    explicit Grave(std::unique_ptr<Connection> connection) : dead(std::move(connection)) {}
    std::unique_ptr<Connection> dead;
  };

  void on_io(IoSource&, std::uint32_t) override {
    UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) connections_.push_back(std::make_unique<Connection>(*this, std::move(fd)));
  }
  void drop(Connection& connection) {
    const auto it = std::ranges::find(connections_, &connection, &std::unique_ptr<Connection>::get);
    loop_.retire(std::make_unique<Grave>(std::move(*it)));
    connections_.erase(it);
  }

  const std::string path_;
  Script script_;
  EventLoop& loop_;
  std::vector<std::string> requests_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::size_t sent_ = 0;
  UniqueFd fd_;
  IoSource source_;
};

}  // namespace portfwd::testing_support
