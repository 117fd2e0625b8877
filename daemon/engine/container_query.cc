// See container_query.h.
#include "engine/container_query.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <ranges>

#include "base/log.h"
#include "engine/answers.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostAtOnce = 32;
constexpr unsigned kMostTries = 3;
constexpr Duration kBatchDelay = 10ms;  // containers that start together share a request

Duration pause_before(unsigned tries) {
  return tries == 0 ? kBatchDelay : tries == 1 ? Duration(1s) : Duration(5s);
}

bool is_id(const std::string& id) {
  return id.size() >= 12 && id.size() <= 64 && id.find_first_not_of("0123456789abcdef") == id.npos;
}

}  // namespace

ContainerQuery::ContainerQuery(EventLoop& loop, HttpClient& http, EngineKind kind,
                               std::vector<std::string> sockets, OnFacts on_facts,
                               OnFailure on_failure)
    : kind_(kind),
      sockets_(std::move(sockets)),
      on_facts_(std::move(on_facts)),
      on_failure_(std::move(on_failure)),
      http_(http),
      timer_(loop, [this] { begin(); }),
      report_next_(loop, [this] { report_next(); }) {}

void ContainerQuery::request(const std::string& id) {
  if (!is_id(id)) return;
  tries_[id] = 0;
  if (!querying_) timer_.arm_after(kBatchDelay);
}

void ContainerQuery::forget(const std::string& id) {
  tries_.erase(id);
  std::erase(batch_, id);
}

void ContainerQuery::begin() {
  batch_.clear();
  for (const auto& [id, tries] : tries_ | std::views::take(kMostAtOnce)) batch_.push_back(id);
  querying_ = true;
  engine_runs_ = false;
  socket_ = 0;
  query_next_socket();
}

/// Without a socket no request is made, so that libcurl, which takes 8 MB (3.5 of them private), is
/// not loaded for a user without a running engine.
void ContainerQuery::query_next_socket() {
  while (socket_ < sockets_.size() && ::access(sockets_[socket_].c_str(), F_OK) != 0) ++socket_;
  if (batch_.empty() || socket_ == sockets_.size()) return end();
  call_ = http_.send_request({.socket = sockets_[socket_], .path = path()},
                             [this](const Result<HttpAnswer>& answer) { on_answer(answer); });
}

/// "/containers/json?all=true&filters={"id":["..."]}". Without `all` podman omits paused ones.
std::string ContainerQuery::path() const {
  std::string path = kind_ == EngineKind::Podman ? "/v4.0.0/libpod" : "";
  path += "/containers/json?all=true&filters=%7B%22id%22%3A%5B";
  for (const std::string& id : batch_) {
    path += (id == batch_.front() ? "%22" : "%2C%22") + id + "%22";
  }
  return path + "%5D%7D";
}

void ContainerQuery::on_answer(const Result<HttpAnswer>& answer) {
  auto list = answer && answer->status == 200 ? parse_container_list(answer->body) : std::nullopt;
  const int error = answer ? 0 : answer.error().code;
  const bool absent =
      error == ENOENT || error == ECONNREFUSED || error == EACCES || error == ELIBACC;
  if (!absent) engine_runs_ = true;
  if (list) {
    answered_.assign(std::make_move_iterator(list->rbegin()),
                     std::make_move_iterator(list->rend()));
  } else if (!absent) {
    log::info("cannot query the containers of {} at {}: {}", name_of(kind_), sockets_[socket_],
              answer ? "the answer is not a list of containers" : answer.error().text());
  }
  report_next();
}

/// Pass on one container in a turn, since its observers may take some milliseconds. Then query the
/// next engine.
void ContainerQuery::report_next() {
  while (!answered_.empty()) {
    const ContainerFacts facts = std::move(answered_.back());
    answered_.pop_back();
    if (std::erase(batch_, facts.id) == 0) continue;
    tries_.erase(facts.id);
    on_facts_(sockets_[socket_], facts);
    if (!answered_.empty()) return report_next_.arm_now();
  }
  ++socket_;
  query_next_socket();
}

void ContainerQuery::end() {
  querying_ = false;
  for (const std::string& id : std::exchange(batch_, {})) {
    const auto known = tries_.find(id);
    if (known == tries_.end()) continue;
    if (!engine_runs_ || ++known->second == kMostTries) tries_.erase(known);
    on_failure_(id);
  }
  if (tries_.empty()) return;
  timer_.arm_after(pause_before(std::ranges::min(tries_ | std::views::values)));
}

}  // namespace portfwd
