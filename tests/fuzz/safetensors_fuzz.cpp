// The safetensors reader on arbitrary bytes: it either refuses them with kFormat or gives views that lie inside.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "crossdock/safetensors.hpp"

namespace {

using crossdock::tool::SafetensorsView;

/// Ends the program, which is how a fuzz target reports, unless the condition holds.
void expect(bool condition) {
  if (!condition) std::abort();
}

void check_views(std::span<const std::byte> file, const SafetensorsView& view) {
  for (const auto& [name, entry] : view.entries()) {
    expect(entry.bytes.data() >= file.data() && entry.bytes.data() + entry.bytes.size() <= file.data() + file.size());
    std::size_t elements = 1;
    for (const auto extent : entry.shape) elements *= static_cast<std::size_t>(extent);
    expect(elements * size_of(entry.type) == entry.bytes.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    check_views(file, SafetensorsView::parse(file, "fuzz"));
  } catch (const crossdock::Error& error) {
    expect(error.code() == crossdock::ErrorCode::kFormat);
  }
  return 0;
}
