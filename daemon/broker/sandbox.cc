#include "broker/sandbox.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstddef>
#include <initializer_list>

namespace portfwd::broker {

namespace {

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

  [[nodiscard]] int install() {
    finish(SECCOMP_RET_KILL_PROCESS);
    sock_fprog program{size_, code_};
    // Not seccomp(2), which is denied to services confined to @system-service of systemd.
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  }

 private:
  void load(std::uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
  void finish(std::uint32_t verdict) { add(BPF_RET | BPF_K, verdict, 0, 0); }
  void add(int code, std::uint32_t value, std::uint8_t if_true, std::uint8_t if_false) {
    code_[size_++] = {static_cast<std::uint16_t>(code), if_true, if_false, value};
  }

  sock_filter code_[96];  // the longer of the lists below takes 52
  std::uint16_t size_ = 0;
};

Outcome lock(AllowList& list) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed(Step::Seccomp);
  if (list.install() != 0) return failed(Step::Seccomp);
  return {};
}

}  // namespace

Outcome drop_capabilities(Capabilities keep) {
  // The bounding set first, since dropping from it needs CAP_SETPCAP. Without that capability the
  // calls fail, which is harmless: the system call filter permits no exec.
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    (void)::prctl(PR_CAPBSET_DROP, capability);
  }
  (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) != 0) return failed(Step::Capabilities);
  for (int half = 0; half < 2; ++half) {
    sets[half].permitted &= static_cast<std::uint32_t>(keep >> (32 * half));
    sets[half].effective = sets[half].permitted;
    sets[half].inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, sets) != 0) return failed(Step::Capabilities);
  return {};
}

Outcome filter_system_calls() {
  AllowList list;
  for (const long number :
       {SYS_recvmsg, SYS_sendmsg, SYS_close, SYS_setsockopt, SYS_getsockopt, SYS_bind, SYS_listen,
        SYS_connect, SYS_openat2, SYS_fstat, SYS_newfstatat, SYS_fchmod, SYS_fchownat, SYS_unlinkat,
        SYS_restart_syscall, SYS_rt_sigreturn, SYS_exit_group}) {
    list.allow(number);
  }
  list.allow_if(SYS_setns, 1, {CLONE_NEWNET});
  list.allow_if(SYS_socket, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK});
  return lock(list);
}

Outcome filter_reading_calls() {
  AllowList list;
  for (const long number : {SYS_recvmsg, SYS_sendmsg, SYS_read, SYS_close, SYS_readlinkat,
                            SYS_getdents64, SYS_openat2, SYS_fstat, SYS_newfstatat, SYS_fstatfs,
                            SYS_restart_syscall, SYS_rt_sigreturn, SYS_exit_group}) {
    list.allow(number);
  }
  list.allow_if(SYS_openat, 2, {kReadFlags, kFolderFlags, kListFlags, kStepFlags, kLastStepFlags});
  return lock(list);
}

}  // namespace portfwd::broker
