#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../arena.h"
#include "../data/ctf_table.h"
#include "../data/stack.h"
#include "../log.h"
#include "../physics/simulate.h"
#include "../physics/whitener.h"
#include "../progress.h"
#include "cli.h"
#include "conformations.h"
#include "map_file.h"
#include "options.h"

enum { CHUNK = 256, LEVEL_IMAGES = 1000 };

static const char usage[] =
    "usage: hetacumn simulate {--volumes A.mrc[,B.mrc..] | --atoms FILE} -n N -D BOX --apix A --snr-db X -o stack.h5\n"
    "Particle images of known maps: uniform orientations and shifts, CTF, noise. The truth is stored with them.\n"
    "Several maps, several models in one file, steps of a morph, or several angles are the conformations; images take\n"
    "them in turn.\n"
    "      --volumes LIST     MRC maps, brought to BOX and A\n"
    "      --atoms FILE       PDB or mmCIF, plain or .gz\n"
    "      --models A[-B]     models of the file to use (all)\n"
    "      --morph N          N conformations in equal steps, all atoms moving straight from the first of the models to\n"
    "                         the last; both need the same atoms\n"
    "      --rotate SEL       turn these atoms of the first model: chain:A/177-330 or !chain:L* ..\n"
    "      --about AXIS       com (through both parts' centres of mass) or chain:A/249@C,chain:A/249@CA\n"
    "      --angles LIST      degrees, right-handed: one conformation each; A,B,.. or FIRST:LAST:COUNT\n"
    "      --hydrogens        keep hydrogen atoms\n"
    "  -n N                   images\n"
    "  -D BOX                 their side in pixels, even\n"
    "      --apix A           pixel size in A\n"
    "      --snr-db X         10 log10 of var(signal)/var(noise); inf: no noise\n"
    "      --colour R         noise with R times the power at low frequencies; images are whitened, as import does it (white)\n"
    "      --junk PERCENT     so many images are noise alone; their true class is -1 (0)\n"
    "      --shift PX         shifts uniform in [-PX,PX] along x and y (0)\n"
    "      --ctf FILE|none    STAR file whose CTF rows are drawn (none: no CTF, particles bright)\n"
    "      --f16              store half precision\n"
    "      --seed S           (0)\n"
    "      --write-maps DIR   the true maps, DIR/class0.mrc ..\n"
    "  -o, --output FILE\n"
    "      --help\n";

typedef struct arguments {
    const char *volumes, *atoms, *ctf, *maps_folder, *output;
    het_motion motion;
    int64_t count, box, seed;
    double apix, snr_db, shift, colour, junk;
    int half, help;
} arguments;

enum { VOLUMES = 256, ATOMS, MODELS, MORPH, ROTATE, ABOUT, ANGLES, HYDROGENS, APIX, SNR, COLOUR, JUNK, SHIFT, CTF, F16, SEED, MAPS, HELP };

static const struct option options[] = {
    {"volumes", required_argument, NULL, VOLUMES}, {"atoms", required_argument, NULL, ATOMS},
    {"models", required_argument, NULL, MODELS},   {"morph", required_argument, NULL, MORPH},
    {"rotate", required_argument, NULL, ROTATE},   {"about", required_argument, NULL, ABOUT},
    {"angles", required_argument, NULL, ANGLES},
    {"hydrogens", no_argument, NULL, HYDROGENS},   {"apix", required_argument, NULL, APIX},
    {"snr-db", required_argument, NULL, SNR},      {"shift", required_argument, NULL, SHIFT},
    {"colour", required_argument, NULL, COLOUR},   {"junk", required_argument, NULL, JUNK},
    {"ctf", required_argument, NULL, CTF},         {"f16", no_argument, NULL, F16},
    {"seed", required_argument, NULL, SEED},       {"write-maps", required_argument, NULL, MAPS},
    {"output", required_argument, NULL, 'o'},      {"help", no_argument, NULL, HELP},
    {0}};

static het_status parse_integer(int64_t *value, const char *name, const char *text)
{
    char *end = NULL;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return het_fail(HET_E_USAGE, "%s %s: it must be a whole number", name, text);
    return HET_OK;
}

static het_status check(const arguments *a)
{
    const het_motion *m = &a->motion;
    if ((a->volumes == NULL) == (a->atoms == NULL))
        return het_fail(HET_E_USAGE, "simulate needs either --volumes or --atoms; see hetacumn simulate --help");
    if (a->output == NULL) return het_fail(HET_E_USAGE, "simulate needs -o FILE, the stack to write");
    if (a->count < 1) return het_fail(HET_E_USAGE, "simulate needs -n N, at least 1 image");
    if (a->box < 8 || a->box > 1024 || a->box % 2 != 0)
        return het_fail(HET_E_USAGE, "-D %lld: the box must be even and between 8 and 1024", (long long)a->box);
    if (!(a->apix > 0.0) || isinf(a->apix)) return het_fail(HET_E_USAGE, "simulate needs --apix A above 0");
    if (isnan(a->snr_db) || a->snr_db == -INFINITY) return het_fail(HET_E_USAGE, "simulate needs --snr-db X (or inf)");
    if (!(a->shift >= 0.0 && a->shift < 0.5 * (double)a->box))
        return het_fail(HET_E_USAGE, "--shift %g: it must lie between 0 and half the box", a->shift);
    if (!(a->colour == 0.0 || (a->colour >= 1.0 && isfinite(a->colour)))) return het_fail(HET_E_USAGE, "--colour %g: it must be 1 or more", a->colour);
    if (!(a->junk >= 0.0 && a->junk < 100.0)) return het_fail(HET_E_USAGE, "--junk %g: it must be a percentage from 0, below 100", a->junk);
    if ((m->selection != NULL) != (m->about != NULL) || (m->about != NULL) != (m->angles != NULL))
        return het_fail(HET_E_USAGE, "--rotate, --about and --angles go together");
    if (a->volumes != NULL && (m->selection != NULL || m->models != NULL || m->morph > 0))
        return het_fail(HET_E_USAGE, "--rotate, --models and --morph need --atoms");
    if (m->selection != NULL && (m->models != NULL || m->morph > 0))
        return het_fail(HET_E_USAGE, "--rotate turns the first model: --models and --morph do not go with it");
    return HET_OK;
}

static het_status parse(int argc, char **argv, arguments *a)
{
    het_status status = HET_OK;
    int option;
    *a = (arguments){.snr_db = NAN};
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":n:D:o:", options, NULL)) != -1) {
        switch (option) {
        case VOLUMES: a->volumes = optarg; break;
        case ATOMS: a->atoms = optarg; break;
        case MODELS: a->motion.models = optarg; break;
        case MORPH:
            HET_TRY(parse_integer(&a->motion.morph, "--morph", optarg));
            if (a->motion.morph < 2 || a->motion.morph > HET_CONFORMATIONS_MAX)
                HET_TRY(het_fail(HET_E_USAGE, "--morph %s: it must be a number of conformations from 2 to %d", optarg,
                                 HET_CONFORMATIONS_MAX));
            break;
        case ROTATE: a->motion.selection = optarg; break;
        case ABOUT: a->motion.about = optarg; break;
        case ANGLES: a->motion.angles = optarg; break;
        case HYDROGENS: a->motion.hydrogens = 1; break;
        case APIX: HET_TRY(het_options_number("--apix", optarg, &a->apix)); break;
        case SNR: HET_TRY(het_options_number("--snr-db", optarg, &a->snr_db)); break;
        case COLOUR: HET_TRY(het_options_number("--colour", optarg, &a->colour)); break;
        case JUNK: HET_TRY(het_options_number("--junk", optarg, &a->junk)); break;
        case SHIFT: HET_TRY(het_options_number("--shift", optarg, &a->shift)); break;
        case CTF: a->ctf = strcmp(optarg, "none") == 0 ? NULL : optarg; break;
        case F16: a->half = 1; break;
        case SEED: HET_TRY(parse_integer(&a->seed, "--seed", optarg)); break;
        case MAPS: a->maps_folder = optarg; break;
        case 'n': HET_TRY(parse_integer(&a->count, "-n", optarg)); break;
        case 'D': HET_TRY(parse_integer(&a->box, "-D", optarg)); break;
        case 'o': a->output = optarg; break;
        case HELP: a->help = 1; goto done;
        default: HET_TRY(het_options_refused(argv, option));
        }
    }
    if (optind != argc) HET_TRY(het_fail(HET_E_USAGE, "simulate does not know what to do with \"%s\"", argv[optind]));
    HET_TRY(check(a));
done:
    return status;
}

static het_status write_maps(const char *folder, const het_conformations *truth)
{
    het_status status = HET_OK;
    char path[4096];
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) return het_fail(HET_E_IO, "%s: %s", folder, strerror(errno));
    for (int64_t k = 0; k < truth->count; k++) {
        const int size = snprintf(path, sizeof path, "%s/class%lld.mrc", folder, (long long)k);
        if (size >= (int)sizeof path) return het_fail(HET_E_USAGE, "--write-maps: the folder's name is too long");
        HET_TRY(het_map_save(path, &truth->map[k]));
    }
done:
    return status;
}

/* Noise and scale come from a fixed first part of the images, summed in order: the same for any number of ranks. */
static het_status set_level(het_simulator *sim, het_comm *comm, int64_t count)
{
    het_status status = HET_OK;
    int64_t first, mine;
    const int64_t n = count < LEVEL_IMAGES ? count : LEVEL_IMAGES;
    double *sums = het_alloc((size_t)n * 2 * sizeof *sums);
    if (sums == NULL) status = het_fail(HET_E_MEMORY, "no memory to measure the images");
    HET_TRY(het_comm_agree(comm, status));
    het_comm_share(comm, n, &first, &mine);
    HET_TRY(het_comm_agree(comm, het_simulator_measure(sim, sums + 2 * first, first, mine)));
    HET_TRY(het_comm_sum_f64(comm, sums, (size_t)(2 * n)));
    HET_TRY(het_simulator_set_level(sim, sums, n));
done:
    het_release(sums);
    return status;
}

/* Buffers of one chunk, as the stack wants them. */
typedef struct chunk {
    float *images, *rotation, *shift, *z;
    int64_t *klass;
    het_ctf_row *ctf;
    het_whitener *whitener; /* NULL: images are not whitened */
} chunk;

static het_status chunk_new(chunk *c, int64_t box)
{
    *c = (chunk){.images = het_alloc((size_t)(CHUNK * box * box) * sizeof(float)),
                 .rotation = het_alloc(CHUNK * 9 * sizeof(float)),
                 .shift = het_alloc(CHUNK * 2 * sizeof(float)),
                 .z = het_alloc(CHUNK * sizeof(float)),
                 .klass = het_alloc(CHUNK * sizeof(int64_t)),
                 .ctf = het_alloc(CHUNK * sizeof(het_ctf_row))};
    if (c->images == NULL || c->rotation == NULL || c->shift == NULL || c->z == NULL || c->klass == NULL ||
        c->ctf == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %d images of box %lld", CHUNK, (long long)box);
    return HET_OK;
}

static void chunk_free(chunk *c)
{
    het_whitener_free(c->whitener);
    het_release(c->images);
    het_release(c->rotation);
    het_release(c->shift);
    het_release(c->z);
    het_release(c->klass);
    het_release(c->ctf);
}

static het_status fill(chunk *c, const het_simulator *sim, const het_whitening *whitening, const double *z, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const het_simulated truth = het_simulator_truth(sim, first + i);
        for (int j = 0; j < 9; j++) c->rotation[9 * i + j] = (float)truth.rotation[j];
        for (int j = 0; j < 2; j++) c->shift[2 * i + j] = (float)truth.shift[j];
        c->klass[i] = truth.klass;
        c->z[i] = truth.klass < 0 ? NAN : (float)z[truth.klass];
        c->ctf[i] = truth.ctf;
    }
    const het_status status = het_simulator_images(sim, c->images, first, n);
    const int64_t pixels = sim->box * sim->box;
    for (int64_t i = 0; i < n && status == HET_OK; i++) het_whitener_apply(c->whitener, whitening, c->images + i * pixels);
    return status;
}

/* Of the first images, by one rank, so that the numbers do not depend on how many there are. */
static het_status find_whitening(chunk *c, het_whitening *whitening, const het_simulator *sim, int64_t count)
{
    het_status status = HET_OK;
    const int64_t pixels = sim->box * sim->box, images = count < LEVEL_IMAGES ? count : LEVEL_IMAGES;
    for (int64_t at = 0; at < images; at += CHUNK) {
        const int64_t n = images - at < CHUNK ? images - at : CHUNK;
        HET_TRY(het_simulator_images(sim, c->images, at, n));
        for (int64_t i = 0; i < n; i++) het_whitener_add(c->whitener, c->images + i * pixels);
    }
    het_whitener_find(c->whitener, whitening);
done:
    return status;
}

/* Every rank simulates its share, all write together chunk by chunk. */
static het_status write_stack(het_comm *comm, const arguments *a, const het_simulator *sim, const double *z)
{
    het_status status = HET_OK;
    het_stack_writer *writer = NULL;
    het_progress progress;
    chunk c = {0};
    int64_t first, mine, rounds;
    het_stack_info info = {.count = a->count, .box = a->box, .apix = a->apix, .type = a->half ? HET_F16 : HET_F32,
                                 .sign = 1, .shift_range = a->shift, .has_truth = 1};
    het_comm_share(comm, a->count, &first, &mine);
    rounds = (mine + CHUNK - 1) / CHUNK;
    HET_TRY(het_comm_max_i64(comm, &rounds, 1));
    HET_TRY(het_comm_agree(comm, chunk_new(&c, a->box)));
    if (a->colour > 0.0) {
        HET_TRY(het_comm_agree(comm, het_whitener_new(&c.whitener, a->box)));
        HET_TRY(het_comm_agree(comm, het_comm_rank(comm) == 0 ? find_whitening(&c, &info.whitening, sim, a->count) : HET_OK));
        HET_TRY(het_comm_broadcast(comm, &info.whitening, sizeof info.whitening, 0));
    }
    const het_stack_truth truth = {.rotation = c.rotation, .shift = c.shift, .klass = c.klass, .z = c.z};
    HET_TRY(het_stack_create(&writer, comm, a->output, &info));
    het_progress_start(&progress, comm, "simulate", a->count);
    for (int64_t round = 0; round < rounds && status == HET_OK; round++) {
        const int64_t from = round * CHUNK < mine ? round * CHUNK : mine;
        const int64_t n = mine - from < CHUNK ? mine - from : CHUNK;
        status = het_comm_agree(comm, fill(&c, sim, &info.whitening, z, first + from, n));
        if (status == HET_OK) status = het_stack_write(writer, first + from, n, c.images, c.ctf, &truth);
        const int64_t done = (round + 1) * CHUNK * het_comm_size(comm);
        het_progress_step(&progress, done < a->count ? done : a->count);
    }
    het_progress_end(&progress);
    const het_status finished = het_stack_finish(writer, 1, status);
    if (status == HET_OK) status = finished;
done:
    chunk_free(&c);
    return status;
}

/* What every rank needs: the maps, the CTFs, the simulator. Not collective. */
static het_status prepare(const arguments *a, het_conformations *truth, het_simulator *sim)
{
    het_status status = HET_OK;
    het_ctf_table table = {0};
    if (a->ctf != NULL) HET_TRY(het_ctf_table_load(&table, a->ctf));
    if (a->volumes != NULL) HET_TRY(het_conformations_from_maps(truth, a->volumes, a->box, a->apix));
    else HET_TRY(het_conformations_from_atoms(truth, a->atoms, &a->motion, a->box, a->apix));
    const het_simulate_spec spec = {.snr = pow(10.0, a->snr_db / 10.0), .shift = a->shift, .colour = a->colour, .junk = a->junk / 100.0, .seed = (uint64_t)a->seed,
                                    .ctf = table.row, .ctf_weight = table.weight, .ctf_count = table.count};
    HET_TRY(het_simulator_new(sim, &spec, truth->map, truth->count));
done:
    het_ctf_table_free(&table);
    return status;
}

het_status het_cmd_simulate(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    arguments a;
    het_conformations truth = {0};
    het_simulator sim = {0};
    (void)exit_code;
    const int root = het_comm_rank(comm) == 0;
    HET_TRY(het_comm_agree(comm, parse(argc, argv, &a)));
    if (a.help) {
        if (root) fputs(usage, stdout);
        goto done;
    }
    HET_TRY(het_comm_agree(comm, prepare(&a, &truth, &sim)));
    HET_TRY(set_level(&sim, comm, a.count));
    HET_TRY(het_comm_agree(comm, root && a.maps_folder != NULL ? write_maps(a.maps_folder, &truth) : HET_OK));
    HET_TRY(write_stack(comm, &a, &sim, truth.z));
    het_info("%s: %lld images of %lld x %lld pixels of %g A, %lld conformation%s, SNR %g dB", a.output,
             (long long)a.count, (long long)a.box, (long long)a.box, a.apix, (long long)truth.count, truth.count == 1 ? "" : "s",
             a.snr_db);
done:
    het_simulator_free(&sim);
    het_conformations_free(&truth);
    return status;
}
