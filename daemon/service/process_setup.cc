#include "service/process_setup.h"

#include <malloc.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <system_error>

#include "base/log.h"

namespace portfwd {

int fail_with(Exit status, std::string_view text) {
  log::error("{}", text);
  return status;
}

int fail_with(const Error& error) {
  const bool descriptors = error.code == EMFILE || error.code == ENFILE;
  log::error("cannot start: {}{}", error.text(),
             descriptors ? "; raise the limit of open files (LimitNOFILE=, ulimit -n)" : "");
  return kFailed;
}

int fail_with(const Refusal& refusal) {
  const bool another = refusal.kind == Refusal::Kind::AlreadyRunning;
  return fail_with(another ? kAnotherRuns : kFailed, refusal.text);
}

int fail_with(const Mistakes& mistakes) {
  for (const Mistake& mistake : mistakes) log::error("{}", mistake.message());
  return kUsage;
}

namespace {

constexpr unsigned long kTimerSlackNs = 1'000'000;

void raise_fd_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // always permitted; after a failure the limit stays
}

/// Fixes the thresholds at their initial values. Otherwise glibc raises them to the size of what is
/// freed (up to 4 MiB for an engine's answer), and then keeps that much. Source: mallopt(3).
void give_back_large_blocks() {
  constexpr int kLarge = 128 << 10;
  (void)::mallopt(M_MMAP_THRESHOLD, kLarge);
  (void)::mallopt(M_TRIM_THRESHOLD, kLarge);
}

}  // namespace

void set_up_process() {
  give_back_large_blocks();
  for (const int ignored : {SIGPIPE, SIGUSR1, SIGUSR2}) (void)std::signal(ignored, SIG_IGN);
  raise_fd_limit();
  ::prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
}

std::string login_name() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry == nullptr ? "" : entry->pw_name;
}

namespace {

/// @param folder in a build tree
std::filesystem::path program_path(std::string_view folder, std::string_view name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
  fs::path installed = here.parent_path() / "libexec/portfwd" / name;
  if (fs::exists(installed, error)) return installed;
  return here / folder / name;
}

}  // namespace

std::filesystem::path broker_path() {
  return program_path("broker", "portfwd-broker");
}

std::filesystem::path relay_path() {
  return program_path("relay_process", "portfwd-relay");
}

}  // namespace portfwd
