#pragma once
/* Small models for tests/test_model*.c: cases of torch_dump.h5, and models with made-up images. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <hdf5.h>

#include "../src/arena.h"
#include "../src/model.h"
#include "../src/model_buffers.h"
#include "../src/rng.h"

/* A model with one batch and a survey. */
typedef struct fixture {
    het_device device;
    het_config config;
    het_model_spec spec;
    het_survey survey;
    het_model *model;
    float *images;
    het_ctf_row *rows;
    het_batch batch;
    double radius;
} fixture;

#define assert_ok(expression)                                                                \
    do {                                                                                     \
        if ((expression) != HET_OK) fail_msg("%s: %s", #expression, het_status_message());   \
    } while (0)

/* From fixture->config and ->spec, ->images, ->rows, ->survey and ->radius, all set. */
static inline void fixture_open(fixture *f, het_precision precision)
{
    assert_ok(het_config_check(&f->config));
    assert_ok(het_device_open_cpu(&f->device, 1, precision));
    assert_ok(het_model_new(&f->model, &f->device, &f->config, &f->spec));
    het_model_set_survey(f->model, &f->survey);
    het_model_set_radius(f->model, f->radius, &f->survey);
    f->batch = (het_batch){.count = f->spec.batch, .first = 0, .images = f->images, .ctf = f->rows};
}

/* A small model: blobs in noise that differ from image to image, astigmatic CTFs. Change what is wanted, then
 * open. */
static inline void fixture_fill(fixture *f, int64_t box, int64_t batch)
{
    static const char *const settings[] = {
        "encoder.width=16",       "encoder.stem_pool=false", "encoder.head=32",   "decoder.width=32",
        "decoder.frequencies=16", "decoder.layers=3",        "decoder.sigma=0.2", "z_dim=3",
        "train.lambda_z=0.01",    "train.lambda_t=0.05"};
    *f = (fixture){.radius = (double)box / 4.0};
    het_config_default(&f->config);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        assert_ok(het_config_set(&f->config, settings[i]));
    f->spec = (het_model_spec){.box = box, .apix = 3.0, .batch = batch, .global_batch = batch, .groups = 1,
                               .global_groups = 1, .shift_range = 2.0};
    assert_ok(het_survey_new(&f->survey, box));
    f->survey.snr = 0.5;
    f->survey.noise_variance = 0.7;
    for (int64_t r = 0; r < f->survey.shells; r++) {
        f->survey.power[r] = 0.1 * exp(-(double)r / 6.0);
        f->survey.envelope[r] = 0.1f + 2.0f * expf(-(float)r / 6.0f);
    }
    f->images = het_alloc((size_t)(batch * box * box) * sizeof *f->images);
    f->rows = het_alloc((size_t)batch * sizeof *f->rows);
    for (int64_t i = 0; i < batch; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        const double cx = 0.2 * het_rng_normal(&rng), cy = 0.2 * het_rng_normal(&rng);
        for (int64_t j = 0; j < box * box; j++) {
            const double x = 4.0 * (double)(j % box) / (double)box - 2.0,
                         y = 4.0 * (double)(j / box) / (double)box - 2.0;
            const double blob = exp(-4.0 *
                                    ((x - cx) * (x - cx) + 3.0 * (y - cy - cx * x) * (y - cy - cx * x)));
            f->images[i * box * box + j] = 2.0f * (float)blob + 0.7f * het_rng_normal(&rng);
        }
        f->rows[i] = (het_ctf_row){
            15000.0f + 900.0f * (float)i, 14000.0f, 0.4f * (float)i, 300e3f, 2.7e7f, 0.1f, 0.0f};
    }
}

static inline void fixture_close(fixture *f)
{
    het_model_free(f->model);
    het_device_close(&f->device);
    het_survey_free(&f->survey);
    het_release(f->images);
    het_release(f->rows);
}

/* Forward and backward of a task into zeroed gradients; returns the loss that the gradients belong to. */
static inline double fixture_run(fixture *f, het_task task, int64_t step, int frozen)
{
    het_model *m = f->model;
    const het_model_buffers *b = m->buffers;
    double sum = 0.0;
    het_model_zero_grad(m);
    het_model_forward(m, task, &f->batch, step, frozen);
    if (task == HET_TASK_IMAGE) {
        for (int64_t j = 0; j < f->spec.batch; j++) sum += b->total[b->which[j]];
        sum /= (double)f->spec.global_batch;
    } else {
        double about_z = 0.0; /* where task one had z given */
        for (int64_t j = 0; j < m->synthetic; j++) {
            sum += b->loss[j];
            if (m->z_given && !frozen) about_z += b->kl[j];
        }
        sum = (sum * f->config.train.lambda_pose + about_z * f->config.init.lambda_z) /
              (double)(f->spec.global_batch * f->config.train.pose_images);
    }
    het_model_backward(m, NULL, NULL);
    return sum;
}
