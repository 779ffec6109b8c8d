// Names and sentences of errno values. Our own table, because strerrorname_np needs glibc 2.32 and strerror speaks the
// language of the locale; an error's `code` is a contract and its message goes into logs that people search.
#pragma once

namespace spillway {

/** "ENOSPC"; "UNKNOWN" for a value that is not in the table. */
const char* errorName(int error);

/** "No space left on device". */
const char* errorText(int error);

}  // namespace spillway
