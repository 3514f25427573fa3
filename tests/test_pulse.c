/* Signs of life between processes, without MPI: who is lost, who is only at work, who says so. Every case is a job of its own;
 * all run at the same time. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/mpi/comm.h"
#include "../src/mpi/pulse.h"

enum { RANKS = 3 };
static const double LIMIT = 0.6; /* seconds; waiting is long after 15 of them */

static void pause_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void orderly(int rank, het_pulse *h)
{
    het_pulse_phase(h, 1, "task one");
    pause_ms(300 + 700 * rank); /* not all at once */
    het_pulse_leave(h);
    pause_ms(2500 - 700 * rank);
    het_pulse_free(h);
    pause_ms(300 * rank);
}

static void wait_for_ever(het_pulse *h)
{
    het_pulse_wait(h, "broadcast");
    pause_ms(60000);
}

static void one_stops(int rank, het_pulse *h)
{
    het_pulse_phase(h, 40 + rank, "task two");
    pause_ms(1500);
    if (rank == 1) raise(SIGSTOP);
    wait_for_ever(h);
}

static void root_stops(int rank, het_pulse *h)
{
    het_pulse_phase(h, 7, "task one");
    pause_ms(1500);
    if (rank == 0) raise(SIGSTOP);
    if (rank == 2) raise(SIGKILL); /* a node with both, say */
    wait_for_ever(h);
}

static void one_ends(int rank, het_pulse *h)
{
    het_pulse_phase(h, 5, "pose search");
    pause_ms(1500);
    if (rank == 2) _exit(3);
    wait_for_ever(h);
}

static void root_ends(int rank, het_pulse *h)
{
    pause_ms(1500);
    if (rank == 0) _exit(3);
    if (rank == 2) het_pulse_leave(h); /* only one shall speak here, where no mpirun ends the others */
    wait_for_ever(h);
}

static void listen_slowly(void *context, const char *text, int last)
{
    (void)context, (void)text, (void)last;
    pause_ms((long)(3000 * LIMIT));
}

/* A listener who writes to a slow file system does not keep rank 0 from giving signs of life. */
static void one_works(int rank, het_pulse *h)
{
    if (rank == 0) het_pulse_listen(h, listen_slowly, NULL);
    het_pulse_phase(h, 9, "the start");
    if (rank != 2) het_pulse_wait(h, "reduction");
    pause_ms((long)(1000 * 20 * LIMIT));
    het_pulse_wait(h, NULL);
    het_pulse_leave(h);
    het_pulse_free(h);
}

static void all_wait(int rank, het_pulse *h)
{
    pause_ms(1000 * rank);
    wait_for_ever(h);
}

static void switched_off(int rank, het_pulse *h)
{
    het_pulse_limit(h, 0.0);
    pause_ms(500);
    if (rank == 1) _exit(3);
    pause_ms(2500);
    het_pulse_leave(h);
    het_pulse_free(h);
}

static void all_stop(int rank, het_pulse *h)
{
    het_pulse_phase(h, rank, "task one");
    pause_ms(1500);
    raise(SIGSTOP);
    pause_ms(1500);
    het_pulse_leave(h);
    pause_ms(1000);
    het_pulse_free(h);
}

typedef enum protocol { BOTH, SIX, FOUR } protocol;

typedef struct job {
    void (*behave)(int rank, het_pulse *pulse);
    protocol allowed;
    pid_t pid[RANKS];
    int code[RANKS];     /* exit code, -signal; -1000: still there */
    char words[4096];
    FILE *said;
} job;

enum { ORDERLY, ONE_STOPS, ROOT_STOPS, ONE_ENDS, ROOT_ENDS, ONE_WORKS, ALL_WAIT, SWITCHED_OFF, ALL_STOP, SIX_STOPS, SIX_ENDS, FOUR_STOPS,
       FOUR_ENDS, JOBS };
static job jobs[JOBS] = {{.behave = orderly},   {.behave = one_stops}, {.behave = root_stops}, {.behave = one_ends},
                         {.behave = root_ends}, {.behave = one_works}, {.behave = all_wait},   {.behave = switched_off},
                         {.behave = all_stop},
                         {.behave = one_stops, .allowed = SIX},  {.behave = root_ends, .allowed = SIX},
                         {.behave = one_stops, .allowed = FOUR}, {.behave = root_ends, .allowed = FOUR}};

/* As on a system without IPv6: the socket is refused. */
static int forbid_six(void)
{
    struct sock_filter rules[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 3),
                                  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
                                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
                                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
                                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int is_four(const uint8_t address[16])
{
    struct in6_addr a;
    memcpy(a.s6_addr, address, 16);
    return IN6_IS_ADDR_V4MAPPED(&a);
}

/* The others learn of IPv6 addresses alone; without any the job cannot be: exit code 77. */
static void leave_six(het_pulse_root *root)
{
    int32_t kept = 0;
    for (int i = 0; i < root->count; i++)
        if (!is_four(root->address[i])) memmove(root->address[kept++], root->address[i], 16);
    root->count = kept;
}

static void be_rank(const job *j, int rank, const int pipe_end[2])
{
    het_pulse_root root;
    het_pulse *h = NULL;
    dup2(fileno(j->said), STDERR_FILENO);
    if (j->allowed == FOUR && !forbid_six()) _exit(77);
    if (rank == 0) h = het_pulse_new(rank, RANKS, &root);
    if (rank == 0 && j->allowed == SIX) leave_six(&root);
    for (int i = 1; rank == 0 && i < RANKS; i++)
        if (write(pipe_end[1], &root, sizeof root) != sizeof root) _exit(9);
    if (rank != 0 && read(pipe_end[0], &root, sizeof root) != sizeof root) _exit(9);
    if (root.count == 0) _exit(77);
    if (j->allowed == FOUR && !is_four(root.address[root.count - 1])) _exit(8);
    if (rank != 0) h = het_pulse_new(rank, RANKS, &root);
    het_pulse_limit(h, LIMIT);
    j->behave(rank, h);
    _exit(h == NULL ? 9 : 0);
}

static int start(void **state)
{
    (void)state;
    for (job *j = jobs; j < jobs + JOBS; j++) {
        int ends[2];
        j->said = tmpfile();
        if (j->said == NULL || pipe(ends) != 0) return 1;
        fcntl(fileno(j->said), F_SETFL, O_APPEND);
        for (int i = 0; i < RANKS; i++) {
            j->code[i] = -1000;
            j->pid[i] = fork();
            if (j->pid[i] == 0) be_rank(j, i, ends);
        }
        close(ends[0]);
        close(ends[1]);
    }
    return 0;
}

static void wait_for(job *j, int rank)
{
    int status = 0;
    for (int i = 0; i < 600 && waitpid(j->pid[rank], &status, WNOHANG) == 0; i++) pause_ms(100);
    j->code[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? -WTERMSIG(status) : -1000;
}

/* What was said, which must be one line when `lines` is 1. */
static void read_words(job *j, int lines)
{
    rewind(j->said);
    j->words[fread(j->words, 1, sizeof j->words - 1, j->said)] = '\0';
    int found = 0;
    for (const char *at = j->words; (at = strchr(at, '\n')) != NULL; at++) found++;
    if (found != lines) fprintf(stderr, "%d lines, not %d: %s", found, lines, j->words);
    assert_int_equal(found, lines);
}

static void says(const job *j, const char *part)
{
    if (strstr(j->words, part) == NULL) fprintf(stderr, "no '%s' in %s", part, j->words);
    assert_non_null(strstr(j->words, part));
}

/* A suspended job, or machine. */
static void test_all_stop(void **state)
{
    (void)state;
    job *j = &jobs[ALL_STOP];
    int status;
    for (int i = 0; i < RANKS; i++) waitpid(j->pid[i], &status, WUNTRACED);
    pause_ms(1500); /* longer than the limit */
    for (int i = 0; i < RANKS; i++) kill(j->pid[i], SIGCONT);
    for (int i = 0; i < RANKS; i++) {
        wait_for(j, i);
        assert_int_equal(j->code[i], 0);
    }
    read_words(j, 0);
}

static void test_leaving(void **state)
{
    (void)state;
    job *j = &jobs[ORDERLY];
    for (int i = 0; i < RANKS; i++) {
        wait_for(j, i);
        assert_int_equal(j->code[i], 0);
    }
    read_words(j, 0);
}

/* The rank that was stopped learns afterwards that all has ended. */
static void check_one_stops(job *j)
{
    wait_for(j, 0);
    if (j->code[0] == 77) skip();
    wait_for(j, 2);
    kill(j->pid[1], SIGCONT);
    wait_for(j, 1);
    for (int i = 0; i < RANKS; i++) assert_int_equal(j->code[i], HET_EXIT_LOST);
    read_words(j, 1);
    says(j, "hetacumn: error: rank 1 of 3 (process ");
    says(j, "is lost: no sign of life for 0.");
    says(j, "last heard in step 41, task two, at work; rank 0 is in step 40, task two, waiting in a broadcast");
}

static void test_one_stops(void **state)
{
    (void)state;
    check_one_stops(&jobs[ONE_STOPS]);
}

static void test_one_stops_six(void **state)
{
    (void)state;
    check_one_stops(&jobs[SIX_STOPS]);
}

static void test_one_stops_four(void **state)
{
    (void)state;
    check_one_stops(&jobs[FOUR_STOPS]);
}

static void test_root_stops(void **state)
{
    (void)state;
    job *j = &jobs[ROOT_STOPS];
    wait_for(j, 1);
    wait_for(j, 2);
    kill(j->pid[0], SIGCONT); /* it finds the others gone, and leaves the words to them */
    wait_for(j, 0);
    assert_int_equal(j->code[0], HET_EXIT_LOST);
    assert_int_equal(j->code[1], HET_EXIT_LOST);
    assert_int_equal(j->code[2], -SIGKILL);
    read_words(j, 1);
    says(j, "error: rank 0 of 3 (process ");
    says(j, "rank 1 is in step 7, task one, waiting in a broadcast");
}

static void test_one_ends(void **state)
{
    (void)state;
    job *j = &jobs[ONE_ENDS];
    for (int i = 0; i < RANKS; i++) wait_for(j, i);
    assert_int_equal(j->code[0], HET_EXIT_LOST);
    assert_int_equal(j->code[1], HET_EXIT_LOST);
    read_words(j, 1);
    says(j, "error: rank 2 of 3 (process ");
    says(j, "is lost: its process has ended; last heard in step 5, pose search, at work");
}

static void check_root_ends(job *j)
{
    wait_for(j, 0);
    if (j->code[0] == 77) skip();
    wait_for(j, 1);
    assert_int_equal(j->code[1], HET_EXIT_LOST);
    wait_for(j, 2);
    assert_int_equal(j->code[2], HET_EXIT_LOST); /* by silence, later */
    read_words(j, 2);
    says(j, "error: rank 0 of 3 (process ");
    says(j, "its process has ended; last heard before the first step");
}

static void test_root_ends(void **state)
{
    (void)state;
    check_root_ends(&jobs[ROOT_ENDS]);
}

static void test_root_ends_six(void **state)
{
    (void)state;
    check_root_ends(&jobs[SIX_ENDS]);
}

static void test_root_ends_four(void **state)
{
    (void)state;
    check_root_ends(&jobs[FOUR_ENDS]);
}

/* Nobody is lost; that others wait for long is said once. */
static void test_one_works(void **state)
{
    (void)state;
    job *j = &jobs[ONE_WORKS];
    for (int i = 0; i < RANKS; i++) {
        wait_for(j, i);
        assert_int_equal(j->code[i], 0);
    }
    read_words(j, 1);
    says(j, "warning: rank 2 is in step 9, the start, at work; others have waited for it for ");
}

static void test_all_wait(void **state)
{
    (void)state;
    job *j = &jobs[ALL_WAIT];
    for (int i = 0; i < RANKS; i++) {
        wait_for(j, i);
        assert_int_equal(j->code[i], HET_EXIT_LOST);
    }
    read_words(j, 1);
    says(j, "error: all ranks are alive, but have waited for one another for ");
}

static void test_switched_off(void **state)
{
    (void)state;
    job *j = &jobs[SWITCHED_OFF];
    for (int i = 0; i < RANKS; i++) {
        wait_for(j, i);
        assert_int_equal(j->code[i], i == 1 ? 3 : 0);
    }
    read_words(j, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_stop),   cmocka_unit_test(test_leaving),  cmocka_unit_test(test_one_stops),
        cmocka_unit_test(test_root_stops), cmocka_unit_test(test_one_ends), cmocka_unit_test(test_root_ends),
        cmocka_unit_test(test_one_works),  cmocka_unit_test(test_all_wait), cmocka_unit_test(test_switched_off),
        cmocka_unit_test(test_one_stops_six), cmocka_unit_test(test_root_ends_six), cmocka_unit_test(test_one_stops_four),
        cmocka_unit_test(test_root_ends_four),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
