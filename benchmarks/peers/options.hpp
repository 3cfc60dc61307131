// What one run does, as given on the command line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "memory.hpp"

namespace peers {

enum class Mode { kNormal, kLowLatency };

/// The expert is the identity: it leaves the received rows where they are, or copies them to memory of its own.
enum class Expert { kInPlace, kCopy };

struct Options {
  Mode mode = Mode::kNormal;
  Expert expert = Expert::kInPlace;
  std::size_t tokens = 4096;  // of each rank
  std::size_t hidden = 7168;  // bfloat16 of a row; a multiple of 32
  std::size_t topk = 8;
  std::size_t experts = 256;
  std::string routing = "uniform";  // or a file of int16 [ranks, tokens, topk]
  int iterations = 20;
  int loop = 0;  // round trips of dispatch, expert and combine in each of ten blocks; 0: none
  std::uint64_t seed = 1;
  bool direct_self = false;
  Pages pages = Pages::kHuge;  // of private buffers; windows are MPI's
  std::string json;
  bool help = false;

  [[nodiscard]] std::size_t row_bytes() const { return hidden * 2; }
};

/// Throws std::invalid_argument saying what is allowed.
[[nodiscard]] Options parse_options(int argc, char** argv);

[[nodiscard]] const char* usage();

}  // namespace peers
