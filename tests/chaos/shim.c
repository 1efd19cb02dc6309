/*
 * Loaded before libc into an ldmd of the campaign (LD_PRELOAD): what of its state is durable, and
 * what time it is.  It finds the machine's folder by its --config and works with what is there:
 *
 * FOLDER/kept: what a power loss would leave of FOLDER/state, at every moment: the bytes of each file
 * as of its last fsync or fdatasync that has returned; of the names, those of a file when it was
 * synced or of a folder when that was.  What was written or renamed and not synced is not there.
 * data/INODE is the content, names/PATH (with % for /) a link to it.  No file system is as strict:
 * they keep unsynced data by luck.
 *
 * FOLDER/clock: one 64-bit number of seconds, mapped; the wall clock is wrong by it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char state[PATH_MAX], kept[PATH_MAX];
static const volatile int64_t *offset;

static void fail(const char *what)
{
    fprintf(stderr, "chaos shim: %s: %s\n", what, strerror(errno));
    abort(); /* a campaign that cannot say what is durable must not go on */
}

/* The folder of the machine.toml that this program was given; false when it was given none. */
static bool folder_of(char *folder)
{
    static char words[65536];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof words - 1);
    close(fd);
    for (char *w = words; w < words + n; w += strlen(w) + 1)
        if (!strcmp(w, "--config")) {
            snprintf(folder, PATH_MAX, "%s", w + strlen(w) + 1);
            return strrchr(folder, '/') && (*strrchr(folder, '/') = 0, true);
        }
    return false;
}

/* The program only: what it starts has the true clock and nothing is kept of it. */
__attribute__((constructor)) static void begin(void)
{
    char program[PATH_MAX] = "", folder[PATH_MAX], path[PATH_MAX];
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 ||
        !strstr(program, "python") || !folder_of(folder))
        return;
    snprintf(state, sizeof state, "%s/state", folder);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    snprintf(path, sizeof path, "%s/clock", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        fail(path);
    close(fd);
    offset = p;
    unsetenv("LD_PRELOAD");
}

/* ---- durable ---- */

/* A number is given again to another file when its inode is gone: the time of birth tells them apart. */
static void inode_name(char *into, const char *path)
{
    struct statx x;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &x))
        fail(path);
    snprintf(into, NAME_MAX, "%llu-%lld.%09u", (unsigned long long)x.stx_ino,
             (long long)x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
}

/* Make names/PATH lead to the content of an inode, in one step. */
static void set_name(const char *path, const char *inode)
{
    char link[PATH_MAX * 2], fresh[PATH_MAX * 2], to[NAME_MAX + 16];
    int n = snprintf(link, sizeof link, "%s/names/", kept);
    snprintf(link + n, sizeof link - n, "%s", path);
    for (char *c = link + n; *c; c++)
        *c = *c == '/' ? '%' : *c;
    snprintf(fresh, sizeof fresh, "%s/fresh-link", kept);
    snprintf(to, sizeof to, "../data/%s", inode);
    unlink(fresh);
    if (symlink(to, fresh) || rename(fresh, link))
        fail(link);
}

/*
 * The bytes of a file as they are now, in one step.  A file that SQLite has open is not opened
 * again: closing it would drop SQLite's locks.
 */
static void keep_data(int fd, const char *named, const char *inode)
{
    char fresh[PATH_MAX * 2], path[PATH_MAX * 2], buffer[65536];
    snprintf(fresh, sizeof fresh, "%s/fresh-data", kept);
    snprintf(path, sizeof path, "%s/data/%s", kept, inode);
    int out = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        fail(fresh);
    ssize_t n;
    bool opened = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
    if (opened && (fd = open(named, O_RDONLY | O_CLOEXEC)) < 0)
        fail(named);
    for (off_t at = 0; (n = pread(fd, buffer, sizeof buffer, at)) > 0; at += n)
        if (write(out, buffer, n) != n)
            fail(fresh);
    if (n < 0 || close(out) || rename(fresh, path))
        fail(path);
    if (opened)
        close(fd);
}

/* A folder was synced: its names as they are now; a file never synced is there and empty. */
static void keep_names(const char *folder)
{
    char names[PATH_MAX * 2], prefix[PATH_MAX] = "", path[PATH_MAX * 2];
    struct dirent *e;
    struct stat st;
    snprintf(names, sizeof names, "%s/names", kept);
    if (strlen(folder) > strlen(state))
        snprintf(prefix, sizeof prefix, "%s%%", folder + strlen(state) + 1);
    for (char *c = prefix; *c; c++)
        *c = *c == '/' ? '%' : *c;
    DIR *d = opendir(names);
    while (d && (e = readdir(d))) {
        const char *rest = e->d_name + strlen(prefix);
        if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix)) || strchr(rest, '%'))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, rest);
        if (lstat(path, &st) && unlinkat(dirfd(d), e->d_name, 0))
            fail(path);
    }
    closedir(d);
    for (d = opendir(folder); d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (lstat(path, &st) || !S_ISREG(st.st_mode))
            continue;
        char data[PATH_MAX * 2], inode[NAME_MAX];
        inode_name(inode, path);
        snprintf(data, sizeof data, "%s/data/%s", kept, inode);
        int made = open(data, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (made < 0)
            fail(data);
        close(made);
        set_name(path + strlen(state) + 1, inode);
    }
    if (d)
        closedir(d);
}

static void synced(int fd)
{
    char link[64], path[PATH_MAX] = "";
    struct stat st;
    size_t n = strlen(state);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!n || readlink(link, path, sizeof path - 1) < 0 || strncmp(path, state, n) ||
        (path[n] && path[n] != '/') || fstat(fd, &st))
        return;
    if (S_ISDIR(st.st_mode))
        keep_names(path);
    else if (S_ISREG(st.st_mode)) {
        struct stat named;
        if (lstat(path, &named) || named.st_ino != st.st_ino)
            return; /* it has no name any more: nobody finds it after a power loss */
        char inode[NAME_MAX];
        inode_name(inode, path);
        keep_data(fd, path, inode);
        set_name(path + n + 1, inode);
    }
}

int fsync(int fd)
{
    int done = syscall(SYS_fsync, fd);
    if (!done)
        synced(fd);
    return done;
}

int fdatasync(int fd)
{
    int done = syscall(SYS_fdatasync, fd);
    if (!done)
        synced(fd);
    return done;
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t id, struct timespec *t)
{
    int done = syscall(SYS_clock_gettime, id, t);
    if (!done && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        t->tv_sec += *offset;
    return done;
}

time_t time(time_t *into)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (into)
        *into = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *t, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
