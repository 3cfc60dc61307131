// clang-tidy 14 lacks the builtin behind std::source_location, so libstdc++ does not define that class for it.
// scripts/lint.sh includes this stand-in first; compilers never see it.
#pragma once

#include <cstdint>

#if !__has_builtin(__builtin_source_location)
namespace std {  // NOLINT(cert-dcl58-cpp)

class source_location {  // NOLINT(readability-identifier-naming): the standard's name
 public:
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           const char* function = __builtin_FUNCTION(),
                                           uint_least32_t line = __builtin_LINE(),
                                           uint_least32_t column = __builtin_COLUMN()) noexcept {
    source_location result;
    result.file_ = file;
    result.function_ = function;
    result.line_ = line;
    result.column_ = column;
    return result;
  }

  [[nodiscard]] constexpr const char* file_name() const noexcept { return file_; }
  [[nodiscard]] constexpr const char* function_name() const noexcept { return function_; }
  [[nodiscard]] constexpr uint_least32_t line() const noexcept { return line_; }
  [[nodiscard]] constexpr uint_least32_t column() const noexcept { return column_; }

 private:
  const char* file_ = "";
  const char* function_ = "";
  uint_least32_t line_ = 0;
  uint_least32_t column_ = 0;
};

}  // namespace std
#endif
