#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../physics/fsc.h"
#include "cli.h"
#include "map_file.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn fsc A.mrc B.mrc [--mask M.mrc] [--json FILE]\n"
    "Fourier shell correlation of two maps of one box, and the resolution where it first falls below 0.5 and 0.143\n"
    "(the largest frequency, 2 pixels, where it never does).\n";

static const struct option options[] = {{"mask", required_argument, NULL, 'm'},
                                        {"json", required_argument, NULL, 'j'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

static const double thresholds[2] = {0.5, 0.143};

static het_status load_pair(het_volume map[3], char *const paths[2], const char *mask)
{
    het_status status = HET_OK;
    for (int i = 0; i < 2; i++) HET_TRY(het_map_load(&map[i], paths[i], 0.0));
    if (mask != NULL) HET_TRY(het_map_load(&map[2], mask, map[0].apix));
    if (map[0].box != map[1].box || (mask != NULL && map[2].box != map[0].box)) {
        const int other = map[0].box != map[1].box ? 1 : 2;
        status = het_fail(HET_E_INPUT, "%s has a box of %lld, %s one of %lld: they must be equal", paths[0],
                          (long long)map[0].box, other == 1 ? paths[1] : mask, (long long)map[other].box);
        goto done;
    }
    if (fabs(map[0].apix - map[1].apix) > 1e-2 * map[0].apix)
        status = het_fail(HET_E_INPUT, "%s has pixels of %g A, %s of %g A: they must be equal", paths[0], map[0].apix,
                          paths[1], map[1].apix);
done:
    return status;
}

static void print_table(const double *curve, const het_volume *map)
{
    const double side = (double)map->box * map->apix;
    printf("%6s %10s %10s %8s\n", "shell", "pixels", "A", "FSC");
    for (int64_t s = 1; s < map->box / 2; s++)
        printf("%6lld %10.3f %10.3f %8.4f\n", (long long)s, (double)map->box / (double)s, side / (double)s, curve[s]);
    for (int i = 0; i < 2; i++) {
        int crossed;
        const double shell = het_fsc_shell(curve, map->box, thresholds[i], &crossed);
        printf("FSC = %.3f at %.3f pixels, %.3f A%s\n", thresholds[i], (double)map->box / shell, side / shell,
               crossed ? "" : " (never crossed: the largest frequency)");
    }
}

static het_status write_json(const char *path, const double *curve, const het_volume *map)
{
    static const char *const names[2] = {"fsc05", "fsc0143"};
    json_t *root = json_object(), *values = json_array();
    for (int64_t s = 0; s < map->box / 2; s++) json_array_append_new(values, json_real(curve[s]));
    json_object_set_new(root, "box", json_integer(map->box));
    json_object_set_new(root, "apix", json_real(map->apix));
    json_object_set_new(root, "curve", values);
    for (int i = 0; i < 2; i++) {
        int crossed;
        const double shell = het_fsc_shell(curve, map->box, thresholds[i], &crossed);
        json_object_set_new(root, names[i],
                            json_pack("{s:f, s:f, s:f, s:b}", "shell", shell, "pixels", (double)map->box / shell,
                                      "angstrom", (double)map->box * map->apix / shell, "crossed", crossed));
    }
    const int failed = json_dump_file(root, path, JSON_INDENT(2));
    json_decref(root);
    return failed ? het_fail(HET_E_IO, "%s: it cannot be written", path) : HET_OK;
}

static het_status run(char *const paths[2], const char *mask, const char *json)
{
    het_status status = HET_OK;
    het_volume map[3] = {{0}};
    double *curve = NULL;
    HET_TRY(load_pair(map, paths, mask));
    curve = het_alloc((size_t)(map[0].box / 2) * sizeof *curve);
    if (curve == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the curve"));
    HET_TRY(het_fsc(curve, &map[0], &map[1], mask != NULL ? &map[2] : NULL));
    print_table(curve, &map[0]);
    if (json != NULL) HET_TRY(write_json(json, curve, &map[0]));
done:
    for (int i = 0; i < 3; i++) het_volume_free(&map[i]);
    het_release(curve);
    return status;
}

het_status het_cmd_fsc(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    const char *mask = NULL, *json = NULL;
    const int root = het_comm_rank(comm) == 0;
    int option;
    (void)exit_code;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == 'm') mask = optarg;
        else if (option == 'j') json = optarg;
        else if (option != 'h') HET_TRY(het_options_refused(argv, option));
        else {
            if (root) fputs(usage, stdout);
            goto done;
        }
    }
    if (optind + 2 != argc) HET_TRY(het_fail(HET_E_USAGE, "fsc takes two maps; see hetacumn fsc --help"));
    HET_TRY(het_comm_agree(comm, root ? run(argv + optind, mask, json) : HET_OK));
done:
    return status;
}
