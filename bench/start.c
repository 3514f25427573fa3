/* Random starts one by one beside the truth that a simulated stack holds: log-likelihood and share of the signal explained, by
 * which the program chooses, and Rot (METHOD 8) and seconds. Usage: bench_start STACK [images] [rounds] [starts] [first seed] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/device.h"
#include "../src/clock.h"
#include "../src/data/stack.h"
#include "../src/mpi/comm.h"
#include "../src/physics/align.h"
#include "../src/start_search.h"
#include "../src/survey.h"

static const double RADIUS = 8.0;

typedef struct problem {
    het_device dev;
    het_stack *stack;
    het_config config;
    het_start_volume_spec spec;
    int64_t count, *index; /* images chosen */
    float *truth, *found; /* (images,9) */
} problem;

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) exit(1);
    return memory;
}

static het_status choose_images(problem *p, int64_t images)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(p->stack);
    float *all = room((size_t)info->count, 9 * sizeof *all);
    p->count = images;
    p->index = room((size_t)images, sizeof *p->index);
    p->truth = room((size_t)images, 9 * sizeof *p->truth);
    p->found = room((size_t)images, 9 * sizeof *p->found);
    for (int64_t i = 0; i < images; i++) p->index[i] = i * info->count / images;
    HET_TRY(het_stack_read_truth(p->stack, 0, info->count, &(het_stack_truth){.rotation = all}));
    for (int64_t i = 0; i < images; i++) memcpy(p->truth + 9 * i, all + 9 * p->index[i], 9 * sizeof *all);
done:
    free(all);
    return status;
}

static het_status start(problem *p, het_comm *comm, int rounds, uint64_t seed)
{
    het_status status = HET_OK;
    het_first_volume volume = {0};
    het_align align;
    const double began = het_seconds();
    HET_TRY(het_start_maximise(&volume, comm, &p->dev, p->stack, p->index, &p->spec, "",
                               (het_first_volume_spec){.count = p->count, .radius = RADIUS, .coarse_rounds = rounds, .seed = seed << 16}));
    const double seconds = het_seconds() - began;
    for (int64_t i = 0; i < p->count; i++)
        memcpy(p->found + 9 * i, volume.pose[i].rotation, 9 * sizeof *p->found);
    HET_TRY(het_align_rotations(&align, NULL, p->found, p->truth, p->count, HET_ALIGN_ANCHORS, 1));
    printf("%6llu %15.2f %10.3f %8.3f %8.1f\n", (unsigned long long)seed, volume.loglik, volume.explained, align.median, seconds);
    fflush(stdout);
done:
    het_first_volume_free(&volume);
    return status;
}

int main(int argc, char **argv)
{
    het_status status = HET_OK;
    het_comm *comm = NULL;
    het_survey survey;
    problem p = {0};
    if (argc < 2) {
        fprintf(stderr, "usage: bench_start STACK [images] [rounds] [starts] [first seed]\n");
        return 2;
    }
    const int64_t images = argc > 2 ? atoll(argv[2]) : 1000, first = argc > 5 ? atoll(argv[5]) : 1;
    const int rounds = argc > 3 ? atoi(argv[3]) : 30, starts = argc > 4 ? atoi(argv[4]) : 4;
    het_config_default(&p.config);
    HET_TRY(het_comm_open(&comm, &argc, &argv));
    HET_TRY(het_device_open_cpu(&p.dev, 0, HET_PRECISION_F32));
    HET_TRY(het_stack_open(&p.stack, argv[1]));
    const het_stack_info *info = het_stack_get_info(p.stack);
    HET_TRY(het_survey_new(&survey, info->box));
    HET_TRY(het_survey_take(&survey, comm, &p.dev, p.stack, &p.config));
    p.spec = (het_start_volume_spec){.init = &p.config.init, .shift_range = info->shift_range,
                                     .noise_variance = survey.noise_variance};
    HET_TRY(choose_images(&p, images < info->count ? images : info->count));
    printf("  seed  log-likelihood  explained      Rot  seconds   (%lld images, %d rounds, SNR %.3f)\n",
           (long long)p.count, rounds, survey.snr);
    for (int s = 0; s < starts; s++) HET_TRY(start(&p, comm, rounds, (uint64_t)(first + s)));
done:
    if (status != HET_OK) fprintf(stderr, "%s\n", het_status_message());
    return status != HET_OK;
}
