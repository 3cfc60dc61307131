// The crossdock command.
#include <cstdio>
#include <exception>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <crossdock/error.hpp>
#include <crossdock/version.hpp>

#include "crossdock/command.hpp"

namespace {

using namespace crossdock::tool;

/// The subcommand on the command line, or the program itself.
const CLI::App& chosen_app(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

std::string list_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options()) names.push_back(option->get_name());
  return fmt::format("{}", fmt::join(names, " "));
}

std::string list_commands(CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return fmt::format("{}", fmt::join(names, " "));
}

int report_usage_error(CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = chosen_app(app);
  const bool whole_program = &command == &app;
  std::string name = whole_program ? "crossdock" : "crossdock " + command.get_name();
  fmt::print(stderr, "crossdock: {}\n", error.what());
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr || whole_program) {
    fmt::print(stderr, "  allowed: {}\n", whole_program ? list_commands(app) : list_options(command));
  }
  fmt::print(stderr, "  more: {} --help\n", name);
  return kExitUsage;
}

int exit_code_of(crossdock::ErrorCode code) {
  const bool usage = code == crossdock::ErrorCode::kInvalidArgument || code == crossdock::ErrorCode::kUnsupported;
  return usage ? kExitUsage : kExitFailed;
}

int run(int argc, char** argv) {
  CLI::App app("Dispatch and combine for mixture-of-experts models.", "crossdock");
  app.set_version_flag("--version", fmt::format("crossdock {}", crossdock::version()));
  app.require_subcommand(1);
  app.footer(
      "Exit code: 0 good, 1 a check failed, 2 the command line makes no sense.\n\nExamples:\n  crossdock demo\n"
      "  crossdock doctor --ranks 8\n  crossdock bench --ranks 2 --tokens 4096 --hidden 7168");
  Action chosen;
  add_demo_command(app, chosen);
  add_bench_command(app, chosen);
  add_doctor_command(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return report_usage_error(app, error);
  }
  return chosen();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const crossdock::Error& error) {
    fmt::print(stderr, "crossdock: {}\n", error.what());
    return exit_code_of(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "crossdock: {}\n", error.what());
    return kExitFailed;
  }
}
