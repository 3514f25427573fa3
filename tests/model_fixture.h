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
        for (int64_t j = 0; j < m->synthetic; j++) sum += b->loss[j];
        sum *= f->config.train.lambda_pose / (double)(f->spec.global_batch * f->config.train.pose_images);
    }
    het_model_backward(m, NULL, NULL);
    return sum;
}
