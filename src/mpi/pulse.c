#define _GNU_SOURCE
#include "pulse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../arena.h"
#include "../stop.h"
#include "../thread.h"
#include "comm.h"

enum { TICKS_IN_LIMIT = 10, LIMITS_LONG = 15, STAGGER_MOST = 5, LISTEN_MOST = 3 }; /* numbers; the last two: s */
enum { TICK_MOST = 500, LIMIT_FIRST = 20000, FIRST_WORDS = 20000, STAGGER = 1000, LINGER = 10, SILENT_AT_TERM = 3000,
       WAKING = 1500 }; /* ms */

typedef enum sort { ALIVE, LEAVING, END } sort; /* END: rank 0 has lost a rank and said so */

/* One sign of life. All processes run the same program on the same kind of machine. */
typedef struct word {
    uint64_t key;
    int32_t kind, rank, process;
    int32_t waits;      /* ms in this call; -1: at work */
    int64_t step, calls;
    char call[32], phase[32], host[64];
} word;

typedef struct peer {
    struct sockaddr_in6 at;
    word last;
    int heard, silent, refused; /* ever; ms since; its port is closed */
} peer;

struct het_pulse {
    int rank, size, fd, wake;
    int family;      /* of the socket: AF_INET6 serves IPv4 too; AF_INET where the system has no IPv6 */
    het_pulse_root root;
    char host[64];
    pthread_t thread;
    peer *peers;     /* (size); rank 0 judges [1, size), the others [0, 1) */
    int first, end;
    int64_t long_said; /* calls of the rank that was said to be at work for long */
    int unheard_said, age; /* ms */
    int64_t woke;      /* when this process went on after a stop of about the limit, ms; 0: never */
    atomic_int limit, leaving, stop;
    _Atomic int64_t step, calls, since;
    _Atomic(const char *) call, phase; /* call: NULL at work */
    pthread_mutex_t hearing;
    het_pulse_hear hear;
    void *context;
    pthread_t teller;
    int has_teller, last;
    atomic_int telling;
    char text[1200];   /* the teller's while it tells */
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Who listens may wait for a file system, but signs of life must not: warnings are told by a thread. */
static void *tell(void *context)
{
    het_pulse *h = context;
    pthread_mutex_lock(&h->hearing);
    if (h->hear != NULL) h->hear(h->context, h->text, h->last);
    pthread_mutex_unlock(&h->hearing);
    atomic_store(&h->telling, 0);
    return NULL;
}

static void join_teller(het_pulse *h)
{
    if (h->has_teller) pthread_join(h->teller, NULL);
    h->has_teller = 0;
}

/* Past the log, which belongs to the main thread and speaks on rank 0 only. One write, so lines stay whole. */
static void say(het_pulse *h, int last, const char *format, ...)
{
    char text[sizeof h->text], line[sizeof text + 40];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const int length = snprintf(line, sizeof line, "hetacumn: %s: %s\n", last ? "error" : "warning", text);
    const ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written; /* nobody may read any more */
    if (atomic_load(&h->telling)) return; /* who listens still writes down the warning before: a slow file system */
    join_teller(h);
    snprintf(h->text, sizeof h->text, "%s", text);
    h->last = last;
    atomic_store(&h->telling, 1);
    if (last) tell(h);
    else h->has_teller = het_thread_start(&h->teller, tell, h) == HET_OK;
    if (!last && !h->has_teller) atomic_store(&h->telling, 0);
}

/* ---- signs of life ---- */

static word own_word(het_pulse *h, sort kind)
{
    const char *call = atomic_load(&h->call), *phase = atomic_load(&h->phase);
    word out = {.key = h->root.key,
                .kind = (int32_t)kind,
                .rank = h->rank,
                .process = (int32_t)getpid(),
                .waits = call == NULL ? -1 : (int32_t)(now_ms() - atomic_load(&h->since)),
                .step = atomic_load(&h->step),
                .calls = atomic_load(&h->calls)};
    snprintf(out.call, sizeof out.call, "%s", call == NULL ? "" : call);
    snprintf(out.phase, sizeof out.phase, "%s", phase);
    snprintf(out.host, sizeof out.host, "%s", h->host);
    return out;
}

/* Addresses are IPv6 ones here, of which the last four bytes are an IPv4 address where it is mapped. An IPv4 socket takes and
 * gives the others. */
typedef union name {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} name;

static struct sockaddr_in6 mapped(const struct sockaddr_in *four)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four->sin_port};
    six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
    memcpy(six.sin6_addr.s6_addr + 12, &four->sin_addr, 4);
    return six;
}

static struct sockaddr_in6 from_socket(const name *from)
{
    return from->any.sa_family == AF_INET6 ? from->six : mapped(&from->four);
}

/* An error on the way of an earlier word stops the next one: again. */
static void send_to(const het_pulse *h, const word *out, const struct sockaddr_in6 *to)
{
    name at = {.six = *to};
    if (h->family == AF_INET) {
        if (!IN6_IS_ADDR_V4MAPPED(&to->sin6_addr)) return;
        at.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = to->sin6_port};
        memcpy(&at.four.sin_addr, to->sin6_addr.s6_addr + 12, 4);
    }
    for (int i = 0; i < 3; i++)
        if (sendto(h->fd, out, sizeof *out, MSG_DONTWAIT, &at.any, h->family == AF_INET ? sizeof at.four : sizeof at.six) >= 0 ||
            errno == EAGAIN)
            return;
}

static void send_words(het_pulse *h, sort kind)
{
    const word out = own_word(h, kind);
    for (int i = h->first; i < h->end; i++)
        if (h->peers[i].heard) send_to(h, &out, &h->peers[i].at);
    if (h->rank == 0 || h->peers[0].heard) return;
    for (int i = 0; i < h->root.count; i++) { /* whichever answers */
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = h->root.port};
        memcpy(to.sin6_addr.s6_addr, h->root.address[i], 16);
        send_to(h, &out, &to);
    }
}

static void receive_words(het_pulse *h)
{
    word in;
    name from;
    for (int i = 0; i < 4 * h->size + 64; i++) {
        socklen_t length = sizeof from;
        const ssize_t got = recvfrom(h->fd, &in, sizeof in, MSG_DONTWAIT, &from.any, &length);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (got != sizeof in || in.key != h->root.key || in.rank < h->first || in.rank >= h->end) continue;
        if (in.kind == END) _Exit(HET_EXIT_LOST);
        peer *p = &h->peers[in.rank];
        if (!p->heard) p->at = from_socket(&from);
        p->heard = 1;
        p->silent = 0;
        p->last = in;
    }
}

/* Words that came back because nobody listens there any more. */
static void receive_refusals(het_pulse *h)
{
    word body;
    name to;
    char control[512];
    struct iovec data = {&body, sizeof body};
    for (;;) {
        struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &data, .msg_iovlen = 1,
                                 .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(h->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
            struct sock_extended_err error;
            if (!(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR) &&
                !(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR))
                continue;
            memcpy(&error, CMSG_DATA(c), sizeof error);
            if (error.ee_errno != ECONNREFUSED) continue;
            const struct sockaddr_in6 there = from_socket(&to);
            for (int i = h->first; i < h->end; i++)
                if (h->peers[i].heard && h->peers[i].at.sin6_port == there.sin6_port &&
                    IN6_ARE_ADDR_EQUAL(&h->peers[i].at.sin6_addr, &there.sin6_addr))
                    h->peers[i].refused = 1;
        }
    }
}

/* ---- judging ---- */

/* "in step 7, task one, waiting in a broadcast" */
static void describe(char *text, size_t size, const word *state)
{
    char step[40] = "before the first step";
    if (state->step > 0) snprintf(step, sizeof step, "in step %lld", (long long)state->step);
    snprintf(text, size, "%s, %s, %s%s", step, state->phase, state->waits < 0 ? "at work" : "waiting in a ",
             state->call);
}

static void end_now(int number)
{
    (void)number;
    _Exit(HET_EXIT_LOST);
}

/* Rank 0 tells the others to end, too. Where rank 0 is lost, the lowest of the others speaks: its end makes mpirun or srun
 * end the rest, who have waited a little longer. A process that was stopped itself, and finds the others gone when it goes
 * on, is the one that they spoke of. Who listens may wait for a file system that is gone as well: not for long. */
_Noreturn static void end_all(het_pulse *h, int refused, const char *why)
{
    if (h->rank == 0)
        for (int i = 0; i < 3; i++) send_words(h, END); /* one may be lost */
    const int seconds = h->rank - 1 < STAGGER_MOST ? h->rank - 1 : STAGGER_MOST;
    for (int i = 0; i < seconds * STAGGER && het_stop_signal() != SIGTERM; i += LINGER)
        nanosleep(&(struct timespec){.tv_nsec = LINGER * 1000000}, NULL);
    const int told = (refused && h->woke > 0 && now_ms() - h->woke < WAKING) || (h->rank > 1 && het_stop_signal() == SIGTERM);
    signal(SIGALRM, end_now); /* on the main thread */
    alarm(LISTEN_MOST);
    if (!told) say(h, 1, "%s; all ranks end: start the job again to go on from its checkpoint", why);
    _Exit(HET_EXIT_LOST);
}

/* SIGTERM while a rank of another node is silent: mpirun has lost that node and is ending us, within a second. */
static int is_lost(const het_pulse *h, const peer *p, int limit)
{
    if (!p->heard) return 0;
    if (limit > SILENT_AT_TERM && het_stop_signal() == SIGTERM && strcmp(p->last.host, h->host) != 0)
        limit = SILENT_AT_TERM;
    return p->silent > limit || (p->refused && p->last.kind != LEAVING && !atomic_load(&h->leaving));
}

static void judge_silence(het_pulse *h, int limit)
{
    char there[160], here[160], why[1000], more[200] = "";
    int lost = -1;
    for (int i = h->first; i < h->end; i++) {
        if (!is_lost(h, &h->peers[i], limit)) continue;
        if (lost < 0) lost = i;
        else snprintf(more + strlen(more), sizeof more - strlen(more), " %d", i);
    }
    if (lost < 0) return;
    const peer *p = &h->peers[lost];
    const word mine = own_word(h, ALIVE);
    describe(there, sizeof there, &p->last);
    describe(here, sizeof here, &mine);
    char sign[160] = "its process has ended";
    if (!p->refused)
        snprintf(sign, sizeof sign, "no sign of life for %.1f s, so it is stopped, or its node or the network is down",
                 1e-3 * p->silent);
    int length = snprintf(why, sizeof why, "rank %d of %d (process %d on %s) is lost: %s; last heard %s; rank %d is %s", lost,
                          h->size, (int)p->last.process, p->last.host, sign, there, h->rank, here);
    if (more[0] != 0) snprintf(why + length, sizeof why - (size_t)length, "; also lost:%s", more);
    end_all(h, p->refused, why);
}

/* Rank 0: some wait for long. For a rank at work: said once for each call. For nobody: the network is stuck. */
static void judge_waiting(het_pulse *h, int limit)
{
    char there[160];
    const word mine = own_word(h, ALIVE);
    const word *busy = mine.waits < 0 ? &mine : NULL, *longest = &mine;
    int32_t shortest = mine.waits;
    for (int i = h->first; i < h->end; i++) {
        const word *last = &h->peers[i].last;
        if (!h->peers[i].heard) return; /* who knows */
        if (last->waits < 0 && busy == NULL) busy = last;
        if (last->waits > longest->waits) longest = last;
        if (last->waits < shortest) shortest = last->waits;
    }
    const int64_t much = (int64_t)LIMITS_LONG * limit;
    if (busy != NULL && longest->waits > much && h->long_said != longest->calls) {
        h->long_said = longest->calls;
        describe(there, sizeof there, busy);
        say(h, 0, "rank %d is %s; others have waited for it for %d s and go on waiting, since it is alive", busy->rank, there,
            longest->waits / 1000);
    }
    if (busy == NULL && shortest > much) {
        char why[400];
        describe(there, sizeof there, longest);
        snprintf(why, sizeof why, "all ranks are alive, but have waited for one another for %d s (rank %d %s): the network "
                 "between them does not move", shortest / 1000, longest->rank, there);
        end_all(h, 0, why);
    }
}

static void judge(het_pulse *h, int tick)
{
    const int limit = atomic_load(&h->limit);
    int unheard = 0;
    for (int i = h->first; i < h->end; i++) {
        if (h->peers[i].heard) h->peers[i].silent += tick;
        else unheard++;
    }
    if (h->age < INT32_MAX - tick) h->age += tick;
    if (limit == 0) return;
    judge_silence(h, limit);
    if (h->rank != 0) return;
    judge_waiting(h, limit);
    if (unheard > 0 && h->age > FIRST_WORDS && !h->unheard_said) {
        h->unheard_said = 1;
        say(h, 0, "%d rank(s) cannot be heard by UDP (a firewall between the nodes?): if one is lost, the others may wait "
            "for ever", unheard);
    }
}

static void *beat(void *context)
{
    het_pulse *h = context;
    int64_t next = now_ms();
    while (!atomic_load(&h->stop)) {
        const int limit = atomic_load(&h->limit);
        const int tick = limit > 0 && limit / TICKS_IN_LIMIT < TICK_MOST ? limit / TICKS_IN_LIMIT + 1 : TICK_MOST;
        const int64_t now = now_ms();
        if (now >= next) {
            if (limit > 0 && next > 0 && now - next > limit / 4 * 3) h->woke = now;
            next = now + tick;
            send_words(h, atomic_load(&h->leaving) ? LEAVING : ALIVE);
            judge(h, tick);
        }
        struct pollfd fds[2] = {{.fd = h->fd, .events = POLLIN}, {.fd = h->wake, .events = POLLIN}};
        uint64_t count;
        poll(fds, 2, next > now ? (int)(next - now) : 0);
        if (fds[1].revents != 0 && read(h->wake, &count, sizeof count) > 0) next = 0;
        receive_refusals(h);
        receive_words(h);
    }
    send_words(h, LEAVING);
    return NULL;
}

/* ---- set-up ---- */

/* All addresses of this host, the loopback too: ranks on the same host take it. Not those of a link: they mean nothing elsewhere. */
static void find_addresses(het_pulse_root *root, int family)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) return;
    for (const struct ifaddrs *a = all; a != NULL && root->count < HET_PULSE_ADDRESSES; a = a->ifa_next) {
        const name *own = (const name *)(const void *)a->ifa_addr;
        if (own == NULL || own->any.sa_family != family || (a->ifa_flags & IFF_UP) == 0) continue;
        const struct sockaddr_in6 at = from_socket(own);
        if (!IN6_IS_ADDR_LINKLOCAL(&at.sin6_addr)) memcpy(root->address[root->count++], at.sin6_addr.s6_addr, 16);
    }
    freeifaddrs(all);
}

/* One socket for both IPv6 and IPv4, or for IPv4 alone. */
static int bind_socket(het_pulse *h)
{
    const int on = 1, off = 0;
    const name six = {.six = {.sin6_family = AF_INET6}}, four = {.four = {.sin_family = AF_INET}};
    h->family = AF_INET6;
    h->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (h->fd >= 0 && setsockopt(h->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 &&
        setsockopt(h->fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on) == 0 &&
        setsockopt(h->fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0 && bind(h->fd, &six.any, sizeof six.six) == 0)
        return 1;
    if (h->fd >= 0) close(h->fd);
    h->family = AF_INET;
    h->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return h->fd >= 0 && setsockopt(h->fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0 &&
           bind(h->fd, &four.any, sizeof four.four) == 0;
}

static int open_socket(het_pulse *h, het_pulse_root *root)
{
    name here;
    socklen_t length = sizeof here;
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake < 0 || !bind_socket(h)) return 0;
    if (h->rank == 0) {
        *root = (het_pulse_root){0};
        if (getrandom(&root->key, sizeof root->key, 0) != sizeof root->key) return 0;
        if (getsockname(h->fd, &here.any, &length) != 0) return 0;
        root->port = from_socket(&here).sin6_port;
        find_addresses(root, AF_INET);
        if (h->family == AF_INET6) find_addresses(root, AF_INET6);
    }
    h->root = *root;
    return 1;
}

static void release(het_pulse *h)
{
    join_teller(h);
    if (h->fd >= 0) close(h->fd);
    if (h->wake >= 0) close(h->wake);
    pthread_mutex_destroy(&h->hearing);
    het_release(h->peers);
    het_release(h);
}

het_pulse *het_pulse_new(int rank, int size, het_pulse_root *root)
{
    het_pulse *h = het_alloc(sizeof *h);
    if (h == NULL) return NULL;
    pthread_mutex_init(&h->hearing, NULL);
    h->rank = rank;
    h->size = size;
    h->fd = h->wake = -1;
    h->first = rank == 0 ? 1 : 0;
    h->end = rank == 0 ? size : 1;
    h->long_said = -1;
    atomic_store(&h->limit, LIMIT_FIRST);
    atomic_store(&h->phase, "at the beginning");
    if (gethostname(h->host, sizeof h->host - 1) != 0) snprintf(h->host, sizeof h->host, "?");
    h->peers = het_alloc((size_t)size * sizeof *h->peers);
    if (h->peers != NULL && open_socket(h, root) && het_thread_start(&h->thread, beat, h) == HET_OK) return h;
    say(h, 0, "rank %d cannot watch the others (%s): if one is lost, the others may wait for ever", rank,
        strerror(errno));
    release(h);
    return NULL;
}

static void wake(het_pulse *h)
{
    const uint64_t one = 1;
    if (write(h->wake, &one, sizeof one) < 0) return; /* awake already */
}

void het_pulse_free(het_pulse *h)
{
    if (h == NULL) return;
    atomic_store(&h->stop, 1);
    wake(h);
    pthread_join(h->thread, NULL);
    release(h);
}

void het_pulse_limit(het_pulse *h, double seconds)
{
    if (h == NULL) return;
    const double most = INT32_MAX / (2 * LIMITS_LONG);
    atomic_store(&h->limit, (int)(1e3 * seconds < most ? 1e3 * seconds : most));
    wake(h);
}

void het_pulse_listen(het_pulse *h, het_pulse_hear hear, void *context)
{
    if (h == NULL) return;
    pthread_mutex_lock(&h->hearing);
    h->hear = hear;
    h->context = context;
    pthread_mutex_unlock(&h->hearing);
}

void het_pulse_leave(het_pulse *h)
{
    if (h == NULL) return;
    atomic_store(&h->leaving, 1);
    wake(h);
}

void het_pulse_wait(het_pulse *h, const char *call)
{
    if (h == NULL) return;
    if (call != NULL) {
        atomic_store(&h->since, now_ms());
        atomic_fetch_add(&h->calls, 1);
    }
    atomic_store(&h->call, call);
}

void het_pulse_phase(het_pulse *h, int64_t step, const char *phase)
{
    if (h == NULL) return;
    const int begins = atomic_exchange(&h->step, step) == 0 && step > 0;
    atomic_store(&h->phase, phase);
    if (begins) wake(h); /* the others know at once that there are steps, also where a second does many */
}
