// Where the files of data/ are.
#pragma once

#include <filesystem>
#include <string>

namespace crossdock::tool {

/// The first that is given or exists: `given` (--data), ../share/crossdock/data beside the executable (an
/// installation), data of the source tree that this program was built from. Throws kSystem, naming all three, if none
/// exists.
[[nodiscard]] std::filesystem::path find_data_directory(const std::string& given);

/// `name` as a path if there is such a file, else the file of that name in the data directory, with or without
/// ".safetensors". Throws kSystem, saying where was looked, if there is none.
[[nodiscard]] std::filesystem::path find_data_file(const std::string& name, const std::string& given_directory);

}  // namespace crossdock::tool
