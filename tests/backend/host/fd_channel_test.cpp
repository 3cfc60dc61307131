#include "backend/host/fd_channel.hpp"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <functional>

#include "base/error.hpp"

namespace crossdock::host {
namespace {

using std::chrono::milliseconds;

struct FdChannelTest : ::testing::Test {
  Nonce nonce = make_nonce();
  FileDescriptor listener = listen_fd_channel(nonce, 4);
  FileDescriptor sender = connect_fd_channel(nonce);
  FileDescriptor receiver = accept_fd_channel(listener, Deadline(milliseconds(1000)));
};

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  throw std::logic_error("nothing was thrown");
}

TEST_F(FdChannelTest, PassesADescriptorAndWhoSentIt) {
  const FileDescriptor memory(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::write(memory.get(), "goods", 5), 5);
  send_fd(sender, {nonce, 7}, memory.get());
  const ReceivedFd received = receive_fd(receiver, Deadline(milliseconds(1000)));
  EXPECT_EQ(received.message.nonce, nonce);
  EXPECT_EQ(received.message.rank, 7);
  char text[5] = {};
  ASSERT_EQ(::pread(received.fd.get(), text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), "goods");
  EXPECT_EQ(credentials_of(receiver).pid, ::getpid());
  EXPECT_EQ(credentials_of(receiver).uid, ::geteuid());
}

TEST_F(FdChannelTest, SilenceIsATimeout) {
  EXPECT_EQ(code_of([&] { static_cast<void>(receive_fd(receiver, Deadline(milliseconds(20)))); }), ErrorCode::kTimeout);
  EXPECT_EQ(code_of([&] { static_cast<void>(accept_fd_channel(listener, Deadline(milliseconds(20)))); }),
            ErrorCode::kTimeout);
}

TEST_F(FdChannelTest, GarbageIsRefused) {
  for (const std::size_t bytes : {std::size_t{1}, sizeof(FdMessage), std::size_t{4000}}) {
    const std::string garbage(bytes, 'x');
    ASSERT_EQ(::send(sender.get(), garbage.data(), bytes, 0), static_cast<ssize_t>(bytes));
    EXPECT_EQ(code_of([&] { static_cast<void>(receive_fd(receiver, Deadline(milliseconds(1000)))); }),
              ErrorCode::kBootstrap);
  }
}

TEST_F(FdChannelTest, AClosedConnectionIsRefused) {
  sender.reset();
  EXPECT_EQ(code_of([&] { static_cast<void>(receive_fd(receiver, Deadline(milliseconds(1000)))); }),
            ErrorCode::kBootstrap);
}

TEST_F(FdChannelTest, NobodyListensUnderAnotherName) {
  EXPECT_EQ(code_of([&] { static_cast<void>(connect_fd_channel(make_nonce())); }), ErrorCode::kBootstrap);
  listener.reset();
  EXPECT_EQ(code_of([&] { static_cast<void>(connect_fd_channel(nonce)); }), ErrorCode::kBootstrap);
}

}  // namespace
}  // namespace crossdock::host
