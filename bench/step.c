/* Time of one cycle of training, task one and task two with one synthetic image per real one, no loading.
 *
 *   bench_step [rounds] [batch] [threads] [section.key=value ...]
 *       At D = 32 and 64, in fp32 and bf16, with 1 and 2 threads (or those given): images per second, and
 *       what the parts take. Full disc, the network of the default configuration. Configurations take turns;
 *       every sample stands between two runs of a loop of multiply-adds and is dropped where the two differ
 *       by more than 10 %.
 *
 *   bench_step serve FILE box batches apix snr shift_range radius [section.key=value ...]
 *       For bench/pytorch/compare.py, on the device that HET_BENCH_DEVICE names (cpu): commands from standard
 *       input, one line of answer each. FILE holds float32: amplitude and power of box/2 shells, images (batches, train.batch, D, D), CTF rows (batches,
 *       train.batch, 7).
 *           step I K T     batch I through task T (1 or 2), random numbers of step K, and learn: objective
 *           cycle I N      batches I and N - 1 more through both tasks, and learn, each: milliseconds of one
 *           both I N       the same without the saving of winners: the decoder's backward pass for the losers too
 *           save PATH      the parameters, float32, into a file: how many
 *           rate           GFLOP/s of the loop of multiply-adds on all threads */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/arena.h"
#include "../src/model.h"
#include "../src/model_buffers.h"
#include "../src/rng.h"

enum { ROUNDS_MAX = 100, PARTS = 5, INPUTS = 4 };
static const char *const part_names[PARTS] = {"encoder fwd", "encoder bwd", "decoder fwd", "decoder bwd",
                                              "rest"};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(het_status status)
{
    if (status == HET_OK) return;
    fprintf(stderr, "bench_step: %s\n", het_status_message());
    exit(1);
}

/* ---- the machine's speed now --------------------------------------------------------------------------- */

typedef float lanes __attribute__((vector_size(64)));

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "arch=haswell", "default")))
#endif
static float multiply_add(long n)
{
    static volatile float small = 1e-9f;
    lanes a[8], x = {0};
    x += small;
    for (int i = 0; i < 8; i++) a[i] = x + (float)i;
    for (long j = 0; j < n; j++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) a[i] = a[i] * x + x;
    }
    float sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += a[i][0];
    return sum;
}

static volatile float sink;

static double machine_rate(int threads)
{
    const long n = 300000;
    const double start = now();
#pragma omp parallel num_threads(threads)
    sink = multiply_add(n);
    return 1e-9 * (double)threads * 8.0 * 32.0 * (double)n / (now() - start);
}

/* ---- a model with inputs ------------------------------------------------------------------------------- */

typedef struct subject {
    het_device device;
    het_config config;
    het_model_spec spec;
    het_survey survey;
    het_model *model;
    int64_t inputs;
    float *images;     /* (inputs, B, D, D) */
    het_ctf_row *rows; /* (inputs, B) */
    float *stored;     /* the images in a device's own memory, as in training; NULL on the host */
    int64_t *places;   /* 0, 1, .. (inputs B): what a batch takes of `stored` */
    int64_t steps;
    int32_t *rows_again; /* of the device */
    double seconds[ROUNDS_MAX], parts[PARTS][ROUNDS_MAX];
    double rate[ROUNDS_MAX]; /* the loop's around each sample, GFLOP/s */
    int samples;
} subject;

static void make_inputs(subject *s)
{
    const int64_t n = s->inputs * s->spec.batch, pixels = s->spec.box * s->spec.box;
    for (int64_t i = 0; i < n; i++) {
        het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        for (int64_t j = 0; j < pixels; j++) s->images[i * pixels + j] = het_rng_normal(&rng);
        s->rows[i] = (het_ctf_row){
            1.5e4f + 100.0f * (float)(i % 50), 1.4e4f, 0.1f * (float)(i % 30), 3e5f, 2.7e7f, 0.1f, 0};
    }
    for (int64_t r = 0; r < s->survey.shells; r++) {
        s->survey.envelope[r] = 1.0f;
        s->survey.power[r] = 1.0 / (double)s->survey.shells;
    }
    s->survey.snr = s->survey.noise_variance = 0.5;
}

static void allocate(subject *s)
{
    const int64_t n = s->inputs * s->spec.batch;
    check(het_survey_new(&s->survey, s->spec.box));
    s->images = het_alloc((size_t)(n * s->spec.box * s->spec.box) * sizeof *s->images);
    s->rows = het_alloc((size_t)n * sizeof *s->rows);
    s->places = het_alloc((size_t)n * sizeof *s->places);
    HET_ASSERT(s->images != NULL && s->rows != NULL && s->places != NULL);
    for (int64_t i = 0; i < n; i++) s->places[i] = i;
}

static void store_images(subject *s)
{
    const size_t bytes = (size_t)(s->inputs * s->spec.batch * s->spec.box * s->spec.box) * sizeof *s->images;
    if (s->device.on_host) return;
    s->stored = s->device.ops->alloc(&s->device, bytes);
    HET_ASSERT(s->stored != NULL);
    s->device.ops->upload(&s->device, s->stored, s->images, bytes);
}

/* With inputs that are there already. */
static void open_subject(subject *s, int threads, het_precision precision, double radius)
{
    check(het_config_check(&s->config));
    const char *device = getenv("HET_BENCH_DEVICE");
    check(het_device_open(&s->device, device == NULL ? "cpu" : device, 0, threads, precision));
    check(het_model_new(&s->model, &s->device, &s->config, &s->spec));
    het_model_set_survey(s->model, &s->survey);
    het_model_set_radius(s->model, radius, &s->survey);
    store_images(s);
}

static void close_subject(subject *s)
{
    if (s->stored != NULL) s->device.ops->release(&s->device, s->stored);
    if (s->rows_again != NULL) s->device.ops->release(&s->device, s->rows_again);
    het_model_free(s->model);
    if (s->model != NULL) het_device_close(&s->device);
    het_survey_free(&s->survey);
    het_release(s->images);
    het_release(s->rows);
    het_release(s->places);
}

/* As in training: the step's numbers are read before anything else begins. */
static void step(subject *s, int64_t input, het_task task, int64_t number)
{
    const int64_t n = s->spec.batch, first = input % s->inputs * n;
    const het_batch batch = {
        .count = n, .images = s->images + first * s->spec.box * s->spec.box, .ctf = s->rows + first,
        .stored = s->stored, .type = HET_F32, .index = s->places + first};
    het_tally tally = {0};
    het_model_gradients(s->model, task, &batch, number, 0, NULL, NULL);
    check(het_model_tally(s->model, &tally));
}

static void learn(subject *s)
{
    het_model_update(s->model, s->config.train.rate_encoder, s->config.train.rate_decoder);
}

/* The decoder's backward pass once more, for the first of each pair: what is left out for the loser takes as long.
 * What it adds to the gradients is cleared by the next step. */
static void backward_again(subject *s)
{
    const het_model *m = s->model;
    het_model_buffers *b = m->buffers;
    const int64_t n = s->spec.batch, pairs = s->config.train.mirror ? 2 : 1;
    if (s->rows_again == NULL) {
        int32_t *rows = het_alloc((size_t)n * sizeof *rows);
        s->rows_again = s->device.ops->alloc(&s->device, (size_t)n * sizeof *rows);
        HET_ASSERT(rows != NULL && s->rows_again != NULL);
        for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)(pairs * i);
        s->device.ops->upload(&s->device, s->rows_again, rows, (size_t)n * sizeof *rows);
        het_release(rows);
    }
    het_decoder_backward(m->decoder, m->grads, b->drot, b->dz, b->dslice, m->params, b->rot, b->z, s->rows_again, n, pairs * n,
                         m->active);
}

/* Seconds of each of `count` cycles. */
static double cycle(subject *s, int64_t input, int64_t count, int both)
{
    const double start = now();
    for (int64_t i = 0; i < count; i++) {
        step(s, input + i, HET_TASK_IMAGE, s->steps++);
        learn(s);
        if (both) backward_again(s);
        step(s, input + i, HET_TASK_POSE, s->steps++);
        learn(s);
    }
    check(s->device.ops->sync(&s->device));
    return (now() - start) / (double)count;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* The networks' calls of one cycle by themselves, on what the cycle left in the buffers. */
static void time_parts(const subject *s, double parts[PARTS])
{
    const het_model *m = s->model;
    het_model_buffers *b = m->buffers;
    const int64_t n = s->spec.batch, both = n * (s->config.train.mirror ? 2 : 1), p = m->active;
    double t[9];
    t[0] = now();
    het_encoder_forward(m->encoder[0], b->head, m->params, b->image);
    t[1] = now();
    het_encoder_backward(m->encoder[0], m->grads, b->dhead, m->params, 1.0f, NULL, NULL);
    t[2] = now();
    het_encoder_forward(m->encoder[1], b->head, m->params, b->image);
    t[3] = now();
    het_encoder_backward(m->encoder[1], m->grads, b->dhead, m->params, 1.0f, NULL, NULL);
    t[4] = now();
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, both, p);
    t[5] = now();
    het_decoder_backward(m->decoder, m->grads, b->drot, b->dz, b->dslice, m->params, b->rot, b->z, b->which,
                         n, both, p);
    t[6] = now();
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, m->synthetic, p);
    t[7] = now();
    parts[0] = t[1] - t[0] + t[3] - t[2];
    parts[1] = t[2] - t[1] + t[4] - t[3];
    parts[2] = t[5] - t[4] + t[7] - t[6];
    parts[3] = t[6] - t[5];
}

static void sample(subject *s, int64_t round)
{
    double parts[PARTS] = {0};
    const double before = machine_rate(s->device.threads), seconds = cycle(s, round, 1, 0);
    const double after = machine_rate(s->device.threads);
    time_parts(s, parts);
    if (round < 0 || s->samples == ROUNDS_MAX || fmin(before, after) < 0.9 * fmax(before, after)) return;
    s->rate[s->samples] = 0.5 * (before + after);
    s->seconds[s->samples] = parts[4] = seconds;
    for (int i = 0; i < PARTS; i++) {
        s->parts[i][s->samples] = parts[i];
        if (i < 4) s->parts[4][s->samples] = parts[4] -= parts[i];
    }
    s->samples++;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n == 0 ? NAN : values[n / 2];
}

static void report(subject *s)
{
    const double batch = (double)s->spec.batch, middle = median(s->seconds, s->samples);
    printf("D=%-3d %-4s %d threads, %2d kept: %7.1f images/s [%.1f..%.1f]  %8.1f ms;", (int)s->spec.box,
           s->device.precision == HET_BF16 ? "bf16" : "fp32", s->device.threads, s->samples, batch / middle,
           batch / s->seconds[s->samples - 1], batch / s->seconds[0], 1e3 * middle);
    for (int i = 0; i < PARTS; i++) printf(" %s %.1f", part_names[i], 1e3 * median(s->parts[i], s->samples));
    printf("; loop %.0f GFLOP/s\n", median(s->rate, s->samples));
}

static int table(int argc, char **argv)
{
    static subject subjects[8];
    static const int64_t boxes[] = {32, 64};
    const char *numbers[3] = {"10", "64", "0"};
    int given = 1, count = 0;
    for (; given < argc && given <= 3 && strchr(argv[given], '=') == NULL; given++)
        numbers[given - 1] = argv[given];
    const int rounds = atoi(numbers[0]), only_threads = atoi(numbers[2]);
    for (int i = 0; i < 8; i++) {
        const int threads = i / 4 + 1, bf16 = i % 2;
        subject *s = &subjects[count];
        if (only_threads > 0 && threads > 1) break;
        *s = (subject){.inputs = INPUTS};
        het_config_default(&s->config);
        s->config.train.pose_steps = s->config.train.pose_images = 1;
        for (int k = given; k < argc; k++) check(het_config_set(&s->config, argv[k]));
        s->spec = (het_model_spec){.box = boxes[i / 2 % 2],
                                   .apix = 3.0,
                                   .batch = atoi(numbers[1]),
                                   .groups = 1,
                                   .global_batch = atoi(numbers[1]),
                                   .global_groups = 1,
                                   .shift_range = 3.0};
        allocate(s);
        make_inputs(s);
        het_device probe;
        if (bf16 && het_device_open_cpu(&probe, 1, HET_PRECISION_BF16) != HET_OK) {
            close_subject(s);
            continue;
        }
        if (bf16) het_device_close(&probe);
        open_subject(s, only_threads > 0 ? only_threads : threads,
                     bf16 ? HET_PRECISION_BF16 : HET_PRECISION_F32, 1e9);
        count++;
    }
    for (int64_t round = -1; round < rounds; round++)
        for (int i = 0; i < count; i++) sample(&subjects[i], round);
    printf("%s\n", het_device_name(&subjects[0].device));
    for (int i = 0; i < count; i++) {
        if (subjects[i].samples > 0) report(&subjects[i]);
        close_subject(&subjects[i]);
    }
    return 0;
}

/* ---- serving compare.py -------------------------------------------------------------------------------- */

static void read_floats(FILE *file, float *to, int64_t n)
{
    if (fread(to, sizeof *to, (size_t)n, file) == (size_t)n) return;
    fprintf(stderr, "bench_step: the file of inputs is too short\n");
    exit(1);
}

static void read_inputs(subject *s, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    const int64_t n = s->inputs * s->spec.batch, shells = s->survey.shells;
    float *power = het_alloc((size_t)shells * sizeof *power);
    HET_ASSERT(power != NULL);
    read_floats(file, s->survey.envelope, shells);
    read_floats(file, power, shells);
    for (int64_t r = 0; r < shells; r++) s->survey.power[r] = power[r];
    read_floats(file, s->images, n * s->spec.box * s->spec.box);
    for (int64_t i = 0; i < n; i++) {
        float c[7];
        read_floats(file, c, 7);
        s->rows[i] = (het_ctf_row){c[0], c[1], c[2], c[3], c[4], c[5], c[6]};
    }
    het_release(power);
    fclose(file);
}

/* What the gradients of the last step belong to. */
static double objective(const subject *s, het_task task)
{
    const het_model_buffers *b = s->model->buffers;
    const het_ops *ops = s->device.ops;
    het_device *dev = s->model->dev;
    double sum = 0.0;
    float loss;
    if (task == HET_TASK_IMAGE) {
        for (int64_t j = 0; j < s->spec.batch; j++) {
            int32_t winner;
            ops->download(dev, &winner, b->which + j, sizeof winner);
            ops->download(dev, &loss, b->total + winner, sizeof loss);
            sum += loss;
        }
        return sum / (double)s->spec.batch;
    }
    for (int64_t j = 0; j < s->model->synthetic; j++) {
        ops->download(dev, &loss, b->loss + j, sizeof loss);
        sum += loss;
    }
    return sum * s->config.train.lambda_pose / (double)s->model->synthetic;
}

/* The parameters as the program holds them, for the other side to begin with; how many. */
static int64_t save_parameters(subject *s, const char *path)
{
    const het_model *m = s->model;
    const size_t count = (size_t)m->layout.total;
    float *block = het_alloc(count * sizeof *block);
    HET_ASSERT(block != NULL);
    s->device.ops->download(&s->device, block, m->params, count * sizeof *block);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(block, sizeof *block, count, file) != count || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    het_release(block);
    return (int64_t)count;
}

static int serve(int argc, char **argv)
{
    subject s = {0};
    char line[512], word[16], path[480];
    long long input, number, task;
    het_config_default(&s.config);
    for (int i = 8; i < argc; i++) check(het_config_set(&s.config, argv[i]));
    s.inputs = atoi(argv[3]);
    s.spec = (het_model_spec){.box = atoi(argv[2]),
                              .apix = atof(argv[4]),
                              .batch = s.config.train.batch,
                              .groups = 1,
                              .global_batch = s.config.train.batch,
                              .global_groups = 1,
                              .shift_range = atof(argv[6])};
    allocate(&s);
    s.survey.snr = atof(argv[5]);
    s.survey.noise_variance = 1.0;
    read_inputs(&s, argv[1]);
    open_subject(&s, (int)s.config.train.threads, (het_precision)s.config.train.precision, atof(argv[7]));
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "%15s", word) != 1) continue;
        if (strcmp(word, "rate") == 0) {
            printf("%.3f\n", machine_rate(s.device.threads > 0 ? s.device.threads : 1));
        } else if ((strcmp(word, "cycle") == 0 || strcmp(word, "both") == 0) &&
                   sscanf(line, "%*s %lld %lld", &input, &number) == 2 && number > 0) {
            printf("%.6f\n", 1e3 * cycle(&s, input, number, word[0] == 'b'));
        } else if (strcmp(word, "save") == 0 && sscanf(line, "%*s %479s", path) == 1) {
            printf("%lld\n", (long long)save_parameters(&s, path));
        } else if (strcmp(word, "step") == 0 &&
                   sscanf(line, "%*s %lld %lld %lld", &input, &number, &task) == 3) {
            step(&s, input, task == 1 ? HET_TASK_IMAGE : HET_TASK_POSE, number);
            printf("%.9g\n", objective(&s, s.model->task));
            learn(&s);
        } else {
            printf("?\n");
        }
        fflush(stdout);
    }
    close_subject(&s);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 9 && strcmp(argv[1], "serve") == 0) return serve(argc - 1, argv + 1);
    return table(argc, argv);
}
