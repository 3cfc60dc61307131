#include "crossdock/child_process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "crossdock/rank_threads.hpp"

namespace crossdock::tool {

namespace {

constexpr std::size_t kMaxReportBytes = 16384;  // fits a pipe, so that writing it never blocks
constexpr int kFailedBody = 1;

void write_report(int fd, const RankFailure& failure) noexcept {
  std::array<char, kMaxReportBytes> report{};
  const std::size_t length = std::min(failure.message.size(), report.size() - 1);
  report[0] = static_cast<char>(failure.code);
  std::memcpy(report.data() + 1, failure.message.data(), length);
  std::size_t written = 0;
  while (written < length + 1) {
    const ssize_t count = ::write(fd, report.data() + written, length + 1 - written);
    if (count <= 0) return;  // the parent is gone, and so will this process be
    written += static_cast<std::size_t>(count);
  }
}

/// _exit, because exit handlers and buffered output belong to the parent.
[[noreturn]] void run_child(int rank, pid_t parent, int report_fd, const std::function<void()>& body) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // NOLINT(cppcoreguidelines-pro-type-vararg)
  if (::getppid() != parent) ::_exit(kFailedBody);
  try {
    body();
  } catch (...) {
    write_report(report_fd, describe_current_exception(rank));
    ::_exit(kFailedBody);
  }
  ::_exit(0);
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("ended by signal {} ({})", WTERMSIG(status),
                       ::strsignal(WTERMSIG(status)));  // NOLINT: one thread
  }
  return fmt::format("ended by itself with status {}", WEXITSTATUS(status));
}

}  // namespace

ChildProcess::ChildProcess(int rank, const std::function<void()>& body) : rank_(rank) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw system_error("cannot make a pipe");
  pipe_ = FileDescriptor(ends[0]);
  const FileDescriptor writing_end(ends[1]);
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ < 0) throw system_error(fmt::format("cannot start the process of rank {}", rank));
  if (process_ == 0) run_child(rank, parent, writing_end.get(), body);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : rank_(other.rank_),
      process_(std::exchange(other.process_, -1)),
      pipe_(std::move(other.pipe_)),
      report_(std::move(other.report_)),
      failure_(std::move(other.failure_)) {}

ChildProcess::~ChildProcess() {
  if (!running()) return;
  kill();
  ::waitpid(process_, nullptr, 0);
}

void ChildProcess::kill() noexcept {
  if (running()) ::kill(process_, SIGKILL);
}

void ChildProcess::read() {
  std::array<char, kMaxReportBytes> part{};
  const ssize_t count = ::read(pipe_.get(), part.data(), part.size());
  if (count > 0) {
    report_.append(part.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    reap();
  }
}

void ChildProcess::reap() {
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
  pipe_.reset();
  if (!report_.empty()) {
    failure_ = RankFailure{rank_, static_cast<ErrorCode>(report_[0]), report_.substr(1)};
  } else if (status != 0) {
    failure_ = RankFailure{rank_, ErrorCode::kPeerLost, describe_status(status)};
  }
}

}  // namespace crossdock::tool
