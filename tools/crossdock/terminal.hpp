// What the output can show, and how numbers look to people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace crossdock::tool {

enum class ColourChoice : unsigned char { kAuto, kAlways, kNever };

/// Colours, or nothing where there are none.
class Terminal {
 public:
  /// Standard output: colours if it is a terminal (kAuto); its width, or 100 columns.
  static Terminal of_output(ColourChoice choice);
  Terminal(bool colour, int columns) noexcept : colour_(colour), columns_(columns) {}

  [[nodiscard]] bool colour() const noexcept { return colour_; }
  [[nodiscard]] int columns() const noexcept { return columns_; }

  [[nodiscard]] std::string bold(std::string_view text) const { return paint("1", text); }
  [[nodiscard]] std::string dim(std::string_view text) const { return paint("2", text); }
  [[nodiscard]] std::string red(std::string_view text) const { return paint("31", text); }
  [[nodiscard]] std::string green(std::string_view text) const { return paint("32", text); }
  [[nodiscard]] std::string yellow(std::string_view text) const { return paint("33", text); }
  /// Text on a background between dark and bright, for 0 <= share <= 1.
  [[nodiscard]] std::string heat(double share, std::string_view text) const;

 private:
  [[nodiscard]] std::string paint(std::string_view code, std::string_view text) const;

  bool colour_;
  int columns_;
};

/// One line on standard error that overwrites itself; silent if that is no terminal.
class ProgressLine {
 public:
  ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { clear(); }

  void show(std::string_view text);
  void clear();

 private:
  bool active_;
  bool shown_ = false;
};

/// " ", "░", "▒", "▓" or "█".
[[nodiscard]] std::string_view shade(double share);

/// "812 us", "61.8 ms", "2.50 s".
[[nodiscard]] std::string format_duration(double microseconds);

/// "812 B", "61.8 MB", "2.49 GB" (powers of ten).
[[nodiscard]] std::string format_bytes(std::int64_t bytes);

}  // namespace crossdock::tool
