/// Errors as values: Result<T> holds a T or an Error with an errno and, where a person will read it, what failed.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace corral {

/// Who has to act on an error.
enum class ErrorKind {
  expected,  ///< the caller asked for something that cannot be done (ENOENT, ENOSPC, ...)
  device,    ///< the device refused or failed a command
  corrupt,   ///< the volume's structure is damaged: the filesystem withdraws where metadata cannot be trusted
};

/// One failure: a positive errno value, its kind, and a message for people (empty for everyday errors such as ENOENT).
/// The message names device, inode or block and what was expected; it has no trailing full stop or newline.
class [[nodiscard]] Error {
 public:
  explicit Error(int code, std::string message = {}, ErrorKind kind = ErrorKind::expected)
      : code_(code), kind_(kind), message_(std::move(message)) {}

  int code() const { return code_; }
  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  /// The message if there is one, else the system's words for the code.
  std::string describe() const;
  /// The same error with "context: " before its message.
  Error within(const std::string& context) const;

 private:
  int code_;
  ErrorKind kind_;
  std::string message_;
};

template <class T = void>
using Result = std::expected<T, Error>;

/// An everyday error: only a code.
inline std::unexpected<Error> fail(int code) {
  return std::unexpected(Error(code));
}

/// An error with a message for people.
template <class... Args>
std::unexpected<Error> fail(int code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

/// A failure of the device: EIO unless the device says better.
template <class... Args>
std::unexpected<Error> fail_device(int code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error(code, fmt::format(format, std::forward<Args>(args)...), ErrorKind::device));
}

/// A damaged on-disk structure: always EIO.
template <class... Args>
std::unexpected<Error> fail_corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error(EIO, fmt::format(format, std::forward<Args>(args)...), ErrorKind::corrupt));
}

}  // namespace corral

#define CORRAL_CONCAT_(a, b) a##b
#define CORRAL_CONCAT(a, b) CORRAL_CONCAT_(a, b)

/// In a plain function: TRY(auto x, f()); runs f() and returns its error, or declares x with its value.
#define TRY(declaration, expression) CORRAL_TRY_(return, CORRAL_CONCAT(try_, __COUNTER__), declaration, expression)
/// In a coroutine: CO_TRY(auto x, co_await f()); the same with co_return.
#define CO_TRY(declaration, expression) \
  CORRAL_TRY_(co_return, CORRAL_CONCAT(try_, __COUNTER__), declaration, expression)
#define CORRAL_TRY_(leave, name, declaration, expression)    \
  auto name = (expression);                                  \
  if (!name) leave std::unexpected(std::move(name).error()); \
  declaration = *std::move(name)

/// For expressions of type Result<void>: passes an error on.
#define TRY_VOID(expression) \
  if (auto corral_result = (expression); !corral_result) return std::unexpected(std::move(corral_result).error())
#define CO_TRY_VOID(expression) \
  if (auto corral_result = (expression); !corral_result) co_return std::unexpected(std::move(corral_result).error())
