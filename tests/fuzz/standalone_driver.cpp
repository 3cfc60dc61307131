// Runs a fuzz target without libFuzzer: on random bytes and on mutations of seed files, for a number of seconds.
// Usage: TARGET [--seconds N] [--seed N] [FILE or DIRECTORY]...
// An input on which the target ends the program is left in a file of the working directory, whose name was printed.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kLongestRandomInput = 512;
constexpr const char* kCrashFile = "fuzz-crash.bin";

/// What the signal handler writes. A signal handler can have nothing but globals.
const Input* current = nullptr;

extern "C" void save_input(int signal) {
  const int file = ::open(kCrashFile, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0 && current != nullptr) static_cast<void>(!::write(file, current->data(), current->size()));
  std::signal(signal, SIG_DFL);
  static_cast<void>(std::raise(signal));
}

class Mutator {
 public:
  Mutator(unsigned seed, std::vector<Input> corpus) : random_(seed), corpus_(std::move(corpus)) {}

  Input next() {
    if (corpus_.empty() || below(4) == 0) return random_input();
    Input result = corpus_[below(corpus_.size())];
    for (std::size_t count = below(8) + 1; count > 0; --count) mutate(result);
    return result;
  }

 private:
  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }

  std::uint8_t byte() {
    // Limits and small numbers are where parsers err.
    constexpr std::uint8_t kInteresting[] = {0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF};
    return below(3) == 0 ? kInteresting[below(std::size(kInteresting))] : static_cast<std::uint8_t>(below(256));
  }

  Input random_input() {
    Input result(below(kLongestRandomInput));
    for (std::uint8_t& value : result) value = byte();
    return result;
  }

  void mutate(Input& input) {
    const auto at = [&] { return input.begin() + static_cast<std::ptrdiff_t>(below(input.size() + 1)); };
    const std::size_t kind = input.empty() ? 0 : below(4);
    if (kind == 0) input.insert(at(), byte());
    if (kind == 1) input[below(input.size())] = byte();
    if (kind == 2) input[below(input.size())] ^= static_cast<std::uint8_t>(1U << below(8));
    if (kind == 3) input.erase(at(), input.end());
  }

  std::mt19937_64 random_;
  std::vector<Input> corpus_;
};

struct Options {
  double seconds = 3;
  unsigned seed = std::random_device{}();
  std::vector<Input> corpus;
};

Input read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);  // NOLINT(concurrency-mt-unsafe)
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Options parse(std::span<char*> arguments) {
  Options result;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const bool has_value = i + 1 < arguments.size();
    if (argument == "--seconds" && has_value) {
      result.seconds = std::stod(arguments[++i]);
    } else if (argument == "--seed" && has_value) {
      result.seed = static_cast<unsigned>(std::stoul(arguments[++i]));
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) {
        result.corpus.push_back(read_file(entry.path()));
      }
    } else {
      result.corpus.push_back(read_file(std::string(argument)));
    }
  }
  return result;
}

void run(const Input& input) {
  current = &input;
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse({argv, static_cast<std::size_t>(argc)});
  std::printf("seed %u; a failing input goes to %s\n", options.seed, kCrashFile);
  std::fflush(stdout);
  std::signal(SIGABRT, &save_input);
  std::signal(SIGSEGV, &save_input);
  for (const Input& input : options.corpus) run(input);
  Mutator mutator(options.seed, options.corpus);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds);
  std::uint64_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) run(mutator.next());
  std::printf("%llu inputs\n", static_cast<unsigned long long>(count));
  return count > 0 ? 0 : 1;
}
