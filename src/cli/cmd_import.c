#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../arena.h"
#include "../data/contrast.h"
#include "../data/open_files.h"
#include "../data/particles.h"
#include "../data/resample.h"
#include "../data/stack.h"
#include "../log.h"
#include "../physics/rotation.h"
#include "../physics/whitener.h"
#include "../progress.h"
#include "cli.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn import IN.star|IN.cs|IN.mrcs -o stack.h5 [options]\n"
    "Bring particle images, their CTF and, if wanted, their poses into one file for training. Of a cryoSPARC job give both files,\n"
    "J1_particles.cs J1_passthrough_particles.cs: columns that the first lacks are taken from the second.\n"
    "  -o, --output FILE   the stack to write\n"
    "      --datadir DIR   where the image files of a STAR or .cs file are (default: its folder and those above)\n"
    "  -D, --box BOX       Fourier-crop the images to BOX pixels, an even number\n"
    "      --apix A        pixel size of the input in A, in place of what the files say\n"
    "      --sign S        auto: find out whether particles are bright or dark (default); + keep; - invert\n"
    "      --index FILE    take only the images listed (0-based numbers, plain text or .gz)\n"
    "      --recenter      move the particles to the centre by the file's origins\n"
    "      --poses         store the file's angles and origins as truth, for `hetacumn evaluate`\n"
    "      --no-ctf        take the images as not changed by a CTF\n"
    "      --f16           store float16: half the space\n"
    "      --whiten HOW    auto: give noise the same power at all frequencies, as found outside the particles (default); no;\n"
    "                      or STACK.h5: as that one was, so that both can be trained together\n"
    "      --shift PX      largest shift to expect, in pixels of the stack (default: 0.05 of the box)\n"
    "      --help          this text\n";

typedef struct options {
    const char *input, *output;
    const char *const *inputs; /* (input_count); the first is `input` */
    int input_count;
    het_particles_options source;
    int64_t box; /* 0: as the images */
    int sign;    /* 0: auto */
    int recenter, poses, f16;
    const char *whiten; /* auto, no, or a stack */
    double shift; /* < 0: default */
} options;

/* What each rank needs to turn particles into rows of the stack. */
typedef struct work {
    const options *options;
    const het_particles *particles;
    het_particle_reader *reader;
    het_resample *resample; /* NULL: images are stored as they are */
    int64_t box, chunk;
    int sign;
    het_whitener *whitener; /* NULL: images are not whitened */
    het_whitening whitening;
    float *input, *images; /* (chunk, box of the source), (chunk, box); the same memory without resampling */
    float *rotation, *shift;
} work;

static het_status parse_positive(const char *option, const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*value) || *value <= 0.0)
        return het_fail(HET_E_USAGE, "import: %s: '%s' is no positive number", option, text);
    return HET_OK;
}

static het_status parse_sign(const char *text, int *sign)
{
    if (strcmp(text, "auto") == 0) *sign = 0;
    else if (strcmp(text, "+") == 0) *sign = 1;
    else if (strcmp(text, "-") == 0) *sign = -1;
    else return het_fail(HET_E_USAGE, "import: --sign: '%s' is none of auto, + and -", text);
    return HET_OK;
}

static het_status parse(options *o, int argc, char **argv, int *help)
{
    enum { DATADIR = 256, APIX, SIGN, INDEX, RECENTER, POSES, NO_CTF, F16, WHITEN, SHIFT, HELP };
    static const struct option list[] = {{"output", required_argument, NULL, 'o'},
                                         {"datadir", required_argument, NULL, DATADIR},
                                         {"box", required_argument, NULL, 'D'},
                                         {"apix", required_argument, NULL, APIX},
                                         {"sign", required_argument, NULL, SIGN},
                                         {"index", required_argument, NULL, INDEX},
                                         {"recenter", no_argument, NULL, RECENTER},
                                         {"poses", no_argument, NULL, POSES},
                                         {"no-ctf", no_argument, NULL, NO_CTF},
                                         {"f16", no_argument, NULL, F16},
                                         {"whiten", required_argument, NULL, WHITEN},
                                         {"shift", required_argument, NULL, SHIFT},
                                         {"help", no_argument, NULL, HELP},
                                         {NULL, 0, NULL, 0}};
    het_status status = HET_OK;
    double box = 0.0;
    *o = (options){.shift = -1.0, .whiten = "auto"};
    *help = 0;
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":o:D:", list, NULL)) != -1;) {
        switch (c) {
        case 'o': o->output = optarg; break;
        case DATADIR: o->source.datadir = optarg; break;
        case 'D': HET_TRY(parse_positive("-D", optarg, &box)); break;
        case APIX: HET_TRY(parse_positive("--apix", optarg, &o->source.apix)); break;
        case SIGN: HET_TRY(parse_sign(optarg, &o->sign)); break;
        case INDEX: o->source.index = optarg; break;
        case RECENTER: o->recenter = 1; break;
        case POSES: o->poses = 1; break;
        case NO_CTF: o->source.no_ctf = 1; break;
        case F16: o->f16 = 1; break;
        case WHITEN: o->whiten = optarg; break;
        case SHIFT: HET_TRY(parse_positive("--shift", optarg, &o->shift)); break;
        case HELP: *help = 1; return HET_OK;
        default: return het_options_refused(argv, c);
        }
    }
    if (box != floor(box) || box > 16384.0)
        HET_TRY(het_fail(HET_E_USAGE, "import: -D: %g is no even whole number of pixels", box));
    o->box = (int64_t)box;
    if (o->box % 2 != 0)
        HET_TRY(het_fail(HET_E_USAGE, "import: -D: the box must be even, not %lld", (long long)o->box));
    o->inputs = (const char *const *)(argv + optind);
    o->input_count = argc - optind;
    for (int i = 0; i < o->input_count; i++)
        if (o->input_count > 1 && !het_options_ends_with(o->inputs[i], ".cs")) o->input_count = 0;
    if (o->input_count == 0)
        HET_TRY(het_fail(HET_E_USAGE, "import: give one input file (IN.star or IN.mrcs), or the .cs files of a job; see --help"));
    o->input = o->inputs[0];
    if (o->output == NULL) HET_TRY(het_fail(HET_E_USAGE, "import: give the file to write with -o stack.h5"));
done:
    return status;
}

static het_status load(het_particles *particles, const options *o)
{
    for (int i = 0; i < o->input_count; i++)
        if (het_file_is_same(o->inputs[i], o->output))
            return het_fail(HET_E_USAGE, "import: -o %s is the input itself", o->output);
    if (het_options_ends_with(o->input, ".cs")) return het_particles_load_cs(particles, o->inputs, o->input_count, &o->source);
    if (het_options_is_star(o->input))
        return het_particles_load_star(particles, o->input, &o->source);
    return het_particles_load_mrc(particles, o->input, &o->source);
}

/* What can be refused before any image is read. */
static het_status check_options(const het_particles *p, const options *o)
{
    const int64_t box = o->box > 0 ? o->box : p->box;
    if (box % 2 != 0)
        return het_fail(HET_E_INPUT,
                        "%s: images of %lld pixels a side: an even box is needed; give -D %lld or less",
                        o->input, (long long)p->box, (long long)p->box - 1);
    if (box > p->box || box < 4)
        return het_fail(
            HET_E_INPUT,
            "%s: images of %lld pixels a side cannot be brought to a box of %lld; give a smaller -D "
            "(4 or more)",
            o->input, (long long)p->box, (long long)box);
    if (!(p->apix > 0.0)) return het_fail(HET_E_INPUT, "%s: says no pixel size; give --apix", o->input);
    if (o->recenter && p->shift == NULL)
        return het_fail(
            HET_E_INPUT,
            "%s: --recenter needs the columns _rlnOriginXAngst and _rlnOriginYAngst (or _rlnOriginX "
            "and _rlnOriginY; of a .cs: alignments3D/shift or alignments2D/shift)",
            o->input);
    if (o->poses && (p->shift == NULL || (p->euler == NULL && p->turn == NULL)))
        return het_fail(HET_E_INPUT,
                        "%s: --poses needs the columns _rlnAngleRot, _rlnAngleTilt, _rlnAnglePsi and "
                        "_rlnOriginXAngst, _rlnOriginYAngst (or _rlnOriginX, _rlnOriginY; of a .cs: alignments3D/pose and "
                        "/shift)",
                        o->input);
    return HET_OK;
}

static int has_ctf(const het_particles *p)
{
    return p->ctf[0].voltage != 0.0f; /* all rows have one or none has */
}

/* Density comes out positive when particles are dark under a CTF (METHOD 2: it is negative at low
 * frequencies) and bright without one. Found from up to 1000 images, evenly spaced over the stack.
 * Collective. */
static het_status find_sign(work *w, het_comm *comm)
{
    enum { SAMPLE = 1000 };
    const het_particles *p = w->particles;
    const int wanted = has_ctf(p) ? -1 : 1;
    const int64_t sample = p->count < SAMPLE ? p->count : SAMPLE;
    het_status status = HET_OK;
    het_contrast contrast;
    int64_t first, count;
    double mean, error;
    het_contrast_init(&contrast, p->box);
    het_comm_share(comm, sample, &first, &count);
    for (int64_t s = first; status == HET_OK && s < first + count; s++) {
        status = het_particle_reader_read(w->reader, w->input, s * p->count / sample, 1);
        if (status == HET_OK) het_contrast_add(&contrast, w->input);
    }
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_contrast_reduce(&contrast, comm));
    het_contrast_result(&contrast, &mean, &error);
    w->sign = w->options->sign;
    if (w->sign == 0) w->sign = (mean < 0.0 ? -1 : 1) * wanted;
    het_info("sign: particles are %s (centre against rim: %+.4f +- %.4f of the pixels' standard deviation, "
             "%.0f images); "
             "%s%s",
             mean < 0.0 ? "dark" : "bright", mean, error, contrast.images,
             w->sign < 0 ? "all pixels are multiplied by -1" : "pixels are kept as they are",
             w->options->sign == 0 ? "" : " (--sign)");
    if (w->options->sign == 0 && fabs(mean) < 4.0 * error)
        het_warn("the contrast is too weak to be sure of the sign: look at the images and give --sign + or "
                 "--sign -");
    if (w->options->sign != 0 && fabs(mean) > 4.0 * error && (mean < 0.0 ? -1 : 1) * wanted != w->sign)
        het_warn("--sign %c makes density negative by this contrast", w->sign < 0 ? '-' : '+');
done:
    return status;
}

static het_status prepare(work *w, const het_particles *p, const options *o)
{
    het_status status = HET_OK;
    const int64_t pixels = p->box * p->box;
    *w = (work){.options = o, .particles = p, .box = o->box > 0 ? o->box : p->box};
    w->chunk = (8 << 20) / pixels; /* 32 MiB of input at a time */
    if (w->chunk < 1) w->chunk = 1;
    HET_TRY(het_particle_reader_new(&w->reader, p));
    if (w->box != p->box || o->recenter) HET_TRY(het_resample_new(&w->resample, p->box, w->box));
    w->input = het_alloc((size_t)(w->chunk * pixels) * sizeof *w->input);
    w->images = w->input;
    if (w->resample != NULL) w->images = het_alloc((size_t)(w->chunk * w->box * w->box) * sizeof *w->images);
    if (o->poses) {
        w->rotation = het_alloc((size_t)w->chunk * 9 * sizeof *w->rotation);
        w->shift = het_alloc((size_t)w->chunk * 2 * sizeof *w->shift);
    }
    if (w->input == NULL || w->images == NULL || (o->poses && (w->rotation == NULL || w->shift == NULL)))
        HET_TRY(het_fail(HET_E_MEMORY, "import: no memory for %lld images of %lld pixels",
                         (long long)w->chunk, (long long)pixels));
done:
    return status;
}

static void release(work *w)
{
    het_particle_reader_free(w->reader);
    het_resample_free(w->resample);
    het_whitener_free(w->whitener);
    if (w->images != w->input) het_release(w->images);
    het_release(w->input);
    het_release(w->rotation);
    het_release(w->shift);
}

static void rotation_of(double r[9], const het_particles *p, int64_t i)
{
    const double *angle = p->euler != NULL ? p->euler + 3 * i : p->turn + 3 * i;
    if (p->euler != NULL) het_rotation_from_euler(r, angle[0], angle[1], angle[2]);
    else het_rotation_about(r, angle, -sqrt(angle[0] * angle[0] + angle[1] * angle[1] + angle[2] * angle[2]));
}

static void convert_poses(work *w, int64_t first, int64_t count)
{
    const het_particles *p = w->particles;
    const double scale = w->options->recenter ? 0.0 : (double)w->box / (double)p->box;
    for (int64_t i = 0; i < count; i++) {
        double r[9];
        rotation_of(r, p, first + i);
        for (int k = 0; k < 9; k++) w->rotation[9 * i + k] = (float)r[k];
        for (int k = 0; k < 2; k++) w->shift[2 * i + k] = (float)(scale * p->shift[2 * (first + i) + k]);
    }
}

static het_status make_images(work *w, int64_t first, int64_t count)
{
    const het_particles *p = w->particles;
    const het_status status = het_particle_reader_read(w->reader, w->input, first, count);
    if (status != HET_OK) return status;
    for (int64_t i = 0; w->resample != NULL && i < count; i++) {
        double back[2] = {0.0, 0.0};
        for (int k = 0; w->options->recenter && k < 2; k++) back[k] = -p->shift[2 * (first + i) + k];
        het_resample_run(w->resample, w->images + i * w->box * w->box, w->input + i * p->box * p->box, back);
    }
    const int64_t pixels = count * w->box * w->box;
    for (int64_t i = 0; w->sign < 0 && i < pixels; i++) w->images[i] = -w->images[i];
    for (int64_t i = 0; i < count; i++) het_whitener_apply(w->whitener, &w->whitening, w->images + i * w->box * w->box);
    if (w->rotation != NULL) convert_poses(w, first, count);
    return HET_OK;
}

/* As in another stack. */
static het_status copy_whitening(het_whitening *to, het_comm *comm, const char *path, int64_t box)
{
    het_status status = HET_OK;
    het_stack *other = NULL;
    HET_TRY(het_stack_open_together(&other, comm, path));
    *to = het_stack_get_info(other)->whitening;
    if (het_stack_get_info(other)->box != box)
        status = het_fail(HET_E_USAGE, "import: --whiten %s: its box is %lld, not %lld", path, (long long)het_stack_get_info(other)->box, (long long)box);
done:
    het_stack_close(other);
    return status;
}

/* Of images spread over the stack, before any is whitened: by one rank, so that the numbers do not depend on how many there are. */
static het_status find_whitening(work *w, het_whitening *found)
{
    enum { SAMPLE = 1000, LEAST = 100 };
    het_status status = HET_OK;
    const int64_t count = w->particles->count, sample = count < SAMPLE ? count : SAMPLE;
    *found = (het_whitening){0};
    for (int64_t s = 0; s < sample && sample >= LEAST; s++) {
        HET_TRY(make_images(w, s * count / sample, 1));
        het_whitener_add(w->whitener, w->images);
    }
    het_whitener_find(w->whitener, found);
done:
    return status;
}

static het_status choose_whitening(work *w, het_comm *comm)
{
    het_status status = HET_OK;
    const char *how = w->options->whiten;
    het_whitening found = {0};
    if (strcmp(how, "no") == 0 || (strcmp(how, "auto") == 0 && w->box > HET_WHITENER_BOX)) return HET_OK;
    HET_TRY(het_comm_agree(comm, het_whitener_new(&w->whitener, w->box)));
    if (strcmp(how, "auto") != 0) HET_TRY(copy_whitening(&found, comm, how, w->box));
    else HET_TRY(het_comm_agree(comm, het_comm_rank(comm) == 0 ? find_whitening(w, &found) : HET_OK));
    HET_TRY(het_comm_broadcast(comm, &found, sizeof found, 0));
    w->whitening = found;
    het_info("noise: %s", het_whitening_is(&found) ? "not of the same power at all frequencies: images are whitened" : "white, as far as can be told: images are kept as they are");
done:
    return status;
}

/* Write this rank's share in chunks; every rank goes through as many, the last ones empty. */
static het_status write_images(work *w, het_stack_writer *writer, het_comm *comm)
{
    const het_particles *p = w->particles;
    const het_stack_truth truth = {.rotation = w->rotation, .shift = w->shift};
    const int64_t ranks = het_comm_size(comm), largest = (p->count + ranks - 1) / ranks;
    het_status status = HET_OK;
    het_progress progress;
    int64_t first, count;
    het_comm_share(comm, p->count, &first, &count);
    het_progress_start(&progress, comm, "import", p->count);
    for (int64_t at = 0; at < largest; at += w->chunk) {
        const int64_t left = at < count ? count - at : 0, n = left < w->chunk ? left : w->chunk;
        status = make_images(w, first + at, n);
        HET_TRY(het_comm_agree(comm, status));
        status = het_stack_write(writer, first + at, n, w->images, p->ctf + first + at,
                                 w->rotation ? &truth : NULL);
        HET_TRY(het_comm_agree(comm, status));
        het_progress_step(&progress, (at + n) * ranks < p->count ? (at + n) * ranks : p->count);
    }
done:
    het_progress_end(&progress);
    return status;
}

/* A STAR file with its rows, since poses.star is made from it; otherwise the image files. */
static het_status write_source(const het_particles *p, het_stack_writer *writer, het_comm *comm)
{
    const int is_star = p->line != NULL;
    const int64_t files = is_star ? 1 : p->file_count;
    het_status status = HET_OK;
    int64_t first, count;
    het_comm_share(comm, p->count, &first, &count);
    int64_t *rows = het_alloc((size_t)(count > 0 ? count : 1) * 2 * sizeof *rows);
    char **name = het_alloc((size_t)files * sizeof *name);
    if (rows == NULL || name == NULL) status = het_fail(HET_E_MEMORY, "import: no memory");
    for (int64_t f = 0; status == HET_OK && f < files; f++) {
        const char *path = is_star ? p->source : p->file[f];
        name[f] = realpath(path, NULL);
        if (name[f] == NULL) status = het_fail(HET_E_IO, "%s: cannot find its folder: %s", path, strerror(errno));
    }
    HET_TRY(het_comm_agree(comm, status));
    for (int64_t i = 0; i < count; i++) {
        rows[2 * i] = is_star ? 0 : p->file_of[first + i];
        rows[2 * i + 1] = is_star ? p->row[first + i] : p->image[first + i];
    }
    HET_TRY(het_stack_write_source(writer, files, (const char *const *)name, first, count, rows));
done:
    for (int64_t f = 0; name != NULL && f < files; f++) free(name[f]);
    het_release(name);
    het_release(rows);
    return status;
}

/* What --recenter takes out of the images, so that poses can be told for the source's images. */
static het_status write_moved(const work *w, het_stack_writer *writer, het_comm *comm)
{
    const het_particles *p = w->particles;
    const double scale = (double)w->box / (double)p->box;
    int64_t first, count;
    het_comm_share(comm, p->count, &first, &count);
    float *moved = het_alloc((size_t)(count > 0 ? count : 1) * 2 * sizeof *moved);
    het_status status = moved == NULL ? het_fail(HET_E_MEMORY, "import: no memory") : HET_OK;
    HET_TRY(het_comm_agree(comm, status));
    for (int64_t i = 0; i < 2 * count; i++) moved[i] = (float)(scale * p->shift[2 * first + i]);
    HET_TRY(het_stack_write_moved(writer, first, count, moved));
done:
    het_release(moved);
    return status;
}

static het_status write_stack(work *w, het_comm *comm)
{
    const het_particles *p = w->particles;
    const options *o = w->options;
    het_stack_info info = {
        .count = p->count, .box = w->box, .type = o->f16 ? HET_F16 : HET_F32, .sign = w->sign};
    info.apix = p->apix * (double)p->box / (double)w->box;
    info.whitening = w->whitening;
    info.shift_range = o->shift > 0.0 ? o->shift : 0.05 * (double)w->box;
    info.has_truth = o->poses;
    info.has_source = 1;
    info.source_box = p->box;
    info.recentred = o->recenter;
    het_stack_writer *writer = NULL;
    het_status status = het_stack_create(&writer, comm, o->output, &info);
    if (status != HET_OK) return status;
    status = write_images(w, writer, comm);
    if (status == HET_OK) status = write_source(p, writer, comm);
    if (status == HET_OK && o->recenter) status = write_moved(w, writer, comm);
    status = het_stack_finish(writer, w->sign, status);
    if (status == HET_OK)
        het_info("%s: %lld images of %lld pixels a side, %.4g A per pixel%s%s", o->output,
                 (long long)info.count, (long long)info.box, info.apix, has_ctf(p) ? "" : ", no CTF",
                 o->poses ? ", poses as truth" : "");
    return status;
}

het_status het_cmd_import(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    het_particles particles = {0};
    options o;
    work w = {0};
    int help;
    (void)exit_code;
    HET_TRY(parse(&o, argc, argv, &help));
    if (help) {
        if (het_comm_rank(comm) == 0) fputs(usage, stdout);
        return HET_OK;
    }
    HET_TRY(het_comm_agree(comm, load(&particles, &o)));
    HET_TRY(het_particles_check(&particles, comm));
    HET_TRY(check_options(&particles, &o));
    HET_TRY(het_comm_agree(comm, prepare(&w, &particles, &o)));
    HET_TRY(find_sign(&w, comm));
    HET_TRY(choose_whitening(&w, comm));
    HET_TRY(write_stack(&w, comm));
done:
    release(&w);
    het_particles_free(&particles);
    return status;
}
