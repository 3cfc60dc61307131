// Torch tensors on their way in: checked, and wrapped without a copy.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include <crossdock/error.hpp>
#include <crossdock/tensor.hpp>

namespace crossdock::torch {

/// One dimension of an allowed shape: a number, or a name if any number is allowed.
struct Extent {
  Extent(const char* any_number) : name(any_number) {}  // NOLINT: reads better at the call
  Extent(std::int64_t number) : size(number) {}         // NOLINT: as above
  const char* name = nullptr;
  std::int64_t size = -1;
};

enum class Layout : std::uint8_t { kContiguous, kContiguousRows, kAnyStrides };

/// What a tensor may be.
struct Allowed {
  at::ScalarType dtype;
  std::initializer_list<Extent> shape;
  Layout layout = Layout::kContiguous;
};

/// The arguments of one call. A bad one is remembered and replaced by no tensor at all, which the library refuses by
/// the argument's name: so the call takes place, and the other ranks, which wait in it, hear of it at once.
class Arguments {
 public:
  Arguments(const char* operation, int rank, at::Device device) : operation_(operation), rank_(rank), device_(device) {}

  /// The memory of the tensor, which it keeps alive.
  [[nodiscard]] Tensor take(const at::Tensor& tensor, const char* name, const Allowed& allowed);
  [[nodiscard]] std::optional<Tensor> take(const std::optional<at::Tensor>& tensor, const char* name,
                                           const Allowed& allowed);
  /// Remembers the message unless the condition holds; only the first message of a call counts.
  void expect(bool condition, const std::string& message);
  [[nodiscard]] bool good() const noexcept { return !fault_.has_value(); }
  void throw_if_bad() const {
    if (fault_) throw *fault_;  // NOLINT: a copy is thrown
  }

  /// Calls the operation, which is sure to refuse what is bad, and throws what was bad.
  template <class Operation>
  auto run(Operation operation) const {
    if (good()) return operation();
    try {
      static_cast<void>(operation());
    } catch (const Error&) {  // in the library's words; the caller gets ours
    }
    throw *fault_;  // NOLINT: a copy is thrown
  }

 private:
  const char* operation_;
  int rank_;
  at::Device device_;
  std::optional<Error> fault_;
};

/// A tensor's dtype as the library names it. Nothing for dtypes that it does not know.
[[nodiscard]] std::optional<DataType> to_core(at::ScalarType dtype) noexcept;
[[nodiscard]] Device to_core(at::Device device) noexcept;

}  // namespace crossdock::torch
