#include "broker/client/file_writer.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "broker/client/broker_launcher.h"
#include "broker/protocol.h"

namespace portfwd {

namespace {

const char* text_of(broker::WriteStep step) {
  using enum broker::WriteStep;
  switch (step) {
    case Folder:
      return "mkdir";
    case Unlink:
      return "unlink";
    case Open:
      return "open";
    case Write:
      return "write";
    case Sync:
      return "fsync";
    case Rename:
      return "rename";
    case None:
    case Request:
      break;
  }
  return "writer";
}

/// The text as a file in memory: a pipe cannot hold a text of any size at once.
Result<UniqueFd> in_memory(std::string_view text) {
  UniqueFd fd(::memfd_create("portfwd-file", MFD_CLOEXEC));
  if (!fd.valid()) return fail("memfd_create");
  while (!text.empty()) {
    const ssize_t put = ::write(fd.get(), text.data(), text.size());
    if (put < 0) return fail("write");
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail("lseek");
  return fd;
}

}  // namespace

FileWriter::FileWriter(EventLoop& loop, std::string program)
    : loop_(loop),
      launcher_(loop, std::move(program), broker::kWriterArgument, SpawnLauncher::Ending::WhenDone),
      deadline_(loop, [this] {
        stuck_ = true;
        finish(fail("write", ETIMEDOUT));
      }) {}

FileWriter::~FileWriter() {
  if (work_) launcher_.discard(std::move(work_->process));
}

void FileWriter::replace(const std::string& path, std::string_view text, Done done) {
  assert(!busy());
  stuck_ = stuck_ && launcher_.dying() > 0;
  if (stuck_) return done(fail("write", EBUSY));
  auto started = launcher_.launch();
  if (!started) return done(std::unexpected(started.error()));
  IoHandler& self = *this;  // a private base: visible here, not in emplace()
  work_.emplace(loop_, std::move(*started), self, std::move(done));
  auto begun = send_request(path, text);
  if (begun) begun = work_->source.watch(EPOLLIN);
  if (!begun) return finish(begun);
  deadline_.arm_after(kWriteTimeout);
}

Result<void> FileWriter::send_request(const std::string& path, std::string_view text) const {
  const auto memory = in_memory(text);
  if (!memory) return std::unexpected(memory.error());
  const auto bytes = std::as_bytes(std::span(path.c_str(), path.size() + 1));
  const int fd = memory->get();
  return send_with_fds(work_->process.socket.get(), bytes, std::span(&fd, 1));
}

void FileWriter::on_io(IoSource&, std::uint32_t) {
  broker::WriteReply reply;
  const auto got =
      receive_with_fds(work_->process.socket.get(), std::as_writable_bytes(std::span(&reply, 1)));
  using Outcome = ReceivedMessage::Outcome;
  if (got.outcome == Outcome::Nothing) return;
  if (got.outcome == Outcome::End || got.size != sizeof reply) {
    return finish(fail("write", ECONNRESET));
  }
  if (reply.error != 0) return finish(fail(text_of(reply.step), reply.error));
  finish({});
}

/// Ends the writer and reports the result. `done` may request the next replacement.
void FileWriter::finish(Result<void> result) {
  deadline_.disarm();
  work_->source.disarm();
  launcher_.discard(std::move(work_->process));
  Done done = std::move(work_->done);
  work_.reset();
  done(std::move(result));
}

}  // namespace portfwd
