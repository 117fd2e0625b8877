// Allow-list of system calls, as a seccomp filter: any other call kills the process. On the stack
// of the function that installs it. Used by portfwd-broker and portfwd-relay.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace portfwd::broker {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "name this machine's AUDIT_ARCH_ and check the system calls below"
#endif

/// An allow-list of system calls, some of them only for certain values of one argument. Numbers are
/// compared for equality, so the second set of x86-64 (x32, bit 30 set) is never allowed.
class AllowList {
 public:
  AllowList() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
    finish(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));
  }

  void allow(long number) {
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1);
    finish(SECCOMP_RET_ALLOW);
  }

  /// @param argument its index; only the low half is compared, as the kernel reads these arguments
  /// as int
  void allow_if(long number, unsigned argument, std::initializer_list<int> values) {
    const auto count = static_cast<std::uint8_t>(values.size());
    add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0,
        static_cast<std::uint8_t>(count + 3));
    load(static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * argument));
    std::uint8_t left = count;
    for (const int value : values) {
      add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value), left--, 0);
    }
    finish(SECCOMP_RET_KILL_PROCESS);
    finish(SECCOMP_RET_ALLOW);
  }

  /// Sets no_new_privs and installs the list, which cannot be undone. @return whether both
  /// succeeded
  [[nodiscard]] bool install() {
    finish(SECCOMP_RET_KILL_PROCESS);
    sock_fprog program{size_, code_};
    // Not seccomp(2), which is denied to services confined to @system-service of systemd.
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  }

 private:
  void load(std::uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
  void finish(std::uint32_t verdict) { add(BPF_RET | BPF_K, verdict, 0, 0); }
  void add(int code, std::uint32_t value, std::uint8_t if_true, std::uint8_t if_false) {
    assert(size_ < sizeof code_ / sizeof *code_);
    code_[size_++] = {static_cast<std::uint16_t>(code), if_true, if_false, value};
  }

  sock_filter code_[128];  // the longest of the lists takes 82
  std::uint16_t size_ = 0;
};

}  // namespace portfwd::broker
