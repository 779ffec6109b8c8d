#include "errors.h"

#include <cerrno>

namespace spillway {
namespace {

struct Entry {
  int error;
  const char* name;
  const char* text;
};

/** What file operations can answer. Names as Node.js gives them: EAGAIN, not EWOULDBLOCK; ENOTSUP, not EOPNOTSUPP. */
constexpr Entry kEntries[] = {
    {EACCES, "EACCES", "Permission denied"},
    {EAGAIN, "EAGAIN", "Resource temporarily unavailable"},
    {EBADF, "EBADF", "Bad file descriptor"},
    {EBUSY, "EBUSY", "Device or resource busy"},
    {ECANCELED, "ECANCELED", "Operation canceled"},
    {EDQUOT, "EDQUOT", "Disk quota exceeded"},
    {EEXIST, "EEXIST", "File exists"},
    {EFAULT, "EFAULT", "Bad address"},
    {EFBIG, "EFBIG", "File too large"},
    {EINTR, "EINTR", "Interrupted system call"},
    {EINVAL, "EINVAL", "Invalid argument"},
    {EIO, "EIO", "Input/output error"},
    {EISDIR, "EISDIR", "Is a directory"},
    {ELOOP, "ELOOP", "Too many levels of symbolic links"},
    {EMFILE, "EMFILE", "Too many open files"},
    {EMLINK, "EMLINK", "Too many links"},
    {ENAMETOOLONG, "ENAMETOOLONG", "File name too long"},
    {ENFILE, "ENFILE", "Too many open files in system"},
    {ENODEV, "ENODEV", "No such device"},
    {ENOENT, "ENOENT", "No such file or directory"},
    {ENOLCK, "ENOLCK", "No locks available"},
    {ENOMEM, "ENOMEM", "Cannot allocate memory"},
    {ENOSPC, "ENOSPC", "No space left on device"},
    {ENOSYS, "ENOSYS", "Function not implemented"},
    {ENOTDIR, "ENOTDIR", "Not a directory"},
    {ENOTEMPTY, "ENOTEMPTY", "Directory not empty"},
    {ENOTSUP, "ENOTSUP", "Operation not supported"},
#if EOPNOTSUPP != ENOTSUP
    {EOPNOTSUPP, "EOPNOTSUPP", "Operation not supported on socket"},
#endif
    {ENXIO, "ENXIO", "No such device or address"},
    {EOVERFLOW, "EOVERFLOW", "Value too large for defined data type"},
    {EPERM, "EPERM", "Operation not permitted"},
    {EPIPE, "EPIPE", "Broken pipe"},
    {EROFS, "EROFS", "Read-only file system"},
    {ESPIPE, "ESPIPE", "Illegal seek"},
    {ESTALE, "ESTALE", "Stale file handle"},
    {ETIMEDOUT, "ETIMEDOUT", "Connection timed out"},
    {ETXTBSY, "ETXTBSY", "Text file busy"},
    {EXDEV, "EXDEV", "Invalid cross-device link"},
};

const Entry* find(int error) {
  for (const Entry& entry : kEntries) {
    if (entry.error == error) return &entry;
  }
  return nullptr;
}

}  // namespace

const char* errorName(int error) {
  const Entry* entry = find(error);
  return entry == nullptr ? "UNKNOWN" : entry->name;
}

const char* errorText(int error) {
  const Entry* entry = find(error);
  return entry == nullptr ? "Unknown error" : entry->text;
}

}  // namespace spillway
