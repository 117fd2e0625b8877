// See container_asker.h.
#include "engine/container_asker.h"

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
constexpr Duration kGather = 10ms;  // containers that start together are asked for together

Duration pause_before(unsigned tries) {
  return tries == 0 ? kGather : tries == 1 ? Duration(1s) : Duration(5s);
}

bool is_id(const std::string& id) {
  return id.size() >= 12 && id.size() <= 64 && id.find_first_not_of("0123456789abcdef") == id.npos;
}

}  // namespace

ContainerAsker::ContainerAsker(EventLoop& loop, HttpClient& http, EngineKind kind,
                               std::vector<std::string> sockets, OnFacts on_facts,
                               OnNothing on_nothing)
    : kind_(kind),
      sockets_(std::move(sockets)),
      on_facts_(std::move(on_facts)),
      on_nothing_(std::move(on_nothing)),
      http_(http),
      timer_(loop, [this] { begin(); }),
      tell_next_(loop, [this] { tell(); }) {}

void ContainerAsker::ask(const std::string& id) {
  if (!is_id(id)) return;
  wanted_[id] = 0;
  if (!asking_) timer_.arm_after(kGather);
}

void ContainerAsker::forget(const std::string& id) {
  wanted_.erase(id);
  std::erase(batch_, id);
}

void ContainerAsker::begin() {
  batch_.clear();
  for (const auto& [id, tries] : wanted_ | std::views::take(kMostAtOnce)) batch_.push_back(id);
  asking_ = true;
  somebody_there_ = false;
  socket_ = 0;
  ask_next_socket();
}

/// Where there is no socket nobody is asked, so that a user who has no engine's service running
/// does not pay for the means to ask: libcurl takes 8 MB, 3.5 of them of our own.
void ContainerAsker::ask_next_socket() {
  while (socket_ < sockets_.size() && ::access(sockets_[socket_].c_str(), F_OK) != 0) ++socket_;
  if (batch_.empty() || socket_ == sockets_.size()) return end();
  call_ = http_.ask({.socket = sockets_[socket_], .path = path()},
                    [this](const Result<HttpAnswer>& answer) { on_answer(answer); });
}

/// "/containers/json?all=true&filters={"id":["..."]}": podman leaves out paused ones without `all`.
std::string ContainerAsker::path() const {
  std::string path = kind_ == EngineKind::Podman ? "/v4.0.0/libpod" : "";
  path += "/containers/json?all=true&filters=%7B%22id%22%3A%5B";
  for (const std::string& id : batch_) {
    path += (id == batch_.front() ? "%22" : "%2C%22") + id + "%22";
  }
  return path + "%5D%7D";
}

void ContainerAsker::on_answer(const Result<HttpAnswer>& answer) {
  auto list = answer && answer->status == 200 ? parse_container_list(answer->body) : std::nullopt;
  const int error = answer ? 0 : answer.error().code;
  const bool absent =
      error == ENOENT || error == ECONNREFUSED || error == EACCES || error == ELIBACC;
  if (!absent) somebody_there_ = true;
  if (list) {
    answered_.assign(std::make_move_iterator(list->rbegin()),
                     std::make_move_iterator(list->rend()));
  } else if (!absent) {
    log::info("{} at {} does not say who its containers are: {}", name_of(kind_), sockets_[socket_],
              answer ? "this is no list of containers" : answer.error().text());
  }
  tell();
}

/// One container a turn: what there is to do about one may take some milliseconds.
void ContainerAsker::tell() {
  while (!answered_.empty()) {
    const ContainerFacts facts = std::move(answered_.back());
    answered_.pop_back();
    if (std::erase(batch_, facts.id) == 0) continue;
    wanted_.erase(facts.id);
    on_facts_(sockets_[socket_], facts);
    if (!answered_.empty()) return tell_next_.arm_now();
  }
  ++socket_;
  ask_next_socket();
}

void ContainerAsker::end() {
  asking_ = false;
  for (const std::string& id : std::exchange(batch_, {})) {
    const auto known = wanted_.find(id);
    if (known == wanted_.end()) continue;
    if (!somebody_there_ || ++known->second == kMostTries) wanted_.erase(known);
    on_nothing_(id);
  }
  if (wanted_.empty()) return;
  timer_.arm_after(pause_before(std::ranges::min(wanted_ | std::views::values)));
}

}  // namespace portfwd
