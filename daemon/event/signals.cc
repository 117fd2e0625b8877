#include "event/signals.h"

#include <sys/signalfd.h>

#include <csignal>

namespace portfwd {

namespace {

UniqueFd open_signalfd(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

Signals::Signals(EventLoop& loop, std::initializer_list<int> signals, Callback callback)
    : callback_(std::move(callback)), fd_(open_signalfd(signals)), source_(loop, fd_.get(), *this) {
  status_ = fd_.valid() ? source_.watch(EPOLLIN) : fail("signalfd");
}

void Signals::on_io(IoSource&, std::uint32_t) {
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == sizeof info) {
    callback_(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace portfwd
