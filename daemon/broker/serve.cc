#include "broker/serve.h"

#include <sched.h>
#include <unistd.h>

#include "broker/sockets.h"
#include "broker/unix_paths.h"

namespace portfwd::broker {

namespace {

Outcome make_internet(const Request& request, FdBatch& made) {
  return request.op == Op::Sockets ? make_sockets(request, made) : make_listener(request, made);
}

/// Running on in the wrong namespace would be worse than ending: the daemon starts another one.
void go_home(int home) {
  if (::setns(home, CLONE_NEWNET) != 0) ::_exit(1);
}

Outcome make_in(int netns, int home, const Request& request, FdBatch& made) {
  if (home < 0) return {EPERM, Step::EnterNet};
  if (::setns(netns, CLONE_NEWNET) != 0) return failed(Step::EnterNet);
  const Outcome outcome = make_internet(request, made);
  go_home(home);
  return outcome;
}

Outcome carry_out(const Message& message, int home, FdBatch& made) {
  const Request& request = message.request;
  const int passed = message.passed.get();
  switch (request.op) {
    case Op::Join:
      return {EALREADY, Step::Request};
    case Op::Sockets:
    case Op::Listen:
      return passed < 0 ? make_internet(request, made) : make_in(passed, home, request, made);
    case Op::UnixConnect:
      return unix_connect(request, passed, made);
    case Op::UnixListen:
      return unix_listen(request, passed, made);
  }
  return {EINVAL, Step::Request};
}

bool answer_one(const Channel& channel, const Message& message, int home) {
  FdBatch made;
  const Outcome outcome = carry_out(message, home, made);
  return channel.answer(message.request.id, outcome, made);
}

}  // namespace

void serve(const Channel& channel, int home) {
  Message message;
  while (channel.next(message)) {
    if (!answer_one(channel, message, home)) return;
  }
}

}  // namespace portfwd::broker
