#include "config.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum kind { WHOLE, NUMBER, TRUTH, CHOICE } kind; /* int64_t, double, int as a truth value, int as an enum */

typedef struct row {
    const char *name;    /* section.key, or key alone */
    kind kind;
    size_t offset;       /* in het_config */
    double normal;       /* default */
    double min, max;
    int fixed;           /* a run cannot go on when it changes */
    const char *help;
    const char *choices; /* CHOICE: names of the values 0, 1, ..., separated by '|' */
} row;

#define AT(member) offsetof(het_config, member)

enum { FREE, FIXED };
enum { DETERMINISTIC_SHARDS = 4 };

/* The one place that knows a key: parsing, ranges, defaults, help, saving and comparing follow from its row. Keys of a
 * section stand together. */
static const row rows[] = {
    {"z_dim", WHOLE, AT(z_dim), 8, 1, 64, FIXED, "dimensions of the conformation", NULL},
    {"encoder.width", WHOLE, AT(encoder.width), 64, 16, 512, FIXED,
     "channels of the first stage (multiple of 16)", NULL},
    {"encoder.pool", CHOICE, AT(encoder.pool), HET_POOL_FLATTEN, 0, 1, FIXED,
     "what joins the last stage and the heads", "flatten|avg"},
    {"encoder.stem_pool", TRUTH, AT(encoder.stem_pool), 1, 0, 1, FIXED, "3x3/2 max pooling after the stem",
     NULL},
    {"encoder.stem_stride", WHOLE, AT(encoder.stem_stride), 2, 1, 2, FIXED,
     "stride of the stem's convolution", NULL},
    {"encoder.head", WHOLE, AT(encoder.head), 256, 1, 4096, FIXED, "hidden width of each head", NULL},
    {"encoder.norm", CHOICE, AT(encoder.norm), HET_ENCODER_BATCH_NORM, 0, 1, FIXED,
     "normalisation after the convolutions: batch norm, or group norm of 16 channels each", "batch|group"},
    {"encoder.shift_unit", CHOICE, AT(encoder.shift_unit), HET_SHIFT_BOX, 0, 1, FIXED,
     "unit of the shift head, and of the shift terms of the losses", "box|pixel"},
    {"encoder.standardise", CHOICE, AT(encoder.standardise), HET_STANDARDISE_SET, 0, 1, FIXED,
     "the encoder's images have unit variance over the data set, or mean 0 and variance 1 each", "set|image"},
    {"encoder.window_inner", NUMBER, AT(encoder.window_inner), 0.85, 0, 2, FIXED,
     "radius where the soft window starts to fall (half-boxes)", NULL},
    {"encoder.window_outer", NUMBER, AT(encoder.window_outer), 0.99, 0, 2, FIXED,
     "radius where the soft window reaches 0 (half-boxes)", NULL},
    {"encoder.separate_stats", TRUTH, AT(encoder.separate_stats), 1, 0, 1, FIXED,
     "own running statistics for real and synthetic images", NULL},
    {"encoder.stats_momentum", NUMBER, AT(encoder.stats_momentum), 0.05, 1e-6, 1, FREE,
     "momentum of the running statistics", NULL},
    {"decoder.width", WHOLE, AT(decoder.width), 256, 32, 4096, FIXED, "hidden width (multiple of 32)", NULL},
    {"decoder.frequencies", WHOLE, AT(decoder.frequencies), 192, 16, 4096, FIXED, "random Fourier features (multiple of 16)",
     NULL},
    {"decoder.layers", WHOLE, AT(decoder.layers), 4, 1, 8, FIXED, "hidden activations", NULL},
    {"decoder.residual", TRUTH, AT(decoder.residual), 1, 0, 1, FIXED,
     "each layer after the first adds to the one before", NULL},
    {"decoder.sigma", NUMBER, AT(decoder.sigma), 0.5, 1e-3, 100, FIXED,
     "spread of the frequencies (units of a quarter box)", NULL},
    {"decoder.envelope", TRUTH, AT(decoder.envelope), 1, 0, 1, FIXED,
     "scale the output by the data's radial amplitude", NULL},
    {"init.method", CHOICE, AT(init.method), HET_START_SEARCH, 0, 1, FIXED,
     "start from nothing, or from a volume found by pose search from random starts", "none|search"},
    {"init.images", WHOLE, AT(init.images), 4000, 100, 1e6, FIXED, "images that the start looks at", NULL},
    {"init.starts", WHOLE, AT(init.starts), 8, 1, 1000, FIXED, "random starts at most, until two agree", NULL},
    {"init.search_images", WHOLE, AT(init.search_images), 1000, 100, 1e6, FIXED, "images of each random start; those after the second take more", NULL},
    {"init.search_rounds", WHOLE, AT(init.search_rounds), 30, 1, 1000, FIXED,
     "rounds of expectation-maximisation of each random start", NULL},
    {"init.radius", NUMBER, AT(init.radius), 12, 4, 12, FIXED,
     "radius of the start, and where marching begins after it (Fourier pixels)", NULL},
    {"init.rounds", WHOLE, AT(init.rounds), 8, 1, 1000, FIXED,
     "rounds of expectation-maximisation from the best random start", NULL},
    {"init.fine_rounds", WHOLE, AT(init.fine_rounds), 6, 0, 1000, FIXED,
     "rounds at most that make the poses found as fine as the images allow, where the box has 1.5 times init.radius Fourier pixels", NULL},
    {"init.components", WHOLE, AT(init.components), 4, 0, 8, FIXED,
     "components of a linear model of the images that gives the first conformations; 0: random ones", NULL},
    {"init.epochs", NUMBER, AT(init.epochs), 8, 0, 1e6, FIXED,
     "passes of the decoder over the start's images at the poses found", NULL},
    {"init.join_epoch", NUMBER, AT(init.join_epoch), -1, -1, 1e6, FIXED,
     "epochs with conformations after which poses are searched anew and put into one frame; 0: never, -1: in mid-training, twice",
     NULL},
    {"init.keep_epochs", NUMBER, AT(init.keep_epochs), 1e6, 0, 1e6, FIXED,
     "epochs in which task one uses the poses found, while task two teaches the encoder", NULL},
    {"init.lambda_z", NUMBER, AT(init.lambda_z), 0.03, 0, 1e6, FREE,
     "weight of the conformation of synthetic images, which the encoder learns meanwhile", NULL},
    {"init.prior_z", NUMBER, AT(init.prior_z), -1, -1, 1e6, FREE,
     "weight of |z|^2/2 of the conformation of each image meanwhile; -1: by the noise, twice that of a normal prior", NULL},
    {"init.rate_z", NUMBER, AT(init.rate_z), 0.1, 0, 10, FREE,
     "Adam's rate for the conformation of each image meanwhile", NULL},
    {"train.method", CHOICE, AT(train.method), HET_METHOD_HETACUMN, 0, 2, FIXED,
     "the method: this one, or one of those it is compared with", "hetacumn|cryofire|cryodrgn2"},
    {"train.seed", WHOLE, AT(train.seed), 1, 0, 9007199254740992.0, FIXED, "seed of every random number",
     NULL},
    {"train.batch", WHOLE, AT(train.batch), 64, 1, 1048576, FIXED, "images per step over all ranks", NULL},
    {"train.shards", WHOLE, AT(train.shards), 0, 0, 1048576, FIXED,
     "batch-norm groups of the batch (0: the number of ranks at the start, or 4 with train.deterministic)", NULL},
    {"train.deterministic", TRUTH, AT(train.deterministic), 0, 0, 1, FIXED,
     "the same results, bit for bit, on 1, 2, 4, ... ranks (powers of two, at most train.shards)", NULL},
    {"train.epochs", NUMBER, AT(train.epochs), 40, 0, 1e6, FREE, "passes over the stack", NULL},
    {"train.rate_encoder", NUMBER, AT(train.rate_encoder), 3e-4, 0, 1, FREE, "Adam's rate for the encoder",
     NULL},
    {"train.rate_decoder", NUMBER, AT(train.rate_decoder), 1e-3, 0, 1, FREE, "Adam's rate for the decoder",
     NULL},
    {"train.rate_final", NUMBER, AT(train.rate_final), 0.1, 0, 1, FREE,
     "fraction of the rates at the end (cosine)", NULL},
    {"train.lambda_z", NUMBER, AT(train.lambda_z), 1e-4, 0, 1e6, FREE, "weight of the conformation's KL term",
     NULL},
    {"train.lambda_t", NUMBER, AT(train.lambda_t), 1e-3, 0, 1e6, FREE, "weight of the shift penalty", NULL},
    {"train.lambda_pose", NUMBER, AT(train.lambda_pose), 0.3, 0, 1e6, FREE, "weight of the pose task", NULL},
    {"train.pose_steps", WHOLE, AT(train.pose_steps), 2, 0, 100, FIXED, "pose steps per image step", NULL},
    {"train.pose_images", WHOLE, AT(train.pose_images), 2, 1, 64, FIXED,
     "synthetic images per real image in each pose step", NULL},
    {"train.mirror", TRUTH, AT(train.mirror), 1, 0, 1, FREE, "symmetrised loss", NULL},
    {"train.augment", TRUTH, AT(train.augment), 0, 0, 1, FREE,
     "task one shows the encoder images turned by random multiples of 90 degrees", NULL},
    {"train.march_start", NUMBER, AT(train.march_start), 3.5, 0, 2048, FREE,
     "first radius of frequency marching (Fourier pixels; 0: full disc from the start)", NULL},
    {"train.march_rate", NUMBER, AT(train.march_rate), 0, 0, 1e6, FREE,
     "growth per epoch (Fourier pixels; 0: the disc is full after 0.3 of train.epochs)", NULL},
    {"train.freeze_epochs", NUMBER, AT(train.freeze_epochs), 2, 0, 1e6, FREE,
     "epochs with the conformation head frozen", NULL},
    {"train.freeze_images", NUMBER, AT(train.freeze_images), 0, 0, 1e15, FREE,
     "the same in images seen; the larger of both counts", NULL},
    {"train.freeze_z", CHOICE, AT(train.freeze_z), HET_FROZEN_ZERO, 0, 1, FREE, "conformation while frozen",
     "zero|normal"},
    {"train.shift_range", NUMBER, AT(train.shift_range), -1, -1, 2048, FREE,
     "shift of the synthetic images in pixels (below 0: the stack's own)", NULL},
    {"train.snr", NUMBER, AT(train.snr), 0, 0, 1e6, FREE,
     "signal-to-noise ratio (0: estimated from the stack)", NULL},
    {"train.precision", CHOICE, AT(train.precision), 0, 0, 2, FREE, "of activations and matrix products",
     "auto|fp32|bf16"}, /* in the order of het_precision */
    {"train.threads", WHOLE, AT(train.threads), 0, 0, 4096, FREE, "per rank (0: all cores of the rank)",
     NULL},
    {"search.every", NUMBER, AT(search.every), 2, 1e-3, 1e6, FREE,
     "of train.method=cryodrgn2: epochs from one search for poses to the next", NULL},
    {"search.pretrain", NUMBER, AT(search.pretrain), 10000, 0, 1e15, FIXED,
     "images that the decoder sees at random poses before the first search", NULL},
    {"refine.rounds", WHOLE, AT(refine.rounds), 8, 0, 100, FREE, "of --refine: poses, then volumes", NULL},
    {"refine.candidates", WHOLE, AT(refine.candidates), 2, 0, 16, FREE,
     "poses from a search that are tried for each image besides the present one", NULL},
    {"refine.steps", WHOLE, AT(refine.steps), 4, 1, 100, FREE,
     "iterations of a pose, at half the radius and again at the full one", NULL},
    {"refine.epochs", NUMBER, AT(refine.epochs), 5, 0, 1e6, FREE, "passes of the decoder over the stack in each round", NULL},
    {"refine.rate", NUMBER, AT(refine.rate), 1, 0, 100, FREE,
     "rate of the decoder (fraction of train.rate_decoder), falling to a tenth in each round", NULL},
    {"refine.learn_z", TRUTH, AT(refine.learn_z), 1, 0, 1, FREE,
     "conformations that training learned image by image go on learning (at init.rate_z, falling likewise)", NULL},
    {"ablation.cpp", TRUTH, AT(ablation.cpp), 1, 0, 1, FIXED, "concurrent pose prediction", NULL},
    {"ablation.fch", TRUTH, AT(ablation.fch), 1, 0, 1, FIXED, "frozen conformation head at the start", NULL},
    {"ablation.pds", TRUTH, AT(ablation.pds), 1, 0, 1, FIXED,
     "z of the synthetic images from the posterior of the last batch", NULL},
    {"ablation.asn", TRUTH, AT(ablation.asn), 1, 0, 1, FIXED,
     "noise of the synthetic images at the data's signal-to-noise ratio", NULL},
    {"run.checkpoint_minutes", NUMBER, AT(run.checkpoint_minutes), 10, 0, 1e6, FREE,
     "time between checkpoints", NULL},
    {"run.checkpoint_steps", WHOLE, AT(run.checkpoint_steps), 0, 0, 1e15, FREE,
     "steps between checkpoints (0: by time and at the end only)", NULL},
    {"run.keep", WHOLE, AT(run.keep), 2, 1, 1e6, FREE, "newest checkpoints kept", NULL},
    {"run.keep_every", WHOLE, AT(run.keep_every), 0, 0, 1e6, FREE,
     "epochs from one checkpoint that is kept for good to the next (0: none is)", NULL},
    {"run.log_steps", WHOLE, AT(run.log_steps), 50, 1, 1e9, FREE, "steps between reports", NULL},
    {"run.device_data", CHOICE, AT(run.device_data), HET_DEVICE_DATA_AUTO, 0, 2, FREE,
     "the images in the device's memory while training goes on (auto: in a GPU's where they fit; no result changes)", "auto|yes|no"},
    {"run.watchdog", NUMBER, AT(run.watchdog), 20, 0, 1e6, FREE,
     "seconds without a sign of life after which a rank is lost and all end (0: never)", NULL},
};

enum { ROWS = sizeof rows / sizeof rows[0], TEXT_SIZE = 64 };
_Static_assert(ROWS <= 128, "het_config.named has a bit for each key");

static double get(const het_config *config, const row *r)
{
    const char *at = (const char *)config + r->offset;
    if (r->kind == WHOLE) return (double)*(const int64_t *)at;
    if (r->kind == NUMBER) return *(const double *)at;
    return *(const int *)at;
}

static void put(het_config *config, const row *r, double value)
{
    char *at = (char *)config + r->offset;
    if (r->kind == WHOLE) *(int64_t *)at = (int64_t)value;
    else if (r->kind == NUMBER) *(double *)at = value;
    else *(int *)at = (int)value;
}

/* The shortest decimal text that reads back as the same number. */
static void print_number(char text[TEXT_SIZE], double value)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, TEXT_SIZE, "%.*g", digits, value);
        if (strtod(text, NULL) == value) return;
    }
}

static void print_value(char text[TEXT_SIZE], const row *r, double value)
{
    if (r->kind == TRUTH) {
        snprintf(text, TEXT_SIZE, "%s", value != 0 ? "true" : "false");
    } else if (r->kind == WHOLE) {
        snprintf(text, TEXT_SIZE, "%lld", (long long)value);
    } else if (r->kind == NUMBER) {
        print_number(text, value);
    } else {
        const char *name = r->choices;
        for (int i = 0; i < (int)value; i++) name = strchr(name, '|') + 1;
        snprintf(text, TEXT_SIZE, "%.*s", (int)strcspn(name, "|"), name);
    }
}

static void print_allowed(char text[4 * TEXT_SIZE], const row *r)
{
    char low[TEXT_SIZE], high[TEXT_SIZE];
    if (r->kind == TRUTH) {
        snprintf(text, 4 * TEXT_SIZE, "true or false");
    } else if (r->kind == CHOICE) {
        snprintf(text, 4 * TEXT_SIZE, "one of %s", r->choices);
    } else {
        print_value(low, r, r->min);
        print_value(high, r, r->max);
        snprintf(text, 4 * TEXT_SIZE, "a %snumber from %s to %s", r->kind == WHOLE ? "whole " : "", low,
                 high);
    }
}

/* The text as a number of the row's kind; 0 when it is none or out of range. */
static int parse(double *value, const row *r, const char *text)
{
    if (r->kind == TRUTH) {
        const int yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
        const int no = strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
        *value = yes;
        return yes || no;
    }
    if (r->kind == CHOICE) {
        const char *name = r->choices;
        for (int i = 0; name != NULL; i++) {
            const size_t length = strcspn(name, "|");
            *value = i;
            if (strlen(text) == length && memcmp(text, name, length) == 0) return 1;
            name = name[length] == '|' ? name + length + 1 : NULL;
        }
        return 0;
    }
    char *end;
    errno = 0;
    *value = r->kind == WHOLE ? (double)strtoll(text, &end, 10) : strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && *value >= r->min && *value <= r->max;
}

static het_status assign(het_config *config, const row *r, const char *text)
{
    double value = 0;
    char allowed[4 * TEXT_SIZE];
    if (parse(&value, r, text)) {
        put(config, r, value);
        config->named[(r - rows) / 64] |= UINT64_C(1) << (r - rows) % 64;
        return HET_OK;
    }
    print_allowed(allowed, r);
    return het_fail(HET_E_USAGE, "%s = %.80s: it must be %s", r->name, text, allowed);
}

/* "train.batch" -> "batch", and the length of "train" (0: no section). */
static const char *short_name(const row *r, size_t *section)
{
    const char *dot = strchr(r->name, '.');
    *section = dot ? (size_t)(dot - r->name) : 0;
    return dot ? dot + 1 : r->name;
}

/* The error for a key that does not exist: names the keys of its section or, when that does not exist either, the keys
 * and sections at the top. */
static het_status unknown_key(const char *name)
{
    char inside[700] = "", top[700] = "";
    size_t inside_length = 0, top_length = 0, last = 0;
    const size_t wanted = strcspn(name, ".");
    for (int i = 0; i < ROWS; i++) {
        size_t section;
        const char *key = short_name(&rows[i], &section);
        if (section > 0 && section == wanted && strncmp(rows[i].name, name, section) == 0)
            inside_length += (size_t)snprintf(inside + inside_length, sizeof inside - inside_length, "%s%s",
                                              inside_length ? ", " : "", key);
        const int first =
            section == 0 || section != last || strncmp(rows[i].name, rows[i - 1].name, section) != 0;
        if (first)
            top_length += (size_t)snprintf(top + top_length, sizeof top - top_length, "%s%.*s%s",
                                           top_length ? ", " : "", (int)(section ? section : strlen(key)),
                                           rows[i].name, section ? ".*" : "");
        HET_ASSERT(inside_length < sizeof inside && top_length < sizeof top);
        last = section;
    }
    return het_fail(HET_E_USAGE, "%.80s: there is no such key; there are %s", name,
                    inside_length ? inside : top);
}

void het_config_default(het_config *config)
{
    *config = (het_config){0};
    for (int i = 0; i < ROWS; i++) put(config, &rows[i], rows[i].normal);
}

het_status het_config_set(het_config *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL)
        return het_fail(HET_E_USAGE, "--set %.80s: write it as section.key=value", assignment);
    const size_t length = (size_t)(equals - assignment);
    for (int i = 0; i < ROWS; i++)
        if (strlen(rows[i].name) == length && memcmp(rows[i].name, assignment, length) == 0)
            return assign(config, &rows[i], equals + 1);
    char name[81];
    snprintf(name, sizeof name, "%.*s", (int)(length < 80 ? length : 80), assignment);
    return unknown_key(name);
}

/* cryoFIRE (Levy et al. 2022, arXiv:2210.07387): one encoder for poses and conformations, the symmetrised loss,
 * no second task. cryoDRGN2 (Zhong et al. 2021, ICCV): poses by search, an encoder for conformations; with a pose
 * for every image there is nothing that its mirror could add. Neither has a start. The search finds nothing in the
 * very coarse discs in which an encoder learns best: it begins at 6 Fourier pixels. */
static const struct {
    const char *when; /* this key */
    double is;        /* having this value */
    const char *key;  /* means this for that one */
    double value;
    int firm;         /* nothing else makes sense; 0: another default */
} implied[] = {{"train.method", HET_METHOD_CRYOFIRE, "init.method", HET_START_NONE, 1},
               {"train.method", HET_METHOD_CRYOFIRE, "ablation.cpp", 0, 1},
               {"train.method", HET_METHOD_CRYOFIRE, "train.mirror", 1, 1},
               {"train.method", HET_METHOD_CRYODRGN2, "init.method", HET_START_NONE, 1},
               {"train.method", HET_METHOD_CRYODRGN2, "ablation.cpp", 0, 1},
               {"train.method", HET_METHOD_CRYODRGN2, "train.mirror", 0, 1},
               {"train.method", HET_METHOD_CRYODRGN2, "train.march_start", 6, 0},
               {"init.method", HET_START_NONE, "train.freeze_epochs", 20, 0}, /* wrong poses at first */
               {"init.method", HET_START_NONE, "train.march_rate", 0.25, 0},
               {"train.method", HET_METHOD_CRYODRGN2, "train.freeze_epochs", 10, 0}};

static const row *row_of(const char *name)
{
    const row *r = rows;
    while (strcmp(r->name, name) != 0) r++;
    return r;
}

/* In the table's order: what is implied can imply more. */
het_status het_config_resolve(het_config *config)
{
    for (size_t i = 0; i < sizeof implied / sizeof *implied; i++) {
        const row *r = row_of(implied[i].key), *when = row_of(implied[i].when);
        const int named = config->named[(r - rows) / 64] >> (r - rows) % 64 & 1;
        if (get(config, when) != implied[i].is || (named && get(config, r) == implied[i].value)) continue;
        if (!named) {
            put(config, r, implied[i].value);
        } else if (implied[i].firm) {
            char given[TEXT_SIZE], name[TEXT_SIZE], wanted[TEXT_SIZE];
            print_value(given, r, get(config, r));
            print_value(wanted, r, implied[i].value);
            print_value(name, when, get(config, when));
            return het_fail(HET_E_USAGE, "%s = %s does not go with %s=%s, which means %s: leave that key out", r->name,
                            given, when->name, name, wanted);
        }
    }
    return HET_OK;
}

int64_t het_config_shards(const het_config *config, int ranks)
{
    if (config->train.shards > 0) return config->train.shards;
    return config->train.deterministic ? DETERMINISTIC_SHARDS : ranks;
}

het_status het_config_check(const het_config *config)
{
    const int64_t shards = het_config_shards(config, 1);
    for (int i = 0; i < ROWS; i++) {
        const double value = get(config, &rows[i]);
        if (value >= rows[i].min && value <= rows[i].max) continue;
        char allowed[4 * TEXT_SIZE];
        print_allowed(allowed, &rows[i]);
        return het_fail(HET_E_USAGE, "%s = %g: it must be %s", rows[i].name, value, allowed);
    }
    static const struct {
        const char *name;
        size_t offset;
        int64_t of;
    } multiples[] = {{"encoder.width", AT(encoder.width), 16},
                     {"decoder.width", AT(decoder.width), 32},
                     {"decoder.frequencies", AT(decoder.frequencies), 16}};
    for (size_t i = 0; i < sizeof multiples / sizeof *multiples; i++) {
        const int64_t value = *(const int64_t *)((const char *)config + multiples[i].offset);
        if (value % multiples[i].of != 0)
            return het_fail(HET_E_USAGE, "%s = %lld: it must be a multiple of %lld", multiples[i].name,
                            (long long)value, (long long)multiples[i].of);
    }
    if (config->encoder.window_inner >= config->encoder.window_outer)
        return het_fail(HET_E_USAGE, "encoder.window_inner = %g: it must be below encoder.window_outer = %g",
                        config->encoder.window_inner, config->encoder.window_outer);
    if (config->train.shards > config->train.batch)
        return het_fail(HET_E_USAGE, "train.shards = %lld: it must be at most train.batch = %lld",
                        (long long)config->train.shards, (long long)config->train.batch);
    if (config->train.batch % shards != 0)
        return het_fail(HET_E_USAGE, "train.batch = %lld is no multiple of train.shards = %lld: choose one that is",
                        (long long)config->train.batch, (long long)shards);
    if (config->train.deterministic && (shards & (shards - 1)) != 0)
        return het_fail(HET_E_USAGE, "train.shards = %lld: with train.deterministic it must be a power of two",
                        (long long)shards);
    return HET_OK;
}

int het_config_differences(const het_config *now, const het_config *was, int only_fixed, char *text,
                           size_t size)
{
    int count = 0;
    size_t length = 0;
    if (size > 0) text[0] = '\0';
    for (int i = 0; i < ROWS; i++) {
        const double a = get(now, &rows[i]), b = get(was, &rows[i]);
        if (a == b || (only_fixed && !rows[i].fixed)) continue;
        char new_value[TEXT_SIZE], old_value[TEXT_SIZE];
        print_value(new_value, &rows[i], a);
        print_value(old_value, &rows[i], b);
        if (length < size)
            length += (size_t)snprintf(text + length, size - length, "%s%s (%s, was %s)", count ? ", " : "",
                                       rows[i].name, new_value, old_value);
        count++;
    }
    return count;
}

void het_config_help(void)
{
    for (int i = 0; i < ROWS; i++) {
        char value[TEXT_SIZE], allowed[4 * TEXT_SIZE];
        print_value(value, &rows[i], rows[i].normal);
        print_allowed(allowed, &rows[i]);
        printf("  %-24s %-8s %s; %s%s\n", rows[i].name, value, rows[i].help, allowed,
               rows[i].fixed ? "; fixed for a run" : "");
    }
}

/* ---- YAML. libcyaml checks the structure by a schema made from the rows. Its leaves are texts, read by parse(): its own
 * numbers take trailing garbage ("64x") and know no ranges. */

typedef struct document {
    char *text[ROWS + 1]; /* NULL: the key is absent; the last one: for a refused key */
} document;

enum { SECTIONS = 16 };

typedef struct schema {
    cyaml_schema_field_t fields[ROWS + SECTIONS + 1]; /* the lists of all sections, each ended by an empty field */
    cyaml_schema_field_t top[ROWS + 2];
    cyaml_schema_value_t root;
    char names[SECTIONS][32];
    int sections;
} schema;

static cyaml_schema_field_t mapping_field(const char *key, const cyaml_schema_field_t *fields)
{
    /* All levels share one flat `document`, so a section lies at offset 0 of it. */
    cyaml_schema_field_t field = {.key = key};
    field.value.type = CYAML_MAPPING;
    field.value.flags = CYAML_FLAG_OPTIONAL;
    field.value.data_size = sizeof(document);
    field.value.mapping.fields = fields;
    return field;
}

/* A text may be NULL or have any length of at least `shortest`. */
static cyaml_schema_field_t text_field(const char *key, int index, uint32_t shortest)
{
    cyaml_schema_field_t field = {.key = key, .data_offset = (uint32_t)(index * sizeof(char *))};
    field.value.type = CYAML_STRING;
    field.value.flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL | CYAML_FLAG_SCALAR_PLAIN;
    field.value.data_size = sizeof(char);
    field.value.string.min = shortest;
    field.value.string.max = CYAML_UNLIMITED;
    return field;
}

/* `refused` (or NULL) is a name, known or not, at which loading fails: so libcyaml tells the line of a bad key. */
static void make_schema(schema *s, const char *refused)
{
    int used = 0, top = 0;
    *s = (schema){0};
    const size_t refused_section = refused && strchr(refused, '.') ? strcspn(refused, ".") : 0;
    if (refused && refused_section == 0) s->top[top++] = text_field(refused, ROWS, UINT32_MAX - 1);
    for (int i = 0; i < ROWS;) {
        size_t section, next;
        const char *key = short_name(&rows[i], &section);
        if (section == 0) {
            s->top[top++] = text_field(key, i++, 0);
            continue;
        }
        char *name = s->names[s->sections++];
        HET_ASSERT(s->sections <= SECTIONS && section < sizeof s->names[0]);
        memcpy(name, rows[i].name, section);
        s->top[top++] = mapping_field(name, s->fields + used);
        if (refused && refused_section == section && strncmp(refused, name, section) == 0)
            s->fields[used++] = text_field(refused + section + 1, ROWS, UINT32_MAX - 1);
        for (; i < ROWS && strncmp(rows[i].name, name, section) == 0 && rows[i].name[section] == '.'; i++)
            s->fields[used++] = text_field(short_name(&rows[i], &next), i, 0);
        used++; /* the empty field that ends a list */
        HET_ASSERT(used <= (int)(sizeof s->fields / sizeof s->fields[0]));
    }
    const cyaml_schema_field_t root = mapping_field("", s->top);
    s->root = root.value;
    s->root.flags = CYAML_FLAG_POINTER;
}

/* What libcyaml logs of a failure: the reason, the first line number, and the mapping it happened in. */
typedef struct trace {
    char reason[512];
    char key[128];   /* of an unknown key */
    char inside[64]; /* innermost section named */
    long line;       /* 0: unknown */
} trace;

static void listen(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    trace *t = context;
    char text[512];
    if (level != CYAML_LOG_ERROR) return;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char *line = strstr(text, "(line: ");
    if (line != NULL) {
        if (t->line == 0) t->line = strtol(line + 7, NULL, 10);
        if (t->inside[0] == '\0') sscanf(text, "  in mapping field '%63[^']'", t->inside);
    } else if (t->reason[0] == '\0') {
        const char *reason = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(t->reason, sizeof t->reason, "%s", reason);
        sscanf(reason, "Unexpected key: %127[^\n]", t->key);
    }
}

static cyaml_config_t cyaml_settings(trace *t)
{
    return (cyaml_config_t){.log_fn = listen, .log_ctx = t, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem,
                            .flags = CYAML_CFG_DEFAULT};
}

/* Put "path line N: " before the message: N is where loading stops when `name` is refused. */
static het_status at_line(het_status code, const char *path, const char *name)
{
    schema s;
    trace t = {0};
    document *unused = NULL;
    const cyaml_config_t settings = cyaml_settings(&t);
    make_schema(&s, name);
    const cyaml_err_t error = cyaml_load_file(path, &settings, &s.root, (cyaml_data_t **)&unused, NULL);
    if (error == CYAML_OK) cyaml_free(&settings, &s.root, unused, 0);
    if (error == CYAML_OK || t.line == 0) return het_context(code, "%s", path);
    return het_context(code, "%s line %ld", path, t.line);
}

static het_status load_error(const char *path, const trace *t, cyaml_err_t error)
{
    if (error == CYAML_ERR_FILE_OPEN)
        return het_fail(HET_E_USAGE, "%s: cannot be opened: %s", path, strerror(errno));
    if (t->key[0] != '\0') {
        char name[200];
        snprintf(name, sizeof name, "%s%s%s", t->inside, t->inside[0] ? "." : "", t->key);
        return at_line(unknown_key(name), path, name);
    }
    char where[200] = "";
    if (t->line > 0) snprintf(where, sizeof where, " line %ld", t->line);
    if (t->inside[0] != '\0') snprintf(where + strlen(where), 100, " at %s", t->inside);
    return het_fail(HET_E_USAGE,
                    "%s%s: %s; a configuration has lines \"section:\" and, indented, \"key: value\"", path,
                    where, t->reason[0] ? t->reason : cyaml_strerror(error));
}

het_status het_config_load(het_config *config, const char *path)
{
    het_status status = HET_OK;
    schema s;
    trace t = {0};
    document *loaded = NULL;
    const cyaml_config_t settings = cyaml_settings(&t);
    make_schema(&s, NULL);
    errno = 0;
    const cyaml_err_t error = cyaml_load_file(path, &settings, &s.root, (cyaml_data_t **)&loaded, NULL);
    if (error != CYAML_OK) return load_error(path, &t, error);
    for (int i = 0; loaded != NULL && i < ROWS; i++) {
        if (loaded->text[i] == NULL) continue;
        status = assign(config, &rows[i], loaded->text[i]);
        if (status == HET_OK) continue;
        status = at_line(status, path, rows[i].name);
        break;
    }
    cyaml_free(&settings, &s.root, loaded, 0);
    return status;
}

het_status het_config_save(const het_config *config, const char *path)
{
    char texts[ROWS][TEXT_SIZE], temporary[4096];
    document all = {0};
    schema s;
    trace t = {0};
    char *yaml = NULL;
    size_t length = 0;
    const cyaml_config_t settings = cyaml_settings(&t);
    for (int i = 0; i < ROWS; i++) {
        print_value(texts[i], &rows[i], get(config, &rows[i]));
        all.text[i] = texts[i];
    }
    make_schema(&s, NULL);
    const cyaml_err_t error = cyaml_save_data(&yaml, &length, &settings, &s.root, &all, 0);
    if (error != CYAML_OK)
        return het_fail(HET_E_MEMORY, "%s: cannot be written: %s", path, cyaml_strerror(error));
    het_status status = HET_OK;
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        temporary[0] = '\0'; /* fopen then says that there is no such file */
    errno = 0;
    FILE *file = fopen(temporary, "w");
    int good = file != NULL && fwrite(yaml, 1, length, file) == length && fflush(file) == 0 &&
               fsync(fileno(file)) == 0;
    if (file != NULL) good = fclose(file) == 0 && good;
    if (!good || rename(temporary, path) != 0) {
        status = het_fail(HET_E_IO, "%s: cannot be written: %s", path, strerror(errno));
        remove(temporary);
    }
    cyaml_mem(NULL, yaml, 0);
    return status;
}
