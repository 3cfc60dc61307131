// Torch tensors on their way in: checked, and wrapped without a copy.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include <crossdock/buffer.hpp>
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

/// The arguments of one call. A bad one is remembered and replaced by no tensor at all. The call then takes place as a
/// refusal, so that the other ranks, which wait in it, hear at once what is wrong.
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

  /// Calls the operation; or tells the other ranks what was bad, and throws it.
  template <class Operation>
  auto run(Buffer& buffer, Operation operation) const {
    if (!good()) refuse(buffer);
    return operation();
  }

 private:
  [[noreturn]] void refuse(Buffer& buffer) const;

  const char* operation_;
  int rank_;
  at::Device device_;
  std::optional<Error> fault_;
};

/// A tensor's dtype as the library names it. Nothing for dtypes that it does not know.
[[nodiscard]] std::optional<DataType> to_core(at::ScalarType dtype) noexcept;
[[nodiscard]] Device to_core(at::Device device) noexcept;

}  // namespace crossdock::torch
