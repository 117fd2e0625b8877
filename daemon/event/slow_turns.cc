// Texts and log lines about turns of the loop that took long.
#include <cxxabi.h>
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "base/log.h"
#include "base/process_usage.h"
#include "event/event_loop.h"

namespace portfwd {

namespace {

constexpr Duration kSampleEvery = std::chrono::seconds(1);

std::int64_t ms(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

/// A class name without its namespaces. @param name as spelled by g++ or __cxa_demangle()
std::string_view without_namespace(std::string_view name) {
  for (const std::string_view outer : {"portfwd::", "{anonymous}::", "(anonymous namespace)::"}) {
    if (name.starts_with(outer)) name.remove_prefix(outer.size());
  }
  return name;
}

/// The class of a member function. @param function as in std::source_location, such as
/// "portfwd::Discovery::Discovery(const Parts&, Options)" @return such as "Discovery"
std::string class_of(std::string function) {
  const std::string_view unnamed =
      "(anonymous namespace)::";  // clang's spelling, which contains a "("
  if (const auto at = function.find(unnamed); at != function.npos) {
    function.erase(at, unnamed.size());
  }
  std::string_view name = std::string_view(function).substr(0, function.find('('));
  if (const std::size_t type = name.rfind(' '); type != name.npos) name.remove_prefix(type + 1);
  const std::size_t member = name.rfind("::");
  return std::string(without_namespace(member == name.npos ? name : name.substr(0, member)));
}

}  // namespace

std::string LoopStep::text() const {
  switch (kind) {
    case Kind::None:
      return "nothing";
    case Kind::Release:
      return "freeing retired objects";
    case Kind::Timer:
      return fmt::format("a timer of {}", class_of(owner.function_name()));
    case Kind::Io:
    case Kind::Hook:
      break;
  }
  int failed = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(handler->name(), nullptr, nullptr, &failed), std::free);
  return std::string(failed == 0 ? without_namespace(name.get()) : handler->name());
}

void SlowTurns::sample(TimePoint now) {
  if (sampled_ != TimePoint::min() && now - sampled_ < kSampleEvery) return;
  sampled_ = now;
  cpu_ = thread_cpu_time();
}

void SlowTurns::report(TimePoint now, Duration took, const LoopStep& longest_step) {
  const bool logged_recently = last_line_ != TimePoint::min() && now - last_line_ < kLineInterval;
  if (logged_recently) {
    ++left_out_;
    return;
  }
  last_line_ = now;
  const unsigned more = std::exchange(left_out_, 0);
  log::warning("a turn took {} ms, {} ms of it in {}; {} ms of CPU in the last {} ms{}", ms(took),
               ms(longest_step.took), longest_step.text(), ms(thread_cpu_time() - cpu_),
               ms(now - sampled_),
               more == 0 ? "" : fmt::format("; {} more since the last such line", more));
}

}  // namespace portfwd
