#include "broker/sandbox.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "broker/allow_list.h"

namespace portfwd::broker {

namespace {

Outcome lock(AllowList& list) {
  return list.install() ? Outcome() : failed(Step::Seccomp);
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

bool set_effective_capabilities(bool all) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) != 0) return false;
  for (__user_cap_data_struct& set : sets) set.effective = all ? set.permitted : 0;
  return ::syscall(SYS_capset, &header, sets) == 0;
}

Outcome filter_system_calls(Home home) {
  AllowList list;
  for (const long number :
       {SYS_recvmsg, SYS_sendmsg, SYS_close, SYS_setsockopt, SYS_getsockopt, SYS_bind, SYS_listen,
        SYS_restart_syscall, SYS_rt_sigreturn, SYS_exit_group}) {
    list.allow(number);
  }
  const bool paths = home == Home::Paths || home == Home::HostPaths;
  const bool internet = home == Home::Private || home == Home::Here;
  if (home != Home::Private) list.allow(SYS_connect);
  if (home == Home::Private) {
    list.allow_if(SYS_socket, 0, {AF_INET, AF_INET6, AF_NETLINK});
  } else if (internet) {
    list.allow_if(SYS_socket, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK});
  } else {
    list.allow_if(SYS_socket, 0, {AF_UNIX});
    for (const long number : {SYS_setresuid, SYS_setresgid, SYS_capget, SYS_capset}) {
      list.allow(number);
    }
  }
  if (paths) {
    for (const long number :
         {SYS_openat2, SYS_fstat, SYS_newfstatat, SYS_fchmod, SYS_fchownat, SYS_mkdirat,
          SYS_renameat2, SYS_unlinkat, SYS_getdents64, SYS_getrandom}) {
      list.allow(number);
    }
  }
  if (home == Home::Private || home == Home::Names) {
    list.allow_if(SYS_setns, 1, {CLONE_NEWNET});
  }
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
