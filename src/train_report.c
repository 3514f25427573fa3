#include "train_report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "arena.h"
#include "data/json.h"
#include "log.h"
#include "schedule.h"

void het_report_start(het_report *r, const het_model *m, const het_survey *survey, const het_coordinator *c, int64_t step,
                      const het_times *times)
{
    r->times = times;
    r->past = *times;
    r->since = r->started = het_seconds();
    r->first_step = step;
    r->earlier = r->tally.images;
    het_info("%lld images of box %lld, %.4g A/px; SNR %.2f dB%s; shifts up to %.1f px; batch %lld in %lld shard(s)",
             (long long)c->count, (long long)c->box, m->spec.apix, 10.0 * log10(survey->snr),
             m->config.train.snr > 0.0 ? " (given)" : "", m->spec.shift_range, (long long)m->spec.global_batch,
             (long long)m->spec.global_groups);
    het_info("%s", het_device_name(m->dev));
    if (het_schedule_frozen(&m->config, (1.0 - 1e-9) * m->config.train.epochs, c->count))
        het_info("all images count as one conformation: z is frozen for %g epochs (train.freeze_epochs, train.freeze_images) and "
                 "train.epochs is %g", fmax(m->config.train.freeze_epochs, m->config.train.freeze_images / (double)c->count),
                 m->config.train.epochs);
    const double last = het_schedule_radius(&m->config, m->config.train.epochs, c->box), full = (double)(c->box / 2 - 1);
    if (last < full - 0.5)
        het_warn("the disc grows to %.1f of %.0f Fourier pixels by the last epoch, details of %.1f A: for finer maps raise "
                 "train.march_rate or train.epochs", last, full, (double)c->box * m->spec.apix / last);
}

void het_report_recall(het_report *r, het_survey *survey, const het_run_log *log)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(log->path, "r");
    while (file != NULL && getline(&text, &size, file) > 0) {
        json_t *line = json_loads(text, 0, NULL);
        const int frozen = json_is_true(json_object_get(line, "frozen"));
        const json_t *health = json_object_get(line, "health");
        if (json_is_integer(health)) {
            survey->floored = (json_integer_value(health) & HET_HEALTH_NO_SNR) != 0;
            r->said = (int)json_integer_value(health);
            (void)het_health_judge(&r->health, &(het_health_numbers){
                .images_seen = het_json_number(line, "images"), .spread = het_json_number(line, "rotation_spread"),
                .image_loss = het_json_number(line, "image_loss"), .zero_loss = het_json_number(line, "zero_loss"),
                .snr = survey->floored ? 0.0 : NAN, .snr_floor = 0.0, .skewness = het_json_number(line, "map_skewness"),
                .non_finite = het_json_number(line, "non_finite"), .z_rms = frozen ? NAN : het_json_number(line, "z_rms")});
        }
        json_decref(line);
    }
    if (file != NULL) fclose(file);
    free(text);
}

void het_report_add(het_report *r, const het_tally *tally)
{
    double *sum = (double *)&r->tally;
    const double *part = (const double *)tally;
    for (size_t i = 0; i < sizeof *tally / sizeof(double); i++) sum[i] += part[i];
}

/* The skewness of the map at z = 0 tells inverted contrast. NAN when there is no memory for it. */
static double map_skewness(het_model *m)
{
    const int64_t d = m->spec.box;
    float z[64] = {0}, *volume = het_alloc((size_t)(d * d * d) * sizeof *volume);
    double skewness = NAN;
    if (volume != NULL && het_model_volume(m, z, volume) == HET_OK) skewness = het_health_skewness(volume, d);
    het_release(volume);
    return skewness;
}

static void say_health(het_report *r, int findings, const het_health_numbers *numbers)
{
    char words[512];
    const het_health_finding worst = het_health_words(words, sizeof words, findings, numbers);
    if (worst != HET_HEALTH_GOOD && (r->said & (int)worst) == 0) het_warn("%s", words);
    r->said = findings; /* a finding that comes back is said again */
}

static json_t *object_of(const het_tally *t, const het_decision *d, const het_survey *survey, int64_t images, double rate,
                         double skewness, int findings)
{
    const double n = fmax(t->images, 1.0), s = fmax(t->synthetic, 1.0), p = fmax(t->spread_pairs, 1.0);
    return json_pack("{s:I, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:f, s:f, s:I, s:i, s:f}",
                     "step", (json_int_t)(d->step + 1), "epoch", d->epoch, "images", (json_int_t)images, "image_loss",
                     t->image_loss / n, "zero_loss", t->zero_loss / n, "kl", t->kl / n, "pose_loss", t->pose_loss / s,
                     "conformation_loss", t->conformation_loss / s,
                     "pose_rotation_error", t->rotation_error / s, "rotation_spread", t->spread / p, "mirrored",
                     t->mirrored / n, "z_rms", sqrt(t->z_square / n), "z_std", t->z_std / n, "radius", d->radius,
                     "rate", d->rate_encoder, "frozen", d->frozen, "snr_db", 10.0 * log10(survey->snr), "images_per_second", rate,
                     "non_finite", (json_int_t)t->non_finite, "health", findings, "map_skewness", skewness);
}

static void write_root(het_report *r, het_run *run, het_model *m, const het_survey *survey, const het_coordinator *c,
                       const het_decision *d, het_watch *watch)
{
    const het_tally *t = &r->tally;
    const double now = het_seconds(), n = fmax(t->images, 1.0), s = fmax(t->synthetic, 1.0);
    const double rate = (t->images - r->earlier) / fmax(now - r->since, 1e-9);
    const double left = (now - r->started) / (double)(d->step + 1 - r->first_step) * (double)(c->end - d->step - 1);
    const int64_t images = (d->step + 1) / het_schedule_cycle(c->config) * c->config->train.batch;
    const double spread = t->spread / fmax(t->spread_pairs, 1.0), skewness = map_skewness(m);
    const double box_pixels = (double)(m->spec.box * m->spec.box), disc = t->pixels / n; /* it grows between two reports */
    const het_health_numbers numbers = {.images_seen = (double)images, .spread = spread, .image_loss = t->image_loss / n,
                                        .zero_loss = t->zero_loss / n, .snr = survey->floored ? 0.0 : survey->snr,
                                        .snr_floor = 0.0, .skewness = skewness, .non_finite = t->non_finite,
                                        .noise_loss = survey->noise_variance * disc / box_pixels,
                                        .progress = d->epoch / c->config->train.epochs,
                                        .z_rms = d->frozen ? NAN : sqrt(t->z_square / n)};
    char health[80];
    const int findings = het_health_judge(&r->health, &numbers);
    het_health_names(health, sizeof health, findings);
    het_info("epoch %6.2f  radius %4.1f  image %.4f (nothing %.4f, explains %.0f %%)  pose %.4f  spread %.2f  z %.2f+-%.2f%s  "
             "%.0f images/s  %.0f min left  health: %s", d->epoch, d->radius, t->image_loss / n, t->zero_loss / n,
             100.0 * het_health_explained(&numbers), t->pose_loss / s, spread,
             sqrt(t->z_square / n), t->z_std / n, d->frozen ? " (frozen)" : "", rate, left / 60.0, health);
    say_health(r, findings, &numbers);
    het_watch_report(watch, &(het_watch_numbers){
        .step = d->step + 1, .steps = c->end, .epoch = d->epoch, .epochs = c->config->train.epochs,
        .image_loss = t->image_loss / n, .zero_loss = t->zero_loss / n, .pose_loss = t->pose_loss / s, .radius = d->radius,
        .z_rms = sqrt(t->z_square / n), .images_per_second = rate, .seconds_left = left, .findings = findings});
    const het_times *t0 = &r->past, *t1 = r->times;
    const double compute = t1->compute - t0->compute, sums = t1->sums - t0->sums, data = t1->data - t0->data;
    json_t *object = object_of(t, d, survey, images, rate, isfinite(skewness) ? skewness : 0.0, r->said);
    if (object != NULL)
        json_object_set_new(object, "seconds", json_pack("{s:f, s:f, s:f, s:f}", "compute", compute, "sums", sums, "data", data,
                                                         "other", now - r->since - compute - sums - data));
    char *line = object == NULL ? NULL : json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (line != NULL) het_run_log_add(&run->log, line); /* no line: a number was NaN, said above */
    free(line);
    json_decref(object);
}

void het_report_write(het_report *r, het_run *run, het_model *m, const het_survey *survey, const het_coordinator *c,
                      const het_decision *d, het_watch *watch)
{
    if (het_comm_rank(run->comm) == 0) write_root(r, run, m, survey, c, d, watch);
    r->tally = (het_tally){0};
    r->earlier = 0.0;
    r->past = *r->times;
    r->since = het_seconds();
}
