
#include "client/values.h"

namespace portfwd::client {

namespace {

using sdbus::Variant;

template <class T>
void assign(const Variant& from, T& to) {
  if (from.containsValueOfType<T>()) to = from.get<T>();
}

void assign(const Variant& from, WallTime& to) {
  std::uint64_t microseconds = 0;
  assign(from, microseconds);
  to = WallTime(std::chrono::microseconds(microseconds));
}

/// Decodes listeners or published ports: an array of dictionaries.
template <class Row>
requires requires(const Row& row) {
  fields_of(row);
}
void assign(const Variant& from, std::vector<Row>& to);

template <class Object>
void update_fields(Object& object, const Properties& properties) {
  for_each_field(object, [&](const auto& field, auto& value) {
    const auto at = properties.find(field.bus);
    if (at != properties.end()) assign(at->second, value);
  });
}

template <class Row>
requires requires(const Row& row) {
  fields_of(row);
}
void assign(const Variant& from, std::vector<Row>& to) {
  to.clear();
  std::vector<Properties> rows;
  assign(from, rows);
  to.reserve(rows.size());
  for (const Properties& row : rows) update_fields(to.emplace_back(), row);
}

template <class T>
T get(const Properties& properties, const char* name) {
  T value{};
  if (const auto at = properties.find(name); at != properties.end()) assign(at->second, value);
  return value;
}

template <class Object>
Object subject_of_event(const std::string& path, const Properties& properties) {
  Object object;
  update_fields(object, properties);
  object.path = path;
  object.reason = get<std::string>(properties, "StateReason");
  return object;
}

Fact decode_fact(const Variant& value) {
  const std::string type = value.peekValueType();
  if (type == "b") return value.get<bool>();
  if (type == "s") return value.get<std::string>();
  if (type == "d") return value.get<double>();
  if (type == "x") return value.get<std::int64_t>();
  if (type == "t") return value.get<std::uint64_t>();
  if (type == "i") return std::int64_t{value.get<std::int32_t>()};
  if (type == "u") return std::uint64_t{value.get<std::uint32_t>()};
  if (type == "q") return std::uint64_t{value.get<std::uint16_t>()};
  if (type == "as") return value.get<std::vector<std::string>>();
  return std::monostate();
}

Facts decode_facts(const Properties& properties) {
  Facts facts;
  for (const auto& [key, value] : properties) facts.emplace(key, decode_fact(value));
  return facts;
}

/// A code must have its arguments, since a program that words it relies on them.
std::vector<Remedy> decode_remedies(const Properties& facts) {
  using Row = sdbus::Struct<std::string, std::vector<std::string>>;
  std::vector<Remedy> remedies;
  for (const Row& row : get<std::vector<Row>>(facts, "remedies")) {
    Remedy remedy{.name = row.get<0>(), .code = {}, .arguments = row.get<1>()};
    const auto code = remedy_code(remedy.name);
    if (code && row_of(*code).arguments == remedy.arguments.size()) remedy.code = code;
    remedies.push_back(std::move(remedy));
  }
  return remedies;
}

}  // namespace

void update(Forward& forward, const Properties& properties) {
  update_fields(forward, properties);
}

void update(Container& container, const Properties& properties) {
  update_fields(container, properties);
}

Event decode_event(const std::string& type, const std::string& path, const Properties& p) {
  Event event{.seq = get<std::uint64_t>(p, "Sequence"),
              .time = get<WallTime>(p, "Time"),
              .type = type,
              .reason = get<std::string>(p, "Reason"),
              .batch_size = get<std::uint32_t>(p, "BatchSize"),
              .batch_index = get<std::uint32_t>(p, "BatchIndex")};
  if (type.starts_with("Port")) event.subject = subject_of_event<Forward>(path, p);
  if (type.starts_with("Container")) event.subject = subject_of_event<Container>(path, p);
  return event;
}

Explanation decode_explanation(const Properties& properties) {
  Facts facts = decode_facts(properties);
  facts.erase("remedies");
  return {.forwarded = get<bool>(properties, "forwarded"),
          .summary = get<std::string>(properties, "summary"),
          .remedy = get<std::string>(properties, "remedy"),
          .remedies = decode_remedies(properties),
          .facts = std::move(facts)};
}

Status decode_status(const Properties& facts) {
  return {.version = get<std::string>(facts, "version"),
          .instance_id = get<std::string>(facts, "instance_id"),
          .descriptor_shortage = get<std::string>(facts, "descriptor_shortage"),
          .descriptor_remedy = get<std::string>(facts, "descriptor_remedy"),
          .facts = decode_facts(facts)};
}

}  // namespace portfwd::client
