/* roomy_disk.h - a disk that is half free, whatever the machine's is: the server keeps no prefixes on one that is nearly full.
 * For programs linked with --wrap for statvfs. */
#ifndef ODMOE_TESTS_ROOMY_DISK_H
#define ODMOE_TESTS_ROOMY_DISK_H

#include <sys/statvfs.h>

int __real_statvfs(const char *path, struct statvfs *disk);
int __wrap_statvfs(const char *path, struct statvfs *disk);
int __wrap_statvfs64(const char *path, struct statvfs *disk);

int __wrap_statvfs(const char *path, struct statvfs *disk)
{
    int failed = __real_statvfs(path, disk);
    if (!failed)
        disk->f_bavail = disk->f_blocks / 2;
    return failed;
}

/* the name under which programs with 64-bit offsets call it */
int __wrap_statvfs64(const char *path, struct statvfs *disk)
{
    return __wrap_statvfs(path, disk);
}

#endif
