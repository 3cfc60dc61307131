// Running the built command line from tests.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace crossdock::tool {

struct ProgramResult {
  int exit_code = -1;  ///< -1 if a signal ended it
  std::string output;  ///< standard output and standard error
};

/// `arguments` go through the shell.
inline ProgramResult run_program(const std::string& arguments, const std::string& program = CROSSDOCK_PROGRAM) {
  const std::string command = "'" + program + "' " + arguments + " 2>&1";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  ProgramResult result;
  std::array<char, 4096> part{};
  while (const auto count = std::fread(part.data(), 1, part.size(), pipe)) result.output.append(part.data(), count);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  return result;
}

}  // namespace crossdock::tool
