#include "broker/client/reader.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ranges>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace portfwd {

namespace {

using broker::ReadOp;
using broker::ReadReply;
using broker::ReadRequest;

constexpr std::string_view kOp = "reader";
constexpr Error kTimedOut{ETIMEDOUT, kOp};
constexpr Error kDied{ECONNRESET, kOp};
constexpr Error kInvalidReply{EBADMSG, kOp};

/// Enough to keep a reader busy; the largest of them fit into the default buffer of a socket.
constexpr std::size_t kMostInFlight = 8;
/// Callers repeat their requests; more than this many are treated as a flood.
constexpr std::size_t kMostWaiting = 4096;
constexpr Duration kShortestPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(5);

template <class T>
void append(std::string& bytes, std::span<const T> values) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

/// @return number of bytes after the reply; nullopt when it is not a valid reply to the request
std::optional<std::size_t> body_size(ssize_t got, const ReadReply& reply,
                                     const ReadRequest& request) {
  if (got < static_cast<ssize_t>(sizeof reply)) return std::nullopt;
  const std::size_t size = static_cast<std::size_t>(got) - sizeof reply;
  const bool ours = reply.version == broker::kReaderVersion && reply.id == request.id;
  const bool sound = reply.error >= 0 && reply.last <= 1 && reply.command <= size &&
                     (reply.error == 0 || (size == 0 && reply.last == 1)) &&
                     (reply.last == 1 || request.op == ReadOp::File);
  if (!ours || !sound) return std::nullopt;
  return size;
}

}  // namespace

Reader::Reader(EventLoop& loop, Options options)
    : loop_(loop),
      launcher_(loop, options.program, broker::kReaderArgument),
      options_(std::move(options)),
      work_(loop, [this] { work(); }),
      deadline_(loop, [this] { on_timeout(); }) {}

Reader::~Reader() {
  end_process();
}

Reader::Call Reader::read_texts(pid_t pid, std::uint64_t started, Done<Texts> done) {
  QueuedRead queued;
  queued.request.op = ReadOp::Texts;
  queued.request.pid = pid;
  queued.subject = fmt::format("{} {}", pid, started);
  return enqueue(std::move(queued), [done = std::move(done)](Result<std::string> bytes,
                                                             const ReadReply& reply) mutable {
    if (!bytes) return done(std::unexpected(bytes.error()));
    Texts texts{bytes->substr(0, reply.command), std::nullopt};
    if (reply.environment_known != 0) texts.environment = bytes->substr(reply.command);
    done(std::move(texts));
  });
}

Reader::Call Reader::find_owners(std::span<const pid_t> pids, std::span<const std::uint32_t> inodes,
                                 Done<Owners> done) {
  pids = pids.last(std::min(pids.size(), broker::kMostPids));  // mostly the youngest
  inodes = inodes.first(std::min(inodes.size(), broker::kMostInodes));
  QueuedRead queued;
  queued.request.op = ReadOp::Owners;
  queued.request.pids = static_cast<std::uint32_t>(pids.size());
  queued.request.inodes = static_cast<std::uint32_t>(inodes.size());
  append(queued.payload, pids);
  append(queued.payload, inodes);
  return enqueue(std::move(queued),
                 [done = std::move(done)](Result<std::string> bytes, const ReadReply&) mutable {
                   if (!bytes) return done(std::unexpected(bytes.error()));
                   Owners owners(bytes->size() / sizeof(broker::SocketOwner));
                   std::copy_n(bytes->data(), owners.size() * sizeof owners[0],
                               reinterpret_cast<char*>(owners.data()));
                   done(std::move(owners));
                 });
}

Reader::Call Reader::read_file(const File& file, Done<std::string> done) {
  QueuedRead queued;
  queued.request.op = ReadOp::File;
  queued.request.owner = file.owner;
  queued.request.limit = file.limit;
  queued.subject = file.folder + '\0' + file.path + '\0';
  queued.payload = queued.subject;
  return enqueue(std::move(queued),
                 [done = std::move(done)](Result<std::string> bytes, const ReadReply&) mutable {
                   done(std::move(bytes));
                 });
}

/// Appends the request. Requests that cannot be sent are answered by work(), so that no callback is
/// called from within the caller.
Reader::Call Reader::enqueue(QueuedRead queued, Call::Raw done) {
  Call call(std::make_shared<Call::Raw>(std::move(done)));
  queued.done = call.done_;
  queued.request.id = ++last_id_ == 0 ? ++last_id_ : last_id_;
  calls_.push_back(std::move(queued));
  work_.arm_now();
  return call;
}

void Reader::finish_first(Result<std::string> result, const ReadReply& reply) {
  const QueuedRead queued = std::move(calls_.front());
  calls_.pop_front();
  if (in_flight_ > 0) --in_flight_;
  arm_deadline();
  if (const auto done = queued.done.lock()) {
    Call::Raw callback = std::exchange(*done, nullptr);
    callback(std::move(result), reply);
  }
}

void Reader::work() {
  while (in_flight_ == 0 && !calls_.empty()) {
    const QueuedRead& first = calls_.front();
    if (first.done.expired()) {
      calls_.pop_front();
    } else if (first.request.op != ReadOp::Join && timed_out_.contains(first.subject)) {
      finish_first(std::unexpected(kTimedOut), {});
    } else if (calls_.size() > kMostWaiting || stuck() >= kMostStuck) {
      finish_first(fail(kOp, EBUSY), {});
    } else if (!process_ && loop_.now() < not_before_) {
      finish_first(std::unexpected(kDied), {});
    } else {
      break;
    }
  }
  if (calls_.empty()) return;
  if (!process_) {
    if (auto started = start(); !started) return fail_reader(started.error());
  }
  if (auto sent = send_waiting(); !sent) fail_reader(sent.error());
}

Result<void> Reader::start() {
  auto launched = launcher_.launch();
  if (!launched) return std::unexpected(launched.error());
  process_.emplace(loop_, std::move(*launched), static_cast<IoHandler&>(*this));
  if (auto watched = process_->source.watch(EPOLLIN); !watched) return watched;
  QueuedRead& join = calls_.emplace_front();
  join.request.op = ReadOp::Join;
  join.request.purpose = options_.purpose;
  join.payload = options_.folder + '\0';
  join.request.id = ++last_id_ == 0 ? ++last_id_ : last_id_;
  return {};
}

/// Sends waiting requests, up to one with a subject that is not read again: work() answers that one
/// when it is the first.
Result<void> Reader::send_waiting() {
  while (in_flight_ < std::min(kMostInFlight, calls_.size())) {
    QueuedRead& queued = calls_[in_flight_];
    if (queued.request.op != ReadOp::Join && timed_out_.contains(queued.subject)) break;
    std::array<iovec, 2> parts{iovec{&queued.request, sizeof queued.request},
                               iovec{queued.payload.data(), queued.payload.size()}};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (queued.request.op == ReadOp::Join && options_.userns.valid()) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* item = CMSG_FIRSTHDR(&header);
      item->cmsg_level = SOL_SOCKET;
      item->cmsg_type = SCM_RIGHTS;
      item->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = options_.userns.get();
      std::memcpy(CMSG_DATA(item), &fd, sizeof fd);
    }
    if (::sendmsg(process_->process.socket.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno == EAGAIN && in_flight_ > 0) break;
      return fail("sendmsg");
    }
    if (++in_flight_ == 1) arm_deadline();
  }
  return {};
}

void Reader::arm_deadline() {
  if (in_flight_ == 0) return deadline_.disarm();
  const TimePoint now = loop_.now();
  const bool starts = calls_.front().request.op == ReadOp::Join;
  deadline_.arm_at(now + (now < strict_until_ && !starts ? kStrictDeadline : kDeadline));
}

void Reader::on_io(IoSource&, std::uint32_t) {
  while (process_ && receive_one()) {
  }
  work();
}

/// Receives one reply.
/// @return false when there is none now, or the reader has failed
bool Reader::receive_one() {
  ReadReply reply;
  static std::array<char, broker::kChunk> body;
  std::array<iovec, 2> parts{iovec{&reply, sizeof reply}, iovec{body.data(), body.size()}};
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  const ssize_t got = ::recvmsg(process_->process.socket.get(), &header, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) return fail_reader(kDied), false;
  const auto size = in_flight_ == 0 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
                        ? std::nullopt
                        : body_size(got, reply, calls_.front().request);
  if (!size) return fail_reader(kInvalidReply), false;
  QueuedRead& first = calls_.front();
  first.answer.append(body.data(), *size);
  if (first.answer.size() > std::size_t{first.request.limit} + broker::kChunk) {
    return fail_reader(kInvalidReply), false;
  }
  if (reply.last == 0) return true;
  const bool joined = first.request.op == ReadOp::Join;
  if (joined && reply.error != 0) {
    finish_first(std::unexpected(kDied), reply);
    return fail_reader({reply.error, kOp}), false;
  }
  if (!joined) pause_ = {};
  if (reply.error != 0) {
    finish_first(fail(kOp, reply.error), reply);
  } else {
    finish_first(std::move(first.answer), reply);
  }
  return true;
}

/// Handles a late reply. The subject of the first request blocks the reader, unless this process
/// itself has not run for that time and the reply is there.
void Reader::on_timeout() {
  const std::uint32_t first = calls_.front().request.id;
  while (process_ && receive_one()) {
  }
  if (!process_ || in_flight_ == 0 || calls_.front().request.id != first) return work();
  ++timeouts_;
  strict_until_ = loop_.now() + kStrictPeriod;
  end_process();
  const std::string subject = calls_.front().subject;
  if (subject.empty()) return fail_reader(kTimedOut);
  exclude_subject(subject);
  finish_first(std::unexpected(kTimedOut), {});
  if (!calls_.empty()) work_.arm_now();
}

void Reader::exclude_subject(const std::string& subject) {
  if (!timed_out_.insert(subject).second) return;
  timed_out_in_order_.push_back(subject);
  if (timed_out_in_order_.size() > kMostTimedOut) {
    timed_out_.erase(timed_out_in_order_.front());
    timed_out_in_order_.pop_front();
  }
  log::write(log::Level::Notice,
             fmt::format("cannot read {}: timed out; it is not read again", text_of(subject)));
}

std::string Reader::text_of(const std::string& subject) const {
  const bool file = options_.purpose == broker::Purpose::Files;
  return file ? printable(subject.substr(0, subject.find('\0')))
              : "process " + subject.substr(0, subject.find(' '));
}

std::vector<std::string> Reader::timed_out_subjects(std::size_t most) const {
  std::vector<std::string> texts;
  const std::size_t left_out =
      timed_out_in_order_.size() - std::min(timed_out_in_order_.size(), most);
  for (const std::string& subject : timed_out_in_order_ | std::views::drop(left_out)) {
    texts.push_back(text_of(subject));
  }
  return texts;
}

void Reader::stop_if_idle() {
  if (calls_.empty()) end_process();
}

void Reader::end_process() {
  in_flight_ = 0;
  deadline_.disarm();
  if (!process_) return;
  process_->source.disarm();
  launcher_.discard(std::move(process_->process));
  process_.reset();
  for (QueuedRead& queued : calls_) queued.answer.clear();
}

/// Ends the reader and fails all requests; callers repeat them if needed.
void Reader::fail_reader(Error error) {
  end_process();
  pause_ = std::clamp(2 * pause_, kShortestPause, kLongestPause);
  not_before_ = loop_.now() + pause_;
  for (std::size_t left = calls_.size(); left > 0 && !calls_.empty(); --left) {
    finish_first(std::unexpected(error), {});
  }
  if (!calls_.empty()) work_.arm_now();
}

void Reader::wait(Duration limit) {
  const TimePoint end = loop_.now() + limit;
  work();
  while (!calls_.empty() && loop_.now() < end) {
    if (!process_) return;
    pollfd socket{process_->process.socket.get(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - loop_.now());
    (void)::poll(&socket, 1, static_cast<int>(left.count()));
    while (process_ && receive_one()) {
    }
    work();
  }
}

}  // namespace portfwd
