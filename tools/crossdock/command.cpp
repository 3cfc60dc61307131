#include "crossdock/command.hpp"

namespace crossdock::tool {

void add_colour_option(CLI::App& command, ColourChoice& colour) {
  add_choice<ColourChoice>(
      command, "--color", colour,
      {{"auto", ColourChoice::kAuto}, {"always", ColourChoice::kAlways}, {"never", ColourChoice::kNever}},
      "Colours in the output; auto: on a terminal");
}

void add_data_option(CLI::App& command, std::string& directory) {
  command.add_option("--data", directory, "Directory of moe_layer.safetensors and the traces")->type_name("DIR");
}

}  // namespace crossdock::tool
