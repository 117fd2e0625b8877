// The messages between the daemon and a writer: the process that replaces one file. Both programs
// share this file. One request, the path with its NUL, to which a descriptor of what is to be
// written is attached, and one reply.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portfwd::broker {

inline constexpr const char* kWriterArgument =
    "--writer";                                       ///< argv[1] of a broker that is a writer
inline constexpr std::size_t kWritePathLimit = 4096;  ///< with its NUL, as PATH_MAX

enum class WriteStep : std::uint32_t { None, Request, Folder, Unlink, Open, Write, Sync, Rename };

struct WriteReply {
  std::int32_t error = 0;  ///< 0 or a positive errno
  WriteStep step = WriteStep::None;
};

}  // namespace portfwd::broker
