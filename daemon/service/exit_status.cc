#include "service/exit_status.h"

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

int fail_with(const BusFailure& failure) {
  const bool another = failure.kind == BusFailure::Kind::NameTaken;
  return fail_with(another ? kAnotherRuns : kFailed, failure.text);
}

int fail_with(const Mistakes& mistakes) {
  for (const Mistake& mistake : mistakes) log::error("{}", mistake.message());
  return kUsage;
}

}  // namespace portfwd
