#include "arguments.hpp"

#include <memory>
#include <sstream>
#include <utility>

namespace crossdock::torch {

namespace {

std::string shape_of(const Allowed& allowed) {
  std::string text = "[";
  for (const Extent& extent : allowed.shape) {
    if (text.size() > 1) text += ", ";
    text += extent.name != nullptr ? std::string(extent.name) : std::to_string(extent.size);
  }
  return text + "]";
}

bool has_shape(const at::Tensor& tensor, const Allowed& allowed) {
  if (tensor.dim() != static_cast<std::int64_t>(allowed.shape.size())) return false;
  std::int64_t dimension = 0;
  for (const Extent& extent : allowed.shape) {
    if (extent.name == nullptr && tensor.size(dimension) != extent.size) return false;
    ++dimension;
  }
  return true;
}

bool has_layout(const at::Tensor& tensor, Layout layout) {
  switch (layout) {
    case Layout::kContiguous: return tensor.is_contiguous();
    case Layout::kContiguousRows: return tensor.is_contiguous() || tensor.stride(-1) == 1 || tensor.size(-1) <= 1;
    case Layout::kAnyStrides: return true;
  }
  return false;
}

std::string description(const at::Tensor& tensor) {
  std::ostringstream text;
  text << c10::toString(tensor.scalar_type()) << ' ' << tensor.sizes() << " on " << tensor.device();
  return text.str();
}

/// What is wrong with the tensor, or nothing.
std::string complaint(const at::Tensor& tensor, const char* name, const Allowed& allowed, at::Device device) {
  const auto allowed_text = [&] {
    return std::string(c10::toString(allowed.dtype)) + " " + shape_of(allowed) + " on " + device.str() + " is allowed";
  };
  if (!tensor.defined()) return std::string(name) + " is undefined, " + allowed_text();
  if (tensor.scalar_type() != allowed.dtype || !has_shape(tensor, allowed) || tensor.device() != device) {
    return std::string(name) + " is " + description(tensor) + ", " + allowed_text();
  }
  if (has_layout(tensor, allowed.layout)) return {};
  std::ostringstream text;
  text << name << " has strides " << tensor.strides() << " for " << tensor.sizes() << ", "
       << (allowed.layout == Layout::kContiguous ? "a contiguous tensor is" : "contiguous rows are") << " allowed";
  return text.str();
}

Tensor with_strides(const Tensor& tensor, at::IntArrayRef strides) {
  switch (strides.size()) {
    case 1: return tensor.with_strides({strides[0]});
    case 2: return tensor.with_strides({strides[0], strides[1]});
    case 3: return tensor.with_strides({strides[0], strides[1], strides[2]});
    default: return tensor;
  }
}

}  // namespace

std::optional<DataType> to_core(at::ScalarType dtype) noexcept {
  switch (dtype) {
    case at::kBool: return DataType::kBool;
    case at::kInt: return DataType::kInt32;
    case at::kLong: return DataType::kInt64;
    case at::kFloat8_e4m3fn: return DataType::kFloat8E4m3;
    case at::kBFloat16: return DataType::kBfloat16;
    case at::kFloat: return DataType::kFloat32;
    default: return std::nullopt;  // torch has many more, and the operations take none of them
  }
}

Device to_core(at::Device device) noexcept {
  if (device.is_cuda()) return {DeviceType::kCuda, device.has_index() ? device.index() : 0};
  return {};
}

void Arguments::expect(bool condition, const std::string& message) {
  if (condition || fault_) return;
  fault_.emplace(ErrorCode::kInvalidArgument, "rank " + std::to_string(rank_) + ": " + operation_ + ": " + message);
  fault_->with_rank(rank_);
}

void Arguments::refuse(Buffer& buffer) const {
  const bool is_low_latency = std::string_view(operation_).starts_with("lowLatency");
  try {
    buffer.refuse(*fault_, is_low_latency ? OperationMode::kLowLatency : OperationMode::kThroughput);
  } catch (const Error&) {  // there is nobody to tell: the buffer is broken or destroyed
  }
  throw *fault_;  // NOLINT: a copy is thrown
}

Tensor Arguments::take(const at::Tensor& tensor, const char* name, const Allowed& allowed) {
  if (std::string wrong = complaint(tensor, name, allowed, device_); !wrong.empty()) {
    expect(false, wrong);
    return {};
  }
  const auto owner = std::make_shared<at::Tensor>(tensor);
  const at::IntArrayRef sizes = tensor.sizes();
  // The library never writes to an input.
  Tensor view = Tensor::own(owner, const_cast<void*>(tensor.const_data_ptr()), *to_core(allowed.dtype),  // NOLINT
                            {sizes.data(), sizes.size()}, to_core(tensor.device()));
  return tensor.is_contiguous() ? view : with_strides(view, tensor.strides());
}

std::optional<Tensor> Arguments::take(const std::optional<at::Tensor>& tensor, const char* name,
                                      const Allowed& allowed) {
  if (!tensor) return std::nullopt;
  return take(*tensor, name, allowed);
}

}  // namespace crossdock::torch
