#include "crossdock/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

namespace crossdock::tool {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxDimensions = 16;

constexpr std::array<std::pair<std::string_view, SafetensorsType>, 10> kTypes{{
    {"BOOL", SafetensorsType::kBool},
    {"U8", SafetensorsType::kU8},
    {"I8", SafetensorsType::kI8},
    {"I16", SafetensorsType::kI16},
    {"I32", SafetensorsType::kI32},
    {"I64", SafetensorsType::kI64},
    {"F16", SafetensorsType::kF16},
    {"BF16", SafetensorsType::kBf16},
    {"F32", SafetensorsType::kF32},
    {"F64", SafetensorsType::kF64},
}};

/// Text from a file, safe for a terminal and not endless.
std::string quoted(const std::string& text) {
  constexpr std::size_t kMaxShown = 80;
  const auto json = Json(text.substr(0, kMaxShown)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > kMaxShown ? json + "..." : json;
}

/// Refuses duplicate keys, and nesting that the format does not have, while the text is parsed.
class StructureCheck {
 public:
  explicit StructureCheck(const std::string& source) : source_(source) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& value) {
    constexpr int kDeepestStart = 2;  // header > tensor > shape
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      if (depth > kDeepestStart) throw make_error(ErrorCode::kFormat, "{}: header is nested too deeply", source_);
      keys_.resize(static_cast<std::size_t>(depth) + 1);
      keys_.back().clear();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_.at(static_cast<std::size_t>(depth) - 1).insert(key).second) {
        throw make_error(ErrorCode::kFormat, "{}: header has the key {} twice", source_, quoted(key));
      }
      keys_.resize(static_cast<std::size_t>(depth));
    }
    return true;
  }

 private:
  const std::string& source_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open, outermost first
};

Json parse_object(std::string_view text, const std::string& source) {
  StructureCheck check(source);
  Json json;
  try {
    json = Json::parse(
        text, [&check](int depth, Json::parse_event_t event, const Json& value) { return check(depth, event, value); });
  } catch (const Json::parse_error& error) {
    throw make_error(ErrorCode::kFormat, "{}: header is not JSON (byte {} of {})", source, error.byte, text.size());
  } catch (const Json::exception&) {
    throw make_error(ErrorCode::kFormat, "{}: header holds a number that does not fit", source);
  }
  if (!json.is_object()) {
    throw make_error(ErrorCode::kFormat, "{}: header is a JSON {}, not an object", source, json.type_name());
  }
  return json;
}

std::map<std::string, std::string> read_metadata(const Json& json, const std::string& source) {
  std::map<std::string, std::string> result;
  if (!json.is_object()) throw make_error(ErrorCode::kFormat, "{}: __metadata__ is not an object", source);
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      throw make_error(ErrorCode::kFormat, "{}: __metadata__ field {} is not a string", source, quoted(key));
    }
    result[key] = value.get<std::string>();
  }
  return result;
}

/// One tensor's entry; knows its name for messages.
class EntryReader {
 public:
  EntryReader(const std::string& name, const Json& json, const std::string& source)
      : name_(name), json_(json), source_(source) {}

  SafetensorsHeader::Tensor read() const {
    if (std::any_of(name_.begin(), name_.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; })) {
      throw fail("has a control character in its name");
    }
    if (!json_.is_object()) throw fail("is not described by an object");
    for (const auto& field : json_.items()) {
      if (field.key() != "dtype" && field.key() != "shape" && field.key() != "data_offsets") {
        throw fail(fmt::format("has an unknown field {}", quoted(field.key())));
      }
    }
    SafetensorsHeader::Tensor result;
    result.name = name_;
    result.type = read_type();
    for (const auto extent : read_numbers("shape")) result.shape.push_back(static_cast<std::int64_t>(extent));
    if (result.shape.size() > kMaxDimensions) {
      throw fail(fmt::format("has {} dimensions, more than {}", result.shape.size(), kMaxDimensions));
    }
    const auto offsets = read_numbers("data_offsets");
    if (offsets.size() != 2) throw fail(fmt::format("has {} data_offsets, not 2", offsets.size()));
    if (offsets[0] > offsets[1]) throw fail(fmt::format("ends at {} before it begins at {}", offsets[1], offsets[0]));
    result.begin = offsets[0];
    result.end = offsets[1];
    return result;
  }

 private:
  [[nodiscard]] Error fail(const std::string& what) const {
    return make_error(ErrorCode::kFormat, "{}: tensor {} {}", source_, quoted(name_), what);
  }

  [[nodiscard]] SafetensorsType read_type() const {
    const auto field = json_.find("dtype");
    if (field == json_.end() || !field->is_string()) throw fail("has no dtype");
    const auto& text = field->get_ref<const std::string&>();
    for (const auto& [name, type] : kTypes) {
      if (text == name) return type;
    }
    throw fail(fmt::format("has the unknown dtype {}", quoted(text)));
  }

  [[nodiscard]] std::vector<std::uint64_t> read_numbers(const char* field_name) const {
    const auto field = json_.find(field_name);
    if (field == json_.end() || !field->is_array()) throw fail(fmt::format("has no {}", field_name));
    std::vector<std::uint64_t> result;
    for (const auto& number : *field) {
      constexpr auto kLargest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kLargest) {
        throw fail(fmt::format("has a {} that is not made of whole numbers from 0 to 2^63 - 1", field_name));
      }
      result.push_back(number.get<std::uint64_t>());
    }
    return result;
  }

  const std::string& name_;
  const Json& json_;
  const std::string& source_;
};

}  // namespace

std::string_view name_of(SafetensorsType type) noexcept {
  for (const auto& [name, candidate] : kTypes) {
    if (candidate == type) return name;
  }
  return "unknown";
}

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& source) {
  SafetensorsHeader result;
  const Json header = parse_object(json, source);
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      result.metadata = read_metadata(value, source);
    } else {
      result.tensors.push_back(EntryReader(name, value, source).read());
    }
  }
  return result;
}

}  // namespace crossdock::tool
