#include "options.hpp"

#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>

namespace peers {
namespace {

std::size_t number(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') throw std::invalid_argument(flag + " takes a number, not '" + text + "'");
  return value;
}

using Setters = std::map<std::string, std::function<void(const std::string& flag, const std::string& value)>>;

Setters setters_of(Options& options) {
  return {
      {"--tokens", [&](auto& flag, auto& value) { options.tokens = number(flag, value); }},
      {"--hidden", [&](auto& flag, auto& value) { options.hidden = number(flag, value); }},
      {"--topk", [&](auto& flag, auto& value) { options.topk = number(flag, value); }},
      {"--experts", [&](auto& flag, auto& value) { options.experts = number(flag, value); }},
      {"--iterations", [&](auto& flag, auto& value) { options.iterations = static_cast<int>(number(flag, value)); }},
      {"--loop", [&](auto& flag, auto& value) { options.loop = static_cast<int>(number(flag, value)); }},
      {"--seed", [&](auto& flag, auto& value) { options.seed = number(flag, value); }},
      {"--routing", [&](auto&, auto& value) { options.routing = value; }},
      {"--json", [&](auto&, auto& value) { options.json = value; }},
      {"--pages",
       [&](auto&, auto& value) {
         if (value != "small" && value != "huge") throw std::invalid_argument("--pages is small or huge");
         options.pages = value == "huge" ? Pages::kHuge : Pages::kSmall;
       }},
      {"--mode",
       [](auto&, auto& value) {
         if (value != "normal") throw std::invalid_argument("--mode is normal, not '" + value + "'");
       }},
  };
}

void check(const Options& options) {
  if (options.hidden == 0 || options.hidden % 32 != 0) {
    throw std::invalid_argument("--hidden must be a positive multiple of 32");
  }
  if (options.topk == 0 || options.topk > options.experts) {
    throw std::invalid_argument("--topk must lie between 1 and the number of experts");
  }
  if (options.experts > 32767) throw std::invalid_argument("--experts is at most 32767");
  if (options.iterations < 1) throw std::invalid_argument("--iterations must be at least 1");
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  const Setters setters = setters_of(options);
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help") {
      options.help = true;
    } else if (flag == "--direct-self") {
      options.direct_self = true;
    } else {
      const auto setter = setters.find(flag);
      if (setter == setters.end()) throw std::invalid_argument("unknown flag " + flag + "; see --help");
      if (i + 1 == argc) throw std::invalid_argument(flag + " needs a value");
      setter->second(flag, argv[++i]);
    }
  }
  check(options);
  return options;
}

const char* usage() {
  return "mpirun -n RANKS mpi_peer [--tokens T] [--hidden H] [--topk K] [--experts E] [--routing uniform|FILE]\n"
         "         [--iterations N] [--loop N] [--seed N] [--mode normal] [--pages small|huge]\n"
         "         [--direct-self] [--json FILE]\n"
         "FILE holds int16 expert ids [ranks, T, K], -1 for none. --loop also times N round trips of dispatch,\n"
         "identity expert and combine, without a barrier between them. --direct-self adds a variant of alltoallv\n"
         "that keeps the rows which a rank sends to itself out of MPI.\n";
}

}  // namespace peers
