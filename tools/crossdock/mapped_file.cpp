#include "crossdock/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/error.hpp"
#include "base/file_descriptor.hpp"

namespace crossdock::tool {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));  // NOLINT(cppcoreguidelines-pro-type-vararg)
  if (!file.valid()) throw system_error(fmt::format("cannot open {}", path.string()));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw system_error(fmt::format("cannot look at {}", path.string()));
  if (!S_ISREG(status.st_mode)) throw make_error(ErrorCode::kSystem, "{} is not a regular file", path.string());
  if (status.st_size == 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) throw system_error(fmt::format("cannot map {}", path.string()));
  bytes_ = {static_cast<const std::byte*>(memory), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());  // NOLINT: munmap takes void*
}

}  // namespace crossdock::tool
