// How fast this machine moves the rows of a dispatch or a combine when nothing but the rows is to be done: no routing,
// no waiting. GB/s count token-rank payload as `crossdock bench` does: bytes written n times, or bytes read n times.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"
#include "team.hpp"

namespace copy_limit {
namespace {

constexpr std::array<std::size_t, 6> kCounts = {1, 2, 3, 4, 6, 8};
constexpr std::size_t kRegions = 9;  // what is spread, and 8 others

struct Options {
  int processes = std::min(2, usable_cores());
  int rounds = 5;
  std::size_t rows = 4096;
  std::size_t row_bytes = 14336;
  Pages pages = Pages::kSmall;
  std::string json;
  bool all = false;
};

struct Measured {
  const Kernel* kernel;
  std::size_t count;
  double gb_per_s;
};

void usage() {
  std::puts(
      "copy_limit [--processes N] [--rounds N] [--rows N] [--row-bytes N] [--pages small|huge] [--all] [--json FILE]\n"
      "Measures the same-traffic copy limit. Rows are multiples of 64 bytes. --all prints every kernel, not the best.");
}

std::size_t positive(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
  if (value == 0 || *end != '\0') throw std::invalid_argument(flag + " takes a positive number, not '" + text + "'");
  return value;
}

/// Empty if only help was wanted.
std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help") return std::nullopt;
    if (flag == "--all") {
      options.all = true;
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument(flag + " is unknown or lacks its value; see --help");
    const std::string value = argv[++i];
    if (flag == "--processes")
      options.processes = static_cast<int>(positive(flag, value));
    else if (flag == "--rounds")
      options.rounds = static_cast<int>(positive(flag, value));
    else if (flag == "--rows")
      options.rows = positive(flag, value);
    else if (flag == "--row-bytes")
      options.row_bytes = positive(flag, value);
    else if (flag == "--json")
      options.json = value;
    else if (flag == "--pages" && (value == "small" || value == "huge"))
      options.pages = value == "huge" ? Pages::kHuge : Pages::kSmall;
    else
      throw std::invalid_argument(flag + " " + value + " is not understood; see --help");
  }
  if (options.row_bytes % 64 != 0) throw std::invalid_argument("--row-bytes must be a multiple of 64");
  return options;
}

/// The regions of one process, each with a spare row: prefetches may run past the last one.
std::vector<std::byte*> regions_of(std::span<std::byte> memory, const Options& options, int process) {
  const std::size_t bytes = (options.rows + 1) * options.row_bytes;
  std::vector<std::byte*> regions;
  for (std::size_t r = 0; r < kRegions; ++r) {
    regions.push_back(memory.data() + (static_cast<std::size_t>(process) * kRegions + r) * bytes);
  }
  return regions;
}

std::vector<Measured> measure(const Options& options, std::span<std::byte> memory) {
  std::vector<std::vector<std::byte*>> regions;
  for (int p = 0; p < options.processes; ++p) regions.push_back(regions_of(memory, options, p));
  std::vector<Measured> measured;
  std::vector<Trial> trials;
  for (const Kernel& kernel : kernels()) {
    for (const std::size_t count : kCounts) {
      if (kernel.direction == Direction::kMemcpy && count > 1) continue;
      measured.push_back({&kernel, count, 0});
      trials.push_back({[&options, &regions, &kernel, count](int process) {
        const auto& own = regions[static_cast<std::size_t>(process)];
        kernel.run({own[0], own.data() + 1, count, options.rows, options.row_bytes});
      }});
    }
  }
  run_trials(options.processes, options.rounds, trials);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const auto rows = static_cast<double>(static_cast<std::size_t>(options.processes) * options.rows);
    const double bytes = rows * static_cast<double>(options.row_bytes * measured[i].count);
    measured[i].gb_per_s = bytes / trials[i].best_us / 1e3;
  }
  return measured;
}

std::vector<Measured> best_of(const std::vector<Measured>& all, Direction direction) {
  std::map<std::size_t, Measured> best;
  for (const Measured& one : all) {
    if (one.kernel->direction != direction) continue;
    const auto [place, fresh] = best.try_emplace(one.count, one);
    if (!fresh && one.gb_per_s > place->second.gb_per_s) place->second = one;
  }
  std::vector<Measured> result;
  for (const auto& [count, one] : best) result.push_back(one);
  return result;
}

void print_lines(const char* title, const std::vector<Measured>& lines) {
  for (const Measured& one : lines) {
    std::printf("%-10s n=%zu  %6.1f GB/s  %s\n", title, one.count, one.gb_per_s, one.kernel->name.data());
  }
}

void write_direction(std::FILE* file, const char* name, const std::vector<Measured>& lines) {
  std::fprintf(file, ",\"%s\":{", name);
  const char* separator = "";
  for (const Measured& one : lines) {
    std::fprintf(file, "%s\"%zu\":{\"gb_per_s\":%.3f,\"kernel\":\"%s\"}", separator, one.count, one.gb_per_s,
                 one.kernel->name.data());
    separator = ",";
  }
  std::fputs("}", file);
}

void write_json(const Options& options, const std::vector<Measured>& all) {
  std::FILE* file = std::fopen(options.json.c_str(), "w");
  if (file == nullptr) throw std::invalid_argument("cannot write " + options.json);
  std::fprintf(file, "{\"schema\":1,\"processes\":%d,\"rows\":%zu,\"row_bytes\":%zu,\"pages\":\"%s\"",
               options.processes, options.rows, options.row_bytes, options.pages == Pages::kHuge ? "huge" : "small");
  write_direction(file, "memcpy", best_of(all, Direction::kMemcpy));
  write_direction(file, "dispatch", best_of(all, Direction::kSpread));
  write_direction(file, "combine", best_of(all, Direction::kReduce));
  std::fputs("}\n", file);
  std::fclose(file);
}

int run(const Options& options) {
  const std::size_t bytes =
      static_cast<std::size_t>(options.processes) * kRegions * (options.rows + 1) * options.row_bytes;
  const auto memory = shared_memory(bytes, options.pages);
  if (memory.empty()) {
    std::fputs("huge pages for shared memory are refused here: they need CAP_SYS_ADMIN and fsopen\n", stderr);
    return 3;
  }
  const auto all = measure(options, memory);
  const std::pair<const char*, Direction> directions[] = {
      {"memcpy", Direction::kMemcpy}, {"dispatch", Direction::kSpread}, {"combine", Direction::kReduce}};
  for (const auto& [title, direction] : directions) {
    std::vector<Measured> every;
    std::copy_if(all.begin(), all.end(), std::back_inserter(every),
                 [wanted = direction](const Measured& one) { return one.kernel->direction == wanted; });
    print_lines(title, options.all ? every : best_of(all, direction));
  }
  if (!options.json.empty()) write_json(options, all);
  return 0;
}

}  // namespace
}  // namespace copy_limit

int main(int argc, char** argv) {
  try {
    const auto options = copy_limit::parse(argc, argv);
    if (options) return copy_limit::run(*options);
    copy_limit::usage();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "copy_limit: %s\n", error.what());
    return 2;
  }
}
