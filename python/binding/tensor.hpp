// Tensors across the border: whatever Python has (DLPack, numpy, our own) to crossdock::Tensor and back, without a
// copy. All of it requires the GIL.
#pragma once

#include <optional>

#include <nanobind/nanobind.h>

#include <crossdock/tensor.hpp>

namespace crossdock::python {

namespace nb = nanobind;

/// Any object with memory in it: a Tensor, a numpy array (also of the dtypes of ml_dtypes), or what speaks DLPack. What
/// it is becomes known in to_tensor, whose message can name the argument.
class ArrayLike : public nb::object {
 public:
  static constexpr auto Name = nb::detail::const_name("crossdock.typing.ArrayLike");
  ArrayLike(nb::handle source, nb::detail::borrow_t tag) : nb::object(source, tag) {}
  ArrayLike(nb::handle source, nb::detail::steal_t tag) : nb::object(source, tag) {}
  static bool check_(nb::handle) { return true; }
};

/// The memory of `object`, kept alive by it. `name` is the argument's, for messages. What its framework has queued for
/// memory of a device comes before what is queued on `stream` from now on.
/// Throws kInvalidArgument for an object without memory, or of a dtype that crossdock does not know.
[[nodiscard]] Tensor to_tensor(const nb::object& object, const char* name, const Stream& stream = {});

/// The same for what may be None.
[[nodiscard]] inline std::optional<Tensor> to_optional_tensor(const std::optional<ArrayLike>& object, const char* name,
                                                              const Stream& stream = {}) {
  if (!object || object->is_none()) return std::nullopt;
  return to_tensor(*object, name, stream);
}

/// `tensor` with strides in elements, one for each dimension.
[[nodiscard]] Tensor with_strides(const Tensor& tensor, const std::int64_t* strides);

}  // namespace crossdock::python
