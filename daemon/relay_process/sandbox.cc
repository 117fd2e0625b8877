#include "relay_process/sandbox.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "broker/allow_list.h"
#include "broker/sandbox.h"

namespace portfwd::relay_process {

/// What the loop, the relays and the allocator call.
bool enter_sandbox() {
  if (!broker::drop_capabilities(0).ok()) return false;
  broker::AllowList list;
  for (const long number :
       {SYS_recvfrom,   SYS_sendto,       SYS_splice,      SYS_recvmsg,         SYS_sendmsg,
        SYS_epoll_ctl,  SYS_epoll_pwait2, SYS_epoll_pwait, SYS_close,           SYS_shutdown,
        SYS_getsockopt, SYS_pipe2,        SYS_sched_yield, SYS_clock_gettime,   SYS_brk,
        SYS_munmap,     SYS_mremap,       SYS_madvise,     SYS_restart_syscall, SYS_rt_sigreturn,
        SYS_exit_group}) {
    list.allow(number);
  }
#if defined(SYS_epoll_wait)
  list.allow(SYS_epoll_wait);
#endif
  list.allow_if(SYS_setsockopt, 1, {SOL_SOCKET, IPPROTO_TCP});
  list.allow_if(SYS_fcntl, 1, {F_SETPIPE_SZ, F_GETPIPE_SZ});
  list.allow_if(SYS_ioctl, 1, {SIOCOUTQNSD});
  list.allow_if(SYS_mmap, 2, {PROT_READ | PROT_WRITE});
  return list.install();
}

}  // namespace portfwd::relay_process
