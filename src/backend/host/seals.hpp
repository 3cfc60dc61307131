// Words that two sides may want to settle: their rank by giving a signal, the others by giving it up.
#pragma once

#include <atomic>
#include <cstdint>

namespace crossdock::host {

/// Gives a signal unless the others have sealed the word for it. Release and acquire.
[[nodiscard]] bool try_signal(std::atomic<std::uint64_t>& word, std::uint64_t signal) noexcept;
/// Sealed with this word, or the signal that was given before; either is what everybody sees from now on.
[[nodiscard]] std::uint64_t seal(std::atomic<std::uint64_t>& word, std::uint64_t required,
                                 std::uint64_t sealed) noexcept;
/// For `retired`, whose seal keeps the epoch that was reached.
[[nodiscard]] std::uint64_t seal_retired(std::atomic<std::uint64_t>& word, std::uint64_t required) noexcept;
/// The word's own rank says that it has stopped, and seals it if no one else did. Nothing happens to a signal given.
void stop(std::atomic<std::uint64_t>& word, std::uint64_t signal) noexcept;

}  // namespace crossdock::host
