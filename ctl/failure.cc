#include "ctl/failure.h"

#include <fmt/format.h>

#include <utility>

#include "base/text.h"

namespace portfwd::ctl {
namespace {

constexpr std::string_view kStart = "start it with `systemctl --user start portfwd`";

}  // namespace

std::string echo(std::string_view word) {
  constexpr std::size_t kMost = 64;
  return printable(word, kMost) + (word.size() > kMost ? "…" : "");
}

Failure failure_of(const client::Error& error) {
  switch (error.kind()) {
    case client::Error::Kind::NoBus:
      return {Status::NoDaemon,
              fmt::format("no session bus ({}); is DBUS_SESSION_BUS_ADDRESS set?", error.what())};
    case client::Error::Kind::NoAnswer:
      return {Status::NoDaemon,
              fmt::format("the daemon does not answer ({}); {}", error.what(), kStart)};
    case client::Error::Kind::NotUtf8:
      return {Status::Usage, fmt::format("'{}' is not UTF-8; a container can be named by its id",
                                         echo(error.what()))};
    case client::Error::Kind::Refused:
      return {Status::Failed, error.what()};
  }
  std::unreachable();
}

Failure daemon_lost() {
  return {Status::NoDaemon, fmt::format("the daemon has gone; {}", kStart)};
}

}  // namespace portfwd::ctl
