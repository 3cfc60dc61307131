#include "backend/host/peer_watch.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/logging.hpp"

namespace crossdock::host {

void PeerWatch::add(int rank, int pid) {
  FileDescriptor fd(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1);
  const auto index = static_cast<std::size_t>(rank);
  had_ended_[index] = pid > 0 && !fd.valid() && errno == ESRCH;
  if (!fd.valid() && !had_ended_[index]) {
    logger().warn("the process of rank {} (pid {}) cannot be watched: {}; its death will be found by the deadline only",
                  rank, pid,
                  pid > 0 ? std::strerror(errno) : "it is in another PID namespace");  // NOLINT(concurrency-mt-unsafe)
  }
  pidfds_[index] = std::move(fd);
}

bool PeerWatch::is_dead(int rank) const noexcept {
  if (had_ended_[static_cast<std::size_t>(rank)]) return true;
  const FileDescriptor& fd = pidfds_[static_cast<std::size_t>(rank)];
  if (!fd.valid()) return false;
  pollfd entry{fd.get(), POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

}  // namespace crossdock::host
