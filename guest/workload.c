/*
 * The lab guest's load and witness: a counter that only grows, a disk that checks itself, memory
 * that is dirtied at a set rate, and pages with a known content at known guest-physical addresses.
 * Ports, formats and kernel arguments: README.md beside this file.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    TICK_NS = 5 * 1000 * 1000,
    SLOT_NS = 10 * 1000 * 1000, /* pace of the disk and the dirtier */
    PAGE = 4096,
    MAX_CLIENTS = 32,
    MAX_PATTERN = 1024,
    MAX_DIRTY_MIB = 1 << 20,
    DISK_BLOCKS = 4096, /* at most 16 MiB of the disk are used */
    COUNTER_PORT = 7000,
    CONTROL_PORT = 7001,
};

static char cmdline[4096], boot_id[40], name[64] = "guest";
static atomic_ullong counter, spins;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Sleep until *next and set it one period on.  Periods lost to a pause are not made up for. */
static void pace(uint64_t *next, uint64_t period)
{
    struct timespec t = {*next / 1000000000ull, *next % 1000000000ull};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
    uint64_t now = now_ns();
    *next = *next + period > now ? *next + period : now + period;
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* The first line of a file of the kernel's. */
static void read_line(const char *path, char *into, size_t size)
{
    FILE *f = fopen(path, "r");
    if (!f || !fgets(into, size, f))
        die(path);
    fclose(f);
    into[strcspn(into, "\n")] = 0;
}

/* Copy the value of the kernel argument KEY=VALUE; false when it is not given. */
static bool argument(const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    for (const char *p = cmdline; (p = strstr(p, key)); p += n)
        if ((p == cmdline || p[-1] == ' ') && p[n] == '=') {
            snprintf(value, size, "%.*s", (int)strcspn(p + n + 1, " "), p + n + 1);
            return true;
        }
    return false;
}

static void *alloc_pages(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int listener(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 16))
        die("listen");
    return s;
}

static void spawn(void *(*run)(void *), void *arg)
{
    pthread_t t;
    if (pthread_create(&t, NULL, run, arg))
        die("pthread_create");
    pthread_detach(t);
}

/* ---- counter: lines to every client of port 7000, heartbeats ---- */

static atomic_int clients[MAX_CLIENTS]; /* descriptor + 1; 0 is a free place */

static void *accept_counter(void *arg)
{
    for (int s = (int)(intptr_t)arg;;) {
        int c = accept4(s, NULL, NULL, SOCK_CLOEXEC), i = 0;
        if (c < 0)
            continue;
        for (int free = 0; i < MAX_CLIENTS; i++, free = 0)
            if (atomic_compare_exchange_strong(&clients[i], &free, c + 1))
                break;
        if (i == MAX_CLIENTS)
            close(c);
    }
    return NULL;
}

/* A client that reads too slowly misses lines; one that got half a line is cut off. */
static void feed(atomic_int *client, const char *line, int length)
{
    int fd = atomic_load(client) - 1;
    if (fd < 0)
        return;
    ssize_t sent = send(fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == length || (sent < 0 && errno == EAGAIN))
        return;
    atomic_store(client, 0);
    close(fd);
}

static int heartbeat_socket(struct sockaddr_in *to)
{
    char value[64], *colon;
    int one = 1;
    if (!argument("lodom.heartbeat", value, sizeof value) || !(colon = strchr(value, ':')))
        return -1;
    *colon = 0;
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    if (inet_pton(AF_INET, value, &to->sin_addr) != 1)
        return -1;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0 || setsockopt(s, SOL_SOCKET, SO_BROADCAST, &one, sizeof one))
        die("heartbeat");
    return s;
}

static void *tick(void *arg)
{
    struct sockaddr_in to;
    int udp = heartbeat_socket(&to);
    char line[160];
    for (uint64_t next = now_ns();; pace(&next, TICK_NS)) {
        unsigned long long n = atomic_fetch_add(&counter, 1) + 1, t = now_ns();
        int length = snprintf(line, sizeof line, "%s %llu %llu\n", boot_id, n, t);
        for (int i = 0; i < MAX_CLIENTS; i++)
            feed(&clients[i], line, length);
        if (udp < 0)
            continue;
        length = snprintf(line, sizeof line, "lodom1 %s %s %llu %llu\n", name, boot_id, n, t);
        /* No route yet, no listener: a lost heartbeat is what the receiver measures. */
        (void)sendto(udp, line, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
    }
    return arg;
}

/* ---- disk: write, read back, never trust ---- */

struct block {
    uint64_t magic, number, generation, sum;
    uint64_t data[PAGE / 8 - 4];
};
static const uint64_t MAGIC = 0x4c6f646f6d426c6bull; /* "LodomBlk" */
static struct {
    atomic_ullong written, verified, bad, errors, found;
} disk;

static uint64_t sum_of(const struct block *b)
{
    uint64_t sum = mix(b->number) ^ b->generation;
    for (size_t i = 0; i < sizeof b->data / 8; i++)
        sum = (sum ^ b->data[i]) * 0x100000001b3ull;
    return sum;
}

static bool whole(const struct block *b, uint64_t number)
{
    return b->magic == MAGIC && b->number == number && b->sum == sum_of(b);
}

static void write_block(int fd, struct block *b, uint64_t number, uint64_t generation)
{
    *b = (struct block){.magic = MAGIC, .number = number, .generation = generation};
    for (size_t i = 0; i < sizeof b->data / 8; i++)
        b->data[i] = mix(number << 40 ^ generation << 9 ^ i);
    b->sum = sum_of(b);
    if (pwrite(fd, b, PAGE, number * PAGE) == PAGE)
        disk.written++;
    else
        disk.errors++;
}

static void check_block(int fd, struct block *b, uint64_t number, uint64_t generation)
{
    if (pread(fd, b, PAGE, number * PAGE) != PAGE)
        disk.errors++;
    else if (whole(b, number) && b->generation == generation)
        disk.verified++;
    else
        disk.bad++;
}

/* What an earlier boot left is taken up: its blocks must be whole, the generations go on. */
static uint64_t take_up(int fd, struct block *b, uint64_t *generation, uint64_t blocks)
{
    uint64_t newest = 0;
    for (uint64_t n = 0; n < blocks; n++) {
        if (pread(fd, b, PAGE, n * PAGE) != PAGE)
            disk.errors++;
        else if (b->magic == MAGIC && !whole(b, n))
            disk.bad++;
        else if (b->magic == MAGIC) {
            disk.found++;
            generation[n] = b->generation;
            newest = b->generation > newest ? b->generation : newest;
        }
    }
    return newest;
}

static void *work_disk(void *arg)
{
    static uint64_t generation[DISK_BLOCKS]; /* 0: never written */
    struct block *b = alloc_pages(PAGE);
    int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (!b || fd < 0) {
        disk.errors++;
        perror("/dev/vda");
        return arg;
    }
    uint64_t blocks = lseek(fd, 0, SEEK_END) / PAGE, other = 0;
    if (blocks > DISK_BLOCKS)
        blocks = DISK_BLOCKS;
    uint64_t turn = take_up(fd, b, generation, blocks), next = now_ns();
    for (uint64_t n = 0; blocks; n = (n + 1) % blocks, pace(&next, SLOT_NS)) {
        if (n == 0)
            turn++;
        write_block(fd, b, n, generation[n] = turn);
        check_block(fd, b, n, turn);
        other = (other * 5 + 1) % blocks; /* and one that was written some time ago */
        if (generation[other])
            check_block(fd, b, other, generation[other]);
    }
    return arg;
}

/* ---- dirtier ---- */

static pthread_mutex_t dirty_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned dirty_rate, dirty_size; /* MiB/s, MiB */
static atomic_ullong dirtied;           /* pages */

static bool set_dirty(const char *text, char separator)
{
    char format[] = "%u_%u";
    unsigned rate, size = 0;
    format[2] = separator;
    int n = sscanf(text, format, &rate, &size);
    if (n < 1 || rate > MAX_DIRTY_MIB || size > MAX_DIRTY_MIB)
        return false;
    pthread_mutex_lock(&dirty_lock);
    dirty_rate = rate;
    if (n == 2)
        dirty_size = size;
    pthread_mutex_unlock(&dirty_lock);
    return true;
}

static void *work_dirty(void *arg)
{
    uint64_t *set = NULL, next = now_ns();
    size_t size = 0, at = 0; /* pages */
    for (;; pace(&next, SLOT_NS)) {
        pthread_mutex_lock(&dirty_lock);
        size_t want = (size_t)dirty_size * 256, pages = (size_t)dirty_rate * 256 / 100;
        pthread_mutex_unlock(&dirty_lock);
        if (want != size) {
            if (set)
                munmap(set, size * PAGE);
            set = want ? alloc_pages(want * PAGE) : NULL;
            size = set ? want : 0;
            at = 0;
        }
        for (size_t i = 0; size && i < pages; i++, at = (at + 1) % size)
            set[at * PAGE / 8]++;
        if (size)
            dirtied += pages;
    }
    return arg;
}

/* ---- pattern: pages with a known content at a known guest-physical address ---- */

static struct {
    pthread_mutex_t lock;
    uint64_t *base;
    unsigned pages;
    unsigned long long seed, gpa[MAX_PATTERN], checks, bad, moved;
} pattern = {.lock = PTHREAD_MUTEX_INITIALIZER, .seed = 1, .pages = 64};

static uint64_t pattern_word(uint64_t page, uint64_t word)
{
    return mix(pattern.seed ^ (page << 9 | word));
}

/* Guest-physical address of a page, 0 when the kernel does not tell. */
static uint64_t gpa_of(const void *page)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    ssize_t n = pread(fd, &entry, sizeof entry, (uintptr_t)page / PAGE * 8);
    close(fd);
    return n == sizeof entry && entry >> 63 ? (entry & ((1ull << 55) - 1)) * PAGE : 0;
}

static void make_pattern(void)
{
    unsigned long every[16]; /* interleaved over all nodes, so that each memory block has some */
    memset(every, 0xff, sizeof every);
    size_t bytes = (size_t)pattern.pages * PAGE;
    pattern.base = alloc_pages(bytes);
    if (!pattern.base)
        die("pattern");
    /* The mask is cut to the nodes there are; a kernel without NUMA has one block anyway. */
    syscall(SYS_mbind, pattern.base, bytes, MPOL_INTERLEAVE, every, sizeof every * 8, 0);
    if (mlock(pattern.base, bytes))
        die("mlock");
    for (unsigned p = 0; p < pattern.pages; p++) {
        for (unsigned w = 0; w < PAGE / 8; w++)
            pattern.base[p * (PAGE / 8) + w] = pattern_word(p, w);
        pattern.gpa[p] = gpa_of(&pattern.base[p * (PAGE / 8)]);
    }
}

/* The number of bad pages is that of the last check; it is read from memory each time. */
static void check_pattern(void)
{
    pthread_mutex_lock(&pattern.lock);
    pattern.bad = 0;
    for (unsigned p = 0; p < pattern.pages; p++) {
        volatile uint64_t *page = &pattern.base[p * (PAGE / 8)];
        bool good = true;
        for (unsigned w = 0; w < PAGE / 8; w++)
            good &= page[w] == pattern_word(p, w);
        pattern.bad += !good;
        uint64_t gpa = gpa_of((void *)page);
        pattern.moved += gpa != pattern.gpa[p];
        pattern.gpa[p] = gpa;
    }
    pattern.checks++;
    pthread_mutex_unlock(&pattern.lock);
}

static void *work_pattern(void *arg)
{
    for (uint64_t next = now_ns();; pace(&next, 1000000000ull))
        check_pattern();
    return arg;
}

/* ---- control: lines on port 7001 ---- */

static void print_status(FILE *out)
{
    char online[256], total[64]; /* MemTotal is the first line of its file */
    unsigned long long memory = 0;
    read_line("/sys/devices/system/cpu/online", online, sizeof online);
    read_line("/proc/meminfo", total, sizeof total);
    sscanf(total, "MemTotal: %llu", &memory);
    check_pattern();
    fprintf(out,
            "{\"name\": \"%s\", \"boot_id\": \"%s\", \"counter\": %llu, \"cpus\": %ld, "
            "\"cpus_online\": \"%s\", \"mem_total_kb\": %llu, ",
            name, boot_id, counter, sysconf(_SC_NPROCESSORS_ONLN), online, memory);
    fprintf(out,
            "\"disk\": {\"written\": %llu, \"verified\": %llu, \"bad\": %llu, \"errors\": %llu, "
            "\"found\": %llu}, ",
            disk.written, disk.verified, disk.bad, disk.errors, disk.found);
    pthread_mutex_lock(&pattern.lock);
    fprintf(out,
            "\"pattern\": {\"seed\": %llu, \"checks\": %llu, \"bad\": %llu, \"moved\": %llu, "
            "\"pages\": [",
            pattern.seed, pattern.checks, pattern.bad, pattern.moved);
    for (unsigned p = 0; p < pattern.pages; p++)
        fprintf(out, "%s%llu", p ? ", " : "", pattern.gpa[p]);
    pthread_mutex_unlock(&pattern.lock);
    pthread_mutex_lock(&dirty_lock);
    fprintf(out, "]}, \"dirtier\": {\"rate\": %u, \"size\": %u, \"pages\": %llu}}\n", dirty_rate,
            dirty_size, dirtied);
    pthread_mutex_unlock(&dirty_lock);
}

/* Nothing but interrupts is served on this CPU any more, and nobody can end it. */
static void *spin(void *arg)
{
    struct sched_param top = {.sched_priority = 99};
    if (sched_setscheduler(0, SCHED_FIFO, &top))
        perror("sched_setscheduler");
    for (;;)
        atomic_fetch_add(&spins, 1);
    return arg;
}

/* A system that hangs: each CPU turns in a circle; those that come later are of no use either. */
static void hang(void)
{
    int fd = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY | O_CLOEXEC);
    if (write(fd, "-1", 2) != 2)
        perror("sched_rt_runtime_us");
    for (long n = sysconf(_SC_NPROCESSORS_CONF); n > 0; n--)
        spawn(spin, NULL);
}

static void obey(const char *line, FILE *out)
{
    if (!strcmp(line, "status")) {
        print_status(out);
        return;
    }
    bool panic = !strcmp(line, "panic"), again = !strcmp(line, "reboot");
    bool off = !strcmp(line, "poweroff"), stuck = !strcmp(line, "hang");
    bool dirty = !strncmp(line, "dirty ", 6) && set_dirty(line + 6, ' ');
    fputs(panic || again || off || stuck || dirty ? "ok\n"
          : "error: status, dirty RATE [SIZE], panic, hang, reboot or poweroff\n", out);
    fflush(out);
    if (stuck)
        hang();
    if (panic && write(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC), "c", 1) != 1)
        perror("sysrq-trigger");
    if (again || off) {
        fclose(out); /* sent before the network goes */
        execl("/sbin/shutdown", "shutdown", again ? "-r" : "-P", NULL);
    }
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    char line[128];
    while (in && out && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = 0;
        obey(line, out);
        if (fflush(out))
            break;
    }
    if (out)
        fclose(out);
    if (in)
        fclose(in);
    return NULL;
}

static void set_pattern(const char *text)
{
    unsigned long long seed = pattern.seed;
    unsigned pages = 0;
    if (sscanf(text, "%u:%llu", &pages, &seed) < 1 || pages < 1 || pages > MAX_PATTERN)
        fprintf(stderr, "lodom.pattern=%s: want PAGES[:SEED], 1 to %d pages\n", text, MAX_PATTERN);
    else
        pattern.pages = pages, pattern.seed = seed;
}

int main(void)
{
    char value[64];
    signal(SIGPIPE, SIG_IGN);
    read_line("/proc/cmdline", cmdline, sizeof cmdline);
    read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    argument("lodom.name", name, sizeof name);
    int control = listener(CONTROL_PORT);
    if (argument("lodom.pattern", value, sizeof value))
        set_pattern(value);
    make_pattern();
    spawn(work_pattern, NULL);
    spawn(tick, NULL);
    spawn(accept_counter, (void *)(intptr_t)listener(COUNTER_PORT));
    if (argument("lodom.dirty", value, sizeof value) && !set_dirty(value, ':'))
        fprintf(stderr, "lodom.dirty=%s: want RATE:SIZE in MiB/s and MiB\n", value);
    spawn(work_dirty, NULL);
    if (argument("lodom.disk", value, sizeof value) && !strcmp(value, "1"))
        spawn(work_disk, NULL);
    for (;;) {
        int c = accept4(control, NULL, NULL, SOCK_CLOEXEC);
        if (c >= 0)
            spawn(serve, (void *)(intptr_t)c);
    }
}
