// crossdock doctor: what works on this machine, and why not.
#include <algorithm>
#include <iostream>
#include <memory>

#include <fmt/format.h>

#include "crossdock/command.hpp"
#include "crossdock/doctor_checks.hpp"
#include "crossdock/machine.hpp"
#include "crossdock/self_test.hpp"

namespace crossdock::tool {

namespace {

struct DoctorCommand {
  int num_ranks = 8;
  std::uint64_t seed = 1;
  ColourChoice colour = ColourChoice::kAuto;
};

std::string mark_of(Health health, const Terminal& terminal) {
  switch (health) {
    case Health::kOk: return terminal.green("ok  ");
    case Health::kNote: return terminal.yellow("note");
    case Health::kNo: return terminal.red("no  ");
  }
  return "?   ";
}

void show(const Finding& finding, const Terminal& terminal) {
  std::cout << fmt::format("  {}  {:<15}{}\n", mark_of(finding.health, terminal), finding.subject, finding.text)
            << std::flush;
}

Finding check_by_running(std::uint64_t seed) {
  const SelfTestResult result = run_self_test(seed);
  return {result.passed ? Health::kOk : Health::kNo, "self-test", result.text};
}

int run_doctor(const DoctorCommand& command) {
  const Terminal terminal = Terminal::of_output(command.colour);
  const Machine machine = describe_machine();
  std::cout << fmt::format("{}  {}, {}\n\n", terminal.bold("This machine"), machine.cpu, machine.kernel);
  auto findings = check_machine(command.num_ranks);
  for (const auto& finding : findings) show(finding, terminal);
  findings.push_back(check_by_running(command.seed));
  show(findings.back(), terminal);
  const bool works = std::none_of(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return finding.health == Health::kNo; });
  std::cout << "\n"
            << (works ? terminal.green("The host backend works here.")
                      : terminal.red("The host backend does not work here."))
            << "\n";
  return works ? kExitGood : kExitFailed;
}

}  // namespace

void add_doctor_command(CLI::App& app, Action& chosen) {
  auto* command = app.add_subcommand("doctor", "Say what works on this machine and why not");
  auto state = std::make_shared<DoctorCommand>();
  command->add_option("--ranks", state->num_ranks, "Ranks that you want to run")
      ->check(in_range(1, kMaxRanks))
      ->capture_default_str();
  command->add_option("--seed", state->seed, "Of the self-test")->capture_default_str();
  add_colour_option(*command, state->colour);
  command->footer(
      "Ends with a self-test of about a second. Exit code 0: the default backend works; 1: it does not.\n\n"
      "Examples:\n"
      "  crossdock doctor\n"
      "  crossdock doctor --ranks 2");
  command->callback([state, &chosen] { chosen = [state] { return run_doctor(*state); }; });
}

}  // namespace crossdock::tool
