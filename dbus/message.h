// Typed access to sd-bus messages, and D-Bus errors. Used by the other files of dbus/; independent
// of the objects of portfwd.
#pragma once

#include <systemd/sd-bus.h>

#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace portfwd {

struct BusDeleter {
  void operator()(sd_bus* bus) const { ::sd_bus_unref(bus); }
  void operator()(sd_bus_slot* slot) const { ::sd_bus_slot_unref(slot); }
  void operator()(sd_bus_message* message) const { ::sd_bus_message_unref(message); }
};
using BusPtr = std::unique_ptr<sd_bus, BusDeleter>;
using SlotPtr = std::unique_ptr<sd_bus_slot, BusDeleter>;
using MessagePtr = std::unique_ptr<sd_bus_message, BusDeleter>;

/// Converts the return value of a function of sd-bus. @param returned negative errno on failure
[[nodiscard]] inline Result<void> check(std::string_view op, int returned) {
  if (returned < 0) return fail(op, -returned);
  return {};
}

/// Text that a bus accepts. One string that is not UTF-8 would fail the whole message, and thus
/// GetManagedObjects. Texts are sanitized where they enter the daemon; this is the last check.
/// printable() removes everything that D-Bus rejects: bytes that are not UTF-8, NUL, surrogates,
/// and the noncharacters that sd-bus rejects as well. Source: D-Bus specification, "Valid string";
/// systemd, unichar_is_valid().
[[nodiscard]] inline std::string bus_text(std::string_view text) {
  return printable(text);
}

/// An object path in a message.
struct ObjectPath {
  std::string text;
  friend bool operator==(const ObjectPath&, const ObjectPath&) = default;
};

/// The D-Bus type of a C++ type. A type with a write() member has it as member `kSignature`.
template <class T>
inline constexpr const char* kSignatureOf = T::kSignature;
template <>
inline constexpr const char* kSignatureOf<bool> = "b";
template <>
inline constexpr const char* kSignatureOf<std::uint16_t> = "q";
template <>
inline constexpr const char* kSignatureOf<std::uint32_t> = "u";
template <>
inline constexpr const char* kSignatureOf<std::uint64_t> = "t";
template <>
inline constexpr const char* kSignatureOf<std::int64_t> = "x";
template <>
inline constexpr const char* kSignatureOf<double> = "d";
template <>
inline constexpr const char* kSignatureOf<std::string> = "s";
template <>
inline constexpr const char* kSignatureOf<ObjectPath> = "o";
template <>
inline constexpr const char* kSignatureOf<std::vector<std::string>> = "as";
template <>
inline constexpr const char* kSignatureOf<std::map<std::string, std::string>> = "a{ss}";

// Appends values to a borrowed message. The first failure is kept for result(), and everything
// after it is ignored.
class MessageWriter {
 public:
  explicit MessageWriter(sd_bus_message* message) : message_(message) {}

  MessageWriter& add(bool value) { return basic('b', int{value}); }
  MessageWriter& add(std::uint16_t value) { return basic('q', value); }
  MessageWriter& add(std::uint32_t value) { return basic('u', value); }
  MessageWriter& add(std::uint64_t value) { return basic('t', value); }
  MessageWriter& add(std::int64_t value) { return basic('x', value); }
  MessageWriter& add(double value) { return basic('d', value); }
  MessageWriter& add(const char* text) { return pointer('s', text); }
  MessageWriter& add(const std::string& text) { return pointer('s', text.c_str()); }
  MessageWriter& add(const ObjectPath& path) { return pointer('o', path.text.c_str()); }
  MessageWriter& add(const std::vector<std::string>& texts) {
    return array("s", [&] {
      for (const std::string& text : texts) add(text);
    });
  }
  MessageWriter& add(const std::map<std::string, std::string>& texts) {
    return array("{ss}", [&] {
      for (const auto& [key, text] : texts) dictionary_entry("ss", [&] { add(key).add(text); });
    });
  }
  /// A type that has a write() member.
  template <class T>
  requires requires(const T& value, MessageWriter& writer) { value.write(writer); }
  MessageWriter& add(const T& value) {
    value.write(*this);
    return *this;
  }

  /// @param contents signature of an element @param fill appends the elements
  template <std::invocable Fill>
  MessageWriter& array(const char* contents, Fill&& fill) {
    return container('a', contents, std::forward<Fill>(fill));
  }
  template <std::invocable Fill>
  MessageWriter& structure(const char* contents, Fill&& fill) {
    return container('r', contents, std::forward<Fill>(fill));
  }
  /// Appends an entry of a dictionary a{sv}.
  template <class T>
  MessageWriter& entry(const char* key, const T& value) {
    return dictionary_entry("sv", [&] {
      add(key);
      container('v', kSignatureOf<T>, [&] { add(value); });
    });
  }

  /// 0, or a negative errno, as a handler of sd-bus returns it.
  [[nodiscard]] int result() const { return result_; }

 private:
  template <std::invocable Fill>
  MessageWriter& dictionary_entry(const char* contents, Fill&& fill) {
    return container('e', contents, std::forward<Fill>(fill));
  }
  template <std::invocable Fill>
  MessageWriter& container(char type, const char* contents, Fill&& fill) {
    keep_first_error(::sd_bus_message_open_container(message_, type, contents));
    if (result_ < 0) return *this;
    fill();
    if (result_ >= 0) keep_first_error(::sd_bus_message_close_container(message_));
    return *this;
  }
  template <class T>
  MessageWriter& basic(char type, T value) {
    return pointer(type, &value);
  }
  MessageWriter& pointer(char type, const void* value) {
    if (result_ >= 0) keep_first_error(::sd_bus_message_append_basic(message_, type, value));
    return *this;
  }
  void keep_first_error(int returned) {
    if (result_ >= 0 && returned < 0) result_ = returned;
  }

  sd_bus_message* message_;
  int result_ = 0;
};

/// Sends the answer to a method call. @param fill appends the return values
/// @return the value that the handler must return
template <std::invocable<MessageWriter&> Fill>
int reply_to(sd_bus_message* call, Fill&& fill) {
  sd_bus_message* made = nullptr;
  if (const int r = ::sd_bus_message_new_method_return(call, &made); r < 0) return r;
  const MessagePtr reply(made);
  MessageWriter writer(reply.get());
  fill(writer);
  if (writer.result() < 0) return writer.result();
  return ::sd_bus_send(nullptr, reply.get(), nullptr);
}

/// Logs a signal that cannot be sent, for example because of a full queue. Nothing else has to be
/// done: BusSource detects a lost connection, and clients detect a missing event by its number.
/// @param what is sent @param returned by the function of sd-bus that sends it
void log_unsent(const char* what, int returned);

/// Sets the error of a method call, with a name of org.portfwd1(5).
/// @return the value that the handler must return
int reply_refusal(const Refusal& refusal, sd_bus_error* error);

}  // namespace portfwd
