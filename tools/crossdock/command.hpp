// What the subcommands have in common.
#pragma once

#include <functional>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "crossdock/terminal.hpp"

namespace crossdock::tool {

inline constexpr int kExitGood = 0;
inline constexpr int kExitFailed = 1;  ///< a check failed, or an error happened
inline constexpr int kExitUsage = 2;   ///< the command line makes no sense

inline constexpr int kMaxRanks = 64;

/// The function of the subcommand that was chosen; returns the exit code. Throws Error.
using Action = std::function<int()>;

/// Each adds a subcommand that sets `chosen` when it is on the command line.
void add_demo_command(CLI::App& app, Action& chosen);
void add_bench_command(CLI::App& app, Action& chosen);
void add_doctor_command(CLI::App& app, Action& chosen);

/// --color auto|always|never
void add_colour_option(CLI::App& command, ColourChoice& colour);
/// --data DIR
void add_data_option(CLI::App& command, std::string& directory);

/// A number from `low` to `high`, and a message that says so.
template <typename T>
CLI::Validator in_range(T low, T high) {
  const std::string range = std::to_string(low) + " to " + std::to_string(high);
  auto check = [inside = CLI::Range(low, high), range](const std::string& text) {
    return inside(text).empty() ? std::string() : "'" + text + "' is not a number from " + range;
  };
  return {check, range, "range"};
}

/// An option whose value is one of the words of a table.
template <typename T>
CLI::Option* add_choice(CLI::App& command, const std::string& flag, T& value, const std::map<std::string, T>& choices,
                        const std::string& help) {
  std::string words;
  std::string initial;
  for (const auto& [word, meaning] : choices) {
    words += (words.empty() ? "" : "|") + word;
    if (meaning == value) initial = word;
  }
  auto check = [choices, words](const std::string& word) {
    return choices.count(word) == 1 ? std::string() : "'" + word + "' is not one of " + words;
  };
  auto take = [&value, choices](const std::string& word) { value = choices.at(word); };
  return command.add_option_function<std::string>(flag, take, help)
      ->check(CLI::Validator(check, "", "choice"))
      ->type_name(words)
      ->default_str(initial);
}

}  // namespace crossdock::tool
