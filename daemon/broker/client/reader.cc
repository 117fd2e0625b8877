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
constexpr Error kSilent{ETIMEDOUT, kOp};
constexpr Error kDied{ECONNRESET, kOp};
constexpr Error kNonsense{EBADMSG, kOp};

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
      deadline_(loop, [this] { on_silence(); }) {}

Reader::~Reader() {
  end_process();
}

Reader::Call Reader::read_texts(pid_t pid, std::uint64_t started, Done<Texts> done) {
  Asked asked;
  asked.request.op = ReadOp::Texts;
  asked.request.pid = pid;
  asked.subject = fmt::format("{} {}", pid, started);
  return ask(std::move(asked),
             [done = std::move(done)](Result<std::string> bytes, const ReadReply& reply) mutable {
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
  Asked asked;
  asked.request.op = ReadOp::Owners;
  asked.request.pids = static_cast<std::uint32_t>(pids.size());
  asked.request.inodes = static_cast<std::uint32_t>(inodes.size());
  append(asked.payload, pids);
  append(asked.payload, inodes);
  return ask(std::move(asked),
             [done = std::move(done)](Result<std::string> bytes, const ReadReply&) mutable {
               if (!bytes) return done(std::unexpected(bytes.error()));
               Owners owners(bytes->size() / sizeof(broker::SocketOwner));
               std::copy_n(bytes->data(), owners.size() * sizeof owners[0],
                           reinterpret_cast<char*>(owners.data()));
               done(std::move(owners));
             });
}

Reader::Call Reader::read_file(const File& file, Done<std::string> done) {
  Asked asked;
  asked.request.op = ReadOp::File;
  asked.request.owner = file.owner;
  asked.request.limit = file.limit;
  asked.subject = file.folder + '\0' + file.path + '\0';
  asked.payload = asked.subject;
  return ask(std::move(asked),
             [done = std::move(done)](Result<std::string> bytes, const ReadReply&) mutable {
               done(std::move(bytes));
             });
}

/// Appends the request. Requests that cannot be sent are answered by work(), so that no callback is
/// called from within the caller.
Reader::Call Reader::ask(Asked asked, Call::Raw done) {
  Call call(std::make_shared<Call::Raw>(std::move(done)));
  asked.done = call.done_;
  asked.request.id = ++last_id_ == 0 ? ++last_id_ : last_id_;
  calls_.push_back(std::move(asked));
  work_.arm_now();
  return call;
}

void Reader::finish_first(Result<std::string> result, const ReadReply& reply) {
  const Asked asked = std::move(calls_.front());
  calls_.pop_front();
  if (in_flight_ > 0) --in_flight_;
  arm_deadline();
  if (const auto done = asked.done.lock()) {
    Call::Raw callback = std::exchange(*done, nullptr);
    callback(std::move(result), reply);
  }
}

void Reader::work() {
  while (in_flight_ == 0 && !calls_.empty()) {
    const Asked& first = calls_.front();
    if (first.done.expired()) {
      calls_.pop_front();
    } else if (first.request.op != ReadOp::Join && silent_.contains(first.subject)) {
      finish_first(std::unexpected(kSilent), {});
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
    if (auto started = start(); !started) return lose_reader(started.error());
  }
  if (auto sent = send_waiting(); !sent) lose_reader(sent.error());
}

Result<void> Reader::start() {
  auto launched = launcher_.launch();
  if (!launched) return std::unexpected(launched.error());
  process_.emplace(loop_, std::move(*launched), static_cast<IoHandler&>(*this));
  if (auto watched = process_->source.watch(EPOLLIN); !watched) return watched;
  Asked& join = calls_.emplace_front();
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
    Asked& asked = calls_[in_flight_];
    if (asked.request.op != ReadOp::Join && silent_.contains(asked.subject)) break;
    std::array<iovec, 2> parts{iovec{&asked.request, sizeof asked.request},
                               iovec{asked.payload.data(), asked.payload.size()}};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (asked.request.op == ReadOp::Join && options_.userns.valid()) {
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
  deadline_.arm_at(now + (now < wary_until_ && !starts ? kWaryDeadline : kDeadline));
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
  if (got <= 0) return lose_reader(kDied), false;
  const auto size = in_flight_ == 0 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
                        ? std::nullopt
                        : body_size(got, reply, calls_.front().request);
  if (!size) return lose_reader(kNonsense), false;
  Asked& first = calls_.front();
  first.answer.append(body.data(), *size);
  if (first.answer.size() > std::size_t{first.request.limit} + broker::kChunk) {
    return lose_reader(kNonsense), false;
  }
  if (reply.last == 0) return true;
  const bool joined = first.request.op == ReadOp::Join;
  if (joined && reply.error != 0) {
    finish_first(std::unexpected(kDied), reply);
    return lose_reader({reply.error, kOp}), false;
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
void Reader::on_silence() {
  const std::uint32_t first = calls_.front().request.id;
  while (process_ && receive_one()) {
  }
  if (!process_ || in_flight_ == 0 || calls_.front().request.id != first) return work();
  ++silences_;
  wary_until_ = loop_.now() + kWary;
  end_process();
  const std::string subject = calls_.front().subject;
  if (subject.empty()) return lose_reader(kSilent);
  remember(subject);
  finish_first(std::unexpected(kSilent), {});
  if (!calls_.empty()) work_.arm_now();
}

void Reader::remember(const std::string& subject) {
  if (!silent_.insert(subject).second) return;
  silent_in_order_.push_back(subject);
  if (silent_in_order_.size() > kMostSilent) {
    silent_.erase(silent_in_order_.front());
    silent_in_order_.pop_front();
  }
  log::write(log::Level::Notice,
             fmt::format("cannot read {}: timed out; it is not read again", text_of(subject)));
}

std::string Reader::text_of(const std::string& subject) const {
  const bool file = options_.purpose == broker::Purpose::Files;
  return file ? printable(subject.substr(0, subject.find('\0')))
              : "process " + subject.substr(0, subject.find(' '));
}

std::vector<std::string> Reader::silent(std::size_t most) const {
  std::vector<std::string> texts;
  const std::size_t left_out = silent_in_order_.size() - std::min(silent_in_order_.size(), most);
  for (const std::string& subject : silent_in_order_ | std::views::drop(left_out)) {
    texts.push_back(text_of(subject));
  }
  return texts;
}

void Reader::rest() {
  if (calls_.empty()) end_process();
}

void Reader::end_process() {
  in_flight_ = 0;
  deadline_.disarm();
  if (!process_) return;
  process_->source.disarm();
  launcher_.discard(std::move(process_->process));
  process_.reset();
  for (Asked& asked : calls_) asked.answer.clear();
}

/// Ends the reader and fails all requests; callers repeat them if needed.
void Reader::lose_reader(Error error) {
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
