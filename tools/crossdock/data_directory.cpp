#include "crossdock/data_directory.hpp"

#include "base/error.hpp"

namespace crossdock::tool {

namespace {

namespace fs = std::filesystem;

fs::path installed_directory() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  return program.parent_path().parent_path() / "share" / "crossdock" / "data";
}

}  // namespace

fs::path find_data_directory(const std::string& given) {
  std::error_code ignored;
  if (!given.empty()) {
    if (!fs::is_directory(given, ignored)) throw make_error(ErrorCode::kSystem, "--data {} is not a directory", given);
    return given;
  }
  const fs::path installed = installed_directory();
  const fs::path source = CROSSDOCK_SOURCE_DATA_DIRECTORY;
  for (const auto& candidate : {installed, source}) {
    if (fs::is_directory(candidate, ignored)) return candidate;
  }
  throw make_error(ErrorCode::kSystem, "there is no data directory at {} or {}; say where it is with --data",
                   installed.string(), source.string());
}

fs::path find_data_file(const std::string& name, const std::string& given_directory) {
  std::error_code ignored;
  if (fs::is_regular_file(name, ignored)) return name;
  const fs::path directory = find_data_directory(given_directory);
  for (const auto& candidate : {directory / name, directory / (name + ".safetensors")}) {
    if (fs::is_regular_file(candidate, ignored)) return candidate;
  }
  throw make_error(ErrorCode::kSystem, "there is no file {}, neither here nor in {}", name, directory.string());
}

}  // namespace crossdock::tool
