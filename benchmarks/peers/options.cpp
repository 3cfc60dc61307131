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

template <typename Value>
Value choice(const std::string& flag, const std::string& text, const char* first_name, Value first,
             const char* second_name, Value second) {
  if (text == first_name) return first;
  if (text == second_name) return second;
  throw std::invalid_argument(flag + " is " + first_name + " or " + second_name + ", not '" + text + "'");
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
       [&](auto& flag, auto& value) {
         options.pages = choice(flag, value, "small", Pages::kSmall, "huge", Pages::kHuge);
       }},
      {"--mode",
       [&](auto& flag, auto& value) {
         options.mode = choice(flag, value, "normal", Mode::kNormal, "low-latency", Mode::kLowLatency);
       }},
      {"--expert",
       [&](auto& flag, auto& value) {
         options.expert = choice(flag, value, "inplace", Expert::kInPlace, "copy", Expert::kCopy);
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
  if (options.direct_self && options.mode == Mode::kLowLatency) {
    throw std::invalid_argument("--direct-self goes with --mode normal only");
  }
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
         "         [--iterations N] [--loop N] [--seed N] [--mode normal|low-latency]\n"
         "         [--expert inplace|copy] [--pages small|huge] [--direct-self] [--json FILE]\n"
         "FILE holds int16 expert ids [ranks, T, K], -1 for none. --loop also times ten blocks of N round trips of\n"
         "dispatch, identity expert and combine, without a barrier between them. The expert leaves the received rows\n"
         "where they are, or copies them. --direct-self adds a variant of alltoallv that keeps the rows which a rank\n"
         "sends to itself out of MPI. In low-latency mode rows are packed for each expert and combine weights them;\n"
         "alltoallv_throughput then is the alltoallv of normal mode.\n";
}

}  // namespace peers
