#include "relay_process/client/relay_process.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/log.h"
#include "kernel/stream.h"

namespace portfwd {

namespace {

using relay_process::News;
using relay_process::Op;
using relay_process::Report;
using relay_process::Request;

constexpr Duration kLineInterval = std::chrono::seconds(10);
constexpr std::string_view kOwnOp = "relay process";
constexpr Error kDied{ECONNRESET, kOwnOp};
constexpr Error kStuck{ETIMEDOUT, kOwnOp};
constexpr Error kInvalidReport{EBADMSG, kOwnOp};
constexpr int kPassRights = 83;  // SO_PASSRIGHTS, linux/socket.h of Linux 6.16

/// A process that a container has taken over must not make the daemon wait either, so its
/// descriptors are refused where the kernel can.
void refuse_descriptors(int socket) {
  const int off = 0;
  (void)::setsockopt(socket, SOL_SOCKET, kPassRights, &off, sizeof off);
}

}  // namespace

HandedRelay::HandedRelay(std::shared_ptr<RelayProcess> process, RelayGroup& group, std::uint32_t id)
    : process_(std::move(process)), group_(group), id_(id) {}

void HandedRelay::abort() {
  if (const auto process = std::exchange(process_, nullptr)) process->abort(*this);
}

RelayProcess::RelayProcess(RelayProcesses& owner, EventLoop& loop, std::string key)
    : owner_(owner),
      loop_(loop),
      key_(std::move(key)),
      work_(loop, [this] { work(); }),
      stuck_(loop, [this] { on_failure(kStuck); }),
      idle_(loop, [this] { end_process(); }) {
  loop_.add_hook(*this);
}

/// Sockets are left in the queue only when the daemon ends. Its exit closes them, which does not
/// wait for SO_LINGER. Source: tcp_close and inet_release, PF_EXITING.
RelayProcess::~RelayProcess() {
  loop_.remove_hook(*this);
  end_process();
  for (Outgoing& left : queue_) {
    for (UniqueFd& fd : left.fds) (void)fd.release();
  }
}

// ---- commands ----------------------------------------------------------------------------------

std::unique_ptr<RelayedConnection> RelayProcess::carry(RelayGroup& group, UniqueFd client,
                                                       UniqueFd target,
                                                       const CarryOptions& options) {
  assert(client.valid() && target.valid());
  Request request{.op = Op::Pair};
  do {
    request.relay = ++last_id_;
  } while (request.relay == 0 || relays_.contains(request.relay));
  request.group = join_group(group);
  if (options.pass_fds) request.flags |= relay_process::kPassFds;
  if (options.without_pass_rights) request.flags |= relay_process::kWithoutPassRights;
  auto relay = std::make_unique<HandedRelay>(shared_from_this(), group, request.relay);
  relays_.emplace(request.relay, Known{relay.get(), request.group});
  std::vector<UniqueFd> sockets;
  sockets.push_back(std::move(client));
  sockets.push_back(std::move(target));
  enqueue(request, std::move(sockets));
  return relay;
}

void RelayProcess::discard(UniqueFd socket) {
  assert(socket.valid());
  std::vector<UniqueFd> sockets;
  sockets.push_back(std::move(socket));
  enqueue({.op = Op::Discard}, std::move(sockets));
}

void RelayProcess::abort(HandedRelay& relay) {
  const auto it = relays_.find(relay.id_);
  assert(it != relays_.end() && it->second.relay == &relay);
  leave_group(it->second.group);
  if (it->second.stage == Stage::Sent) {
    it->second.relay = nullptr;
    return enqueue({.op = Op::Abort, .relay = relay.id_}, {});
  }
  if (it->second.stage == Stage::Queued) {
    const auto queued =
        std::ranges::find(queue_, relay.id_, [](const Outgoing& o) { return o.request.relay; });
    assert(queued != queue_.end());
    queued->request = {.op = Op::Discard};
  }
  relays_.erase(it);
}

bool RelayProcess::is_idle() const {
  return relays_.empty() && queue_.empty() && unaccepted_ == 0 && !release_due_;
}

// ---- sending -----------------------------------------------------------------------------------

void RelayProcess::enqueue(Request request, std::vector<UniqueFd> fds) {
  queue_.push_back({request, std::move(fds)});
  idle_.disarm();
  is_new_ = true;
  if (!process_ && !work_.armed()) work_.arm_now();
}

void RelayProcess::before_wait() {
  if (std::exchange(is_new_, false)) send_waiting();
}

void RelayProcess::work() {
  if (!process_ && !queue_.empty() && !start()) return;
  send_waiting();
  update_idle();
}

/// @return whether a process runs; otherwise work() is called again
bool RelayProcess::start() {
  if (owner_.killed(key_) >= kMostStuck) return false;  // until one of them is reaped
  auto launched = owner_.launcher_->launch();
  if (launched) {
    refuse_descriptors(launched->socket.get());
    process_.emplace(loop_, std::move(*launched), static_cast<IoHandler&>(*this));
    if (process_->source.watch(EPOLLIN)) {
      pause_ = {};
      return true;
    }
    end_process();
  }
  const bool again = std::exchange(pause_, std::clamp(2 * pause_, kShortestPause, kLongestPause)) >
                     Duration::zero();
  log::write(again ? log::Level::Debug : log::Level::Warning,
             fmt::format("cannot start a relay process: {}",
                         launched ? "epoll_ctl" : launched.error().text()));
  work_.arm_after(pause_);
  return false;
}

/// If the process has closed its end, on_io() is called.
void RelayProcess::send_waiting() {
  if (!process_) return;
  socket_full_ = false;
  while (!queue_.empty() && send_first()) {
  }
  (void)send_released();
  (void)process_->source.watch(socket_full_ ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/// @return false when no more can be sent now
bool RelayProcess::send_first() {
  Outgoing& first = queue_.front();
  const bool carries = !first.fds.empty();
  if (carries ? unaccepted_ == kMostUnaccepted : !send_released()) return false;
  if (!send(first.request, first.fds)) return false;
  if (first.request.op == Op::Pair) relays_.at(first.request.relay).stage = Stage::Sent;
  if (carries) {
    release_due_ = true;
    if (++unaccepted_ == 1) stuck_.arm_after(kStuckAfter);
  }
  queue_.pop_front();  // closes the descriptors, which the message holds
  return true;
}

/// @return false when it could not be sent now
bool RelayProcess::send_released() {
  if (release_due_ && send({.op = Op::Released}, {})) release_due_ = false;
  return !release_due_;
}

bool RelayProcess::send(const Request& request, std::span<const UniqueFd> fds) {
  std::vector<int> numbers;
  for (const UniqueFd& fd : fds) numbers.push_back(fd.get());
  const auto sent =
      send_with_fds(process_->process.socket.get(), std::as_bytes(std::span(&request, 1)), numbers);
  if (sent) return true;
  if (sent.error().code == EAGAIN) {
    socket_full_ = true;
  } else if (sent.error().code != EPIPE && sent.error().code != ECONNRESET) {
    work_.arm_after(kShortestPause);  // such as ETOOMANYREFS: all programs of the user together
  }
  return false;
}

// ---- receiving ---------------------------------------------------------------------------------

void RelayProcess::on_io(IoSource&, std::uint32_t) {
  keep_alive_until_batch_ends();
  while (process_ && receive_one()) {
  }
  send_waiting();
  update_idle();
}

/// @return false when there is no report now, or the process was ended
bool RelayProcess::receive_one() {
  Report bytes;
  const Transfer in =
      receive_some(process_->process.socket.get(), std::as_writable_bytes(std::span(&bytes, 1)));
  if (in.outcome == Transfer::Outcome::WouldBlock) return false;
  if (!in.moved()) return on_failure(kDied), false;
  const auto report =
      relay_process::parse_report(std::as_bytes(std::span(&bytes, 1)).first(in.bytes));
  if (!report || !handle(*report)) return on_failure(kInvalidReport), false;
  return true;
}

/// @return whether the report is possible now
bool RelayProcess::handle(const Report& report) {
  switch (report.news) {
    case News::Accepted:
      return on_accepted();
    case News::Ended:
      return on_ended(report);
    case News::Counters:
      count_bytes(report);
      return true;
  }
  return false;
}

bool RelayProcess::on_accepted() {
  if (unaccepted_ == 0) return false;
  if (--unaccepted_ == 0) {
    stuck_.disarm();
  } else {
    stuck_.arm_after(kStuckAfter);
  }
  return true;
}

bool RelayProcess::on_ended(const Report& report) {
  const auto it = relays_.find(report.relay);
  if (it == relays_.end() || it->second.stage != Stage::Sent || it->second.group != report.group) {
    return false;
  }
  count_bytes(report);
  if (const auto group = groups_.find(report.group); group != groups_.end()) {
    group->second.group->counters.failed += report.failed;
    group->second.group->fds_refused += report.fds_refused;
  }
  finish(it);
  return true;
}

/// For a group whose relays were all aborted there is nothing to count.
void RelayProcess::count_bytes(const Report& report) {
  const auto it = groups_.find(report.group);
  if (it == groups_.end()) return;
  it->second.group->counters.bytes_in += report.bytes_in;
  it->second.group->counters.bytes_out += report.bytes_out;
}

/// Ends the process and the relays that it has. What is in the queue goes to another one.
void RelayProcess::on_failure(Error error) {
  keep_alive_until_batch_ends();
  const bool logged_recently = loop_.now() < next_line_;
  if (!logged_recently) next_line_ = loop_.now() + kLineInterval;
  log::write(logged_recently ? log::Level::Debug : log::Level::Warning,
             fmt::format("{} of the Unix sockets of {} failed; its connections are reset",
                         error.text(), key_));
  end_process();
  std::erase_if(queue_, [](const Outgoing& o) { return o.request.op == Op::Abort; });
  if (!queue_.empty()) work_.arm_now();
  for (auto& [id, known] : relays_) {
    if (known.stage == Stage::Sent) known.stage = Stage::Lost;
  }
  // A callback may abort other relays, so each is searched for again.
  const auto is_lost = [](const auto& entry) { return entry.second.stage == Stage::Lost; };
  for (auto it = std::ranges::find_if(relays_, is_lost); it != relays_.end();
       it = std::ranges::find_if(relays_, is_lost)) {
    if (it->second.relay != nullptr) ++it->second.relay->group_.counters.failed;
    finish(it);
  }
}

/// Forgets a relay that is over, and notifies its owner.
void RelayProcess::finish(std::map<std::uint32_t, Known>::iterator over) {
  const Known known = over->second;
  relays_.erase(over);
  if (known.relay == nullptr) return;
  leave_group(known.group);
  known.relay->process_.reset();
  known.relay->group_.on_over(*known.relay);
}

void RelayProcess::end_process() {
  idle_.disarm();
  stuck_.disarm();
  unaccepted_ = 0;
  release_due_ = false;
  if (!process_) return;
  process_->source.disarm();
  owner_.kill(key_, std::move(process_->process));
  process_.reset();
}

void RelayProcess::update_idle() {
  if (!is_idle()) return;
  if (drains_) {
    owner_.on_drained(*this);
  } else if (process_ && !idle_.armed()) {
    idle_.arm_after(kIdle);
  }
}

std::uint32_t RelayProcess::join_group(RelayGroup& group) {
  auto it = std::ranges::find_if(groups_, [&](const auto& g) { return g.second.group == &group; });
  while (it == groups_.end()) {
    if (++last_group_ == 0) continue;
    const auto [added, is_new] = groups_.try_emplace(last_group_, Group{&group});
    if (is_new) it = added;
  }
  ++it->second.relays;
  return it->first;
}

void RelayProcess::leave_group(std::uint32_t id) {
  const auto it = groups_.find(id);
  assert(it != groups_.end() && it->second.relays > 0);
  if (--it->second.relays == 0) groups_.erase(it);
}

/// Keeps this object until the batch ends: a callback may release the last owner while a member
/// function runs. If it drains, it is retired when it has drained.
void RelayProcess::keep_alive_until_batch_ends() {
  struct KeepAlive final : Retirable {
    explicit KeepAlive(std::shared_ptr<RelayProcess> process) : process_(std::move(process)) {}
    std::shared_ptr<RelayProcess> process_;
  };
  if (auto self = weak_from_this().lock()) loop_.retire(std::make_unique<KeepAlive>(self));
}

RelayProcesses::RelayProcesses(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher)
    : loop_(loop), launcher_(std::move(launcher)) {}

RelayProcesses::~RelayProcesses() {
  assert(processes_.empty());
}

std::shared_ptr<RelayProcess> RelayProcesses::process_of(const std::string& key) {
  if (const auto known = processes_.find(key); known != processes_.end()) {
    return known->second.lock();
  }
  const auto release = [this](RelayProcess* process) {
    on_released(std::unique_ptr<RelayProcess>(process));
  };
  std::shared_ptr<RelayProcess> made(new RelayProcess(*this, loop_, key), release);
  processes_.emplace(key, made);
  return made;
}

void RelayProcesses::on_released(std::unique_ptr<RelayProcess> process) {
  processes_.erase(process->key());
  if (process->is_idle()) return;
  process->drains_ = true;
  draining_.push_back(std::move(process));
}

void RelayProcesses::on_drained(RelayProcess& process) {
  const auto it = std::ranges::find(draining_, &process, &std::unique_ptr<RelayProcess>::get);
  assert(it != draining_.end());
  process.end_process();
  process.drains_ = false;
  loop_.retire(std::move(*it));
  draining_.erase(it);
}

void RelayProcesses::kill(const std::string& key, BrokerProcess process) {
  if (!process.pidfd.valid()) return;
  auto child = std::make_unique<DyingChild>(loop_, std::move(process),
                                            [this](pid_t reaped) { on_reaped(reaped); });
  if (child->reap() || !child->watch()) return;
  killed_.push_back({key, loop_.now(), std::move(child)});
}

void RelayProcesses::on_reaped(pid_t pid) {
  const auto it = std::ranges::find(killed_, pid, [](const Killed& k) { return k.child->pid(); });
  assert(it != killed_.end());
  const std::string key = std::move(it->key);
  loop_.retire(std::move(it->child));
  killed_.erase(it);
  const auto resume = [&key](RelayProcess& process) {
    if (process.key() == key) process.work_.arm_now();
  };
  for (const auto& [name, process] : processes_) {
    if (const auto in_use = process.lock()) resume(*in_use);
  }
  for (const auto& process : draining_) resume(*process);
}

std::size_t RelayProcesses::killed(const std::string& key) const {
  return static_cast<std::size_t>(std::ranges::count(killed_, key, &Killed::key));
}

std::vector<pid_t> RelayProcesses::pids() const {
  std::vector<pid_t> pids;
  const auto add = [&pids](const RelayProcess& process) {
    if (process.pid() != 0) pids.push_back(process.pid());
  };
  for (const auto& [key, process] : processes_) {
    if (const auto in_use = process.lock()) add(*in_use);
  }
  for (const auto& process : draining_) add(*process);
  return pids;
}

std::vector<pid_t> RelayProcesses::stuck() const {
  std::vector<pid_t> pids;
  for (const Killed& killed : killed_) {
    if (loop_.now() - killed.since >= kUnkillableAfter) pids.push_back(killed.child->pid());
  }
  return pids;
}

}  // namespace portfwd
