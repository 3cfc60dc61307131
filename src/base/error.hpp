// Helpers to raise crossdock::Error with formatted text.
#pragma once

#include <cerrno>
#include <source_location>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <crossdock/error.hpp>
#include <crossdock/tensor.hpp>

namespace crossdock {

/// A format string that remembers where it was written.
template <typename... Args>
struct LocatedFormat {
  fmt::format_string<Args...> text;
  std::source_location where;

  template <typename S>
  consteval LocatedFormat(const S& s, std::source_location location = std::source_location::current())  // NOLINT
      : text(s), where(location) {}
};

/// throw make_error(code, "x has {} rows", n)
template <typename... Args>
[[nodiscard]] Error make_error(ErrorCode code, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  return {code, fmt::format(format.text, std::forward<Args>(args)...), format.where};
}

/// Throws kInvalidArgument with the formatted text unless the condition holds. Tensors may be arguments, and are
/// described only if it does not.
template <typename... Args>
void require(bool condition, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    throw Error(ErrorCode::kInvalidArgument, fmt::format(format.text, std::forward<Args>(args)...), format.where);
  }
}

/// kSystem error that keeps errno and appends its text: "mmap of 4096 bytes: Cannot allocate memory".
[[nodiscard]] Error system_error(const std::string& what, int error = errno,
                                 std::source_location where = std::source_location::current());

}  // namespace crossdock

template <>
struct fmt::formatter<crossdock::Tensor> : fmt::formatter<std::string> {
  template <typename Context>
  auto format(const crossdock::Tensor& tensor, Context& context) const {
    return fmt::formatter<std::string>::format(tensor.description(), context);
  }
};
