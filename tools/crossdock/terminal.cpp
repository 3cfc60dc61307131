#include "crossdock/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

namespace crossdock::tool {

namespace {

constexpr int kDefaultColumns = 100;

int columns_of_output() {
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;  // NOLINT(cppcoreguidelines-pro-type-vararg)
  return known && size.ws_col > 0 ? size.ws_col : kDefaultColumns;
}

/// Three significant digits.
std::string three_digits(double value, std::string_view unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, unit);
}

}  // namespace

Terminal Terminal::of_output(ColourChoice choice) {
  const bool colour =
      choice == ColourChoice::kAlways || (choice == ColourChoice::kAuto && ::isatty(STDOUT_FILENO) == 1);
  return {colour, columns_of_output()};
}

std::string Terminal::paint(std::string_view code, std::string_view text) const {
  return colour_ ? fmt::format("\033[{}m{}\033[0m", code, text) : std::string(text);
}

std::string Terminal::heat(double share, std::string_view text) const {
  // Colours of the 256-colour table from dark blue over violet to yellow.
  constexpr std::array<int, 9> kBackgrounds{17, 18, 54, 90, 126, 162, 203, 209, 220};
  constexpr std::size_t kFirstBright = 6;
  const double clamped = std::clamp(share, 0.0, 1.0);
  const auto level = static_cast<std::size_t>(std::lround(clamped * static_cast<double>(kBackgrounds.size() - 1)));
  return paint(fmt::format("38;5;{};48;5;{}", level >= kFirstBright ? 16 : 255, kBackgrounds[level]), text);
}

ProgressLine::ProgressLine() : active_(::isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(std::string_view text) {
  if (!active_) return;
  fmt::print(stderr, "\r\033[K{}", text);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

std::string_view shade(double share) {
  constexpr std::array<std::string_view, 5> kShades{" ", "░", "▒", "▓", "█"};
  if (share <= 0) return kShades[0];
  const auto level = static_cast<std::size_t>(std::ceil(std::min(share, 1.0) * 4));
  return kShades[std::clamp<std::size_t>(level, 1, 4)];
}

std::string format_duration(double microseconds) {
  if (microseconds < 999.5) return three_digits(microseconds, "us");
  if (microseconds < 999.5e3) return three_digits(microseconds / 1e3, "ms");
  return three_digits(microseconds / 1e6, "s");
}

std::string format_bytes(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e3) return fmt::format("{} B", bytes);
  if (value < 999.5e3) return three_digits(value / 1e3, "KB");
  if (value < 999.5e6) return three_digits(value / 1e6, "MB");
  return three_digits(value / 1e9, "GB");
}

}  // namespace crossdock::tool
