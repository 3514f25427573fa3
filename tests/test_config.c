/* The configuration: defaults, overrides, what is refused and with which words, saving, comparing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/config.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/het-config-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(in_folder("a.yaml"));
    return rmdir(folder);
}

static const char *write_yaml(const char *text)
{
    FILE *file = fopen(in_folder("a.yaml"), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return in_folder("a.yaml");
}

static void assert_message(const char *part)
{
    if (strstr(het_status_message(), part) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", het_status_message(), part);
}

static void defaults_are_valid(void **state)
{
    (void)state;
    het_config c;
    het_config_default(&c);
    assert_int_equal(het_config_check(&c), HET_OK);
    assert_int_equal(c.z_dim, 8);
    assert_int_equal(c.train.batch, 64);
    assert_true(c.train.rate_encoder == 3e-4);
    assert_int_equal(c.encoder.pool, HET_POOL_FLATTEN);
    assert_int_equal(c.ablation.asn, 1);
    assert_true(c.train.shift_range == -1);
    assert_int_equal(c.run.log_steps, 50);
}

static void overrides(void **state)
{
    (void)state;
    het_config c;
    het_config_default(&c);
    assert_int_equal(het_config_set(&c, "train.batch=128"), HET_OK);
    assert_int_equal(het_config_set(&c, "train.rate_decoder=2.5e-4"), HET_OK);
    assert_int_equal(het_config_set(&c, "encoder.pool=avg"), HET_OK);
    assert_int_equal(het_config_set(&c, "train.precision=bf16"), HET_OK);
    assert_int_equal(het_config_set(&c, "ablation.fch=false"), HET_OK);
    assert_int_equal(het_config_set(&c, "z_dim=1"), HET_OK);
    assert_int_equal(c.train.batch, 128);
    assert_true(c.train.rate_decoder == 2.5e-4);
    assert_int_equal(c.encoder.pool, HET_POOL_AVG);
    assert_int_equal(c.train.precision, 2);
    assert_int_equal(c.ablation.fch, 0);
    assert_int_equal(c.z_dim, 1);
}

static void bad_overrides(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"train.batch", "section.key=value"},
        {"train.bach=3", "train.bach: there is no such key; there are method, seed, batch"},
        {"trian.batch=3", "there are z_dim, encoder.*, decoder.*, init.*, train.*"},
        {"batch=3", "no such key"},
        {"train.batch=0", "train.batch = 0: it must be a whole number from 1 to 1048576"},
        {"train.batch=64x", "train.batch = 64x"},
        {"train.batch=6.5", "whole number"},
        {"train.batch=", "whole number"},
        {"train.batch=99999999999999999999", "whole number"},
        {"train.rate_final=nan", "from 0 to 1"},
        {"train.rate_final=1.5", "train.rate_final = 1.5: it must be a number from 0 to 1"},
        {"train.mirror=maybe", "true or false"},
        {"encoder.pool=max", "one of flatten|avg"},
        {"encoder.pool=flat", "one of flatten|avg"},
    };
    het_config c, before;
    het_config_default(&c);
    before = c;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(het_config_set(&c, bad[i][0]), HET_E_USAGE);
        assert_message(bad[i][1]);
    }
    assert_memory_equal(&c, &before, sizeof c);
}

static void combinations(void **state)
{
    (void)state;
    static const char *const bad[] = {"encoder.width=40", "encoder.window_inner=1", "train.shards=65"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        het_config c;
        het_config_default(&c);
        assert_int_equal(het_config_set(&c, bad[i]), HET_OK);
        assert_int_equal(het_config_check(&c), HET_E_USAGE);
    }
    het_config c;
    het_config_default(&c);
    c.run.keep = 0;
    assert_int_equal(het_config_check(&c), HET_E_USAGE);
    assert_message("run.keep = 0");
}

static void load_over_what_is_there(void **state)
{
    (void)state;
    het_config c;
    het_config_default(&c);
    c.run.keep = 7;
    const char *path =
        write_yaml("# ours\nz_dim: 4\ntrain:\n  batch: 32\n  freeze_z: normal\n  mirror: false\n"
                   "decoder: {width: 64, sigma: 0.5}\n");
    assert_int_equal(het_config_load(&c, path), HET_OK);
    assert_int_equal(c.z_dim, 4);
    assert_int_equal(c.train.batch, 32);
    assert_int_equal(c.train.freeze_z, HET_FROZEN_NORMAL);
    assert_int_equal(c.train.mirror, 0);
    assert_int_equal(c.decoder.width, 64);
    assert_true(c.decoder.sigma == 0.5);
    assert_int_equal(c.run.keep, 7);
    assert_int_equal(c.decoder.layers, 4);
}

static void bad_files_name_the_line(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"z_dim: 4\ntrain:\n  batch: 32\n  bach: 3\n", "a.yaml line 4: train.bach: there is no such key",
         "batch"},
        {"z_dim: 4\nbatch: 3\n", "a.yaml line 2: batch: there is no such key", "train.*"},
        {"train:\n  seed: 3\n  # why\n  batch: zero\n", "a.yaml line 4: train.batch = zero", "whole number"},
        {"train:\n  batch: 0\n", "a.yaml line 2: train.batch = 0", "from 1 to 1048576"},
        {"encoder:\n  pool: max\n", "a.yaml line 2: encoder.pool = max", "flatten|avg"},
        {"train:\n  batch: [1, 2]\n", "line 2", "batch"},
        {"train:\n  batch: 3\n  batch: 4\n", "line 2", "already"},
        {"train:\n  bach: {a: 1}\n", "line 2: train.bach", "no such key"},
        {"train: {batch: 3\n", "a.yaml", "key: value"},
        {"- 3\n", "a.yaml", "key: value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        het_config c;
        het_config_default(&c);
        assert_int_equal(het_config_load(&c, write_yaml(bad[i][0])), HET_E_USAGE);
        assert_message(bad[i][1]);
        assert_message(bad[i][2]);
    }
    het_config c;
    het_config_default(&c);
    assert_int_equal(het_config_load(&c, in_folder("none.yaml")), HET_E_USAGE);
    assert_message("No such file");
}

static void save_and_load(void **state)
{
    (void)state;
    het_config saved, loaded;
    het_config_default(&saved);
    saved.z_dim = 3;
    saved.train.seed = 9007199254740991;
    saved.train.rate_encoder = 1.0 / 3.0;
    saved.train.snr = 1e-300;
    saved.train.precision = 1;
    saved.encoder.pool = HET_POOL_AVG;
    saved.ablation.cpp = 0;
    het_config_default(&loaded);
    assert_int_equal(het_config_save(&saved, in_folder("a.yaml")), HET_OK);
    assert_int_equal(het_config_load(&loaded, in_folder("a.yaml")), HET_OK);
    assert_memory_equal(&saved, &loaded, offsetof(het_config, named));
    assert_int_equal(access(in_folder("a.yaml.tmp"), F_OK), -1);
    assert_int_equal(het_config_save(&saved, in_folder("no/a.yaml")), HET_E_IO);
}

static void differences(void **state)
{
    (void)state;
    het_config now, was;
    char text[200], tiny[12];
    het_config_default(&now);
    was = now;
    assert_int_equal(het_config_differences(&now, &was, 0, text, sizeof text), 0);
    assert_string_equal(text, "");
    now.train.batch = 128;
    now.train.epochs = 80;
    now.encoder.pool = HET_POOL_AVG;
    assert_int_equal(het_config_differences(&now, &was, 0, text, sizeof text), 3);
    assert_string_equal(
        text, "encoder.pool (avg, was flatten), train.batch (128, was 64), train.epochs (80, was 40)");
    assert_int_equal(het_config_differences(&now, &was, 1, text, sizeof text), 2);
    assert_null(strstr(text, "epochs"));
    assert_int_equal(het_config_differences(&now, &was, 0, tiny, sizeof tiny), 3);
}

/* What a method implies, and what it does not go with. */
static void methods(void **state)
{
    (void)state;
    het_config c, was;
    char text[200];
    het_config_default(&c);
    assert_int_equal(het_config_resolve(&c), HET_OK); /* the default implies nothing */
    het_config_default(&was);
    assert_int_equal(het_config_differences(&c, &was, 0, text, sizeof text), 0);
    assert_int_equal(het_config_set(&c, "train.method=cryofire"), HET_OK);
    assert_int_equal(het_config_resolve(&c), HET_OK);
    assert_true(c.init.method == HET_START_NONE && !c.ablation.cpp && c.train.mirror);
    assert_int_equal(het_config_resolve(&c), HET_OK); /* again */
    assert_int_equal(het_config_save(&c, in_folder("a.yaml")), HET_OK);
    het_config_default(&was);
    assert_int_equal(het_config_load(&was, in_folder("a.yaml")), HET_OK);
    assert_int_equal(het_config_resolve(&was), HET_OK); /* what was saved goes together */
    assert_int_equal(het_config_set(&was, "train.method=cryodrgn2"), HET_OK);
    assert_int_equal(het_config_resolve(&was), HET_E_USAGE);
    assert_message("train.mirror = true does not go with train.method=cryodrgn2, which means false");
    het_config_default(&c);
    assert_int_equal(het_config_set(&c, "ablation.cpp=true"), HET_OK); /* as by default, but asked for */
    assert_int_equal(het_config_set(&c, "train.method=cryodrgn2"), HET_OK);
    assert_int_equal(het_config_resolve(&c), HET_E_USAGE);
    assert_message("ablation.cpp = true");
    het_config_default(&c);
    assert_int_equal(het_config_set(&c, "train.method=cryodrgn2"), HET_OK);
    was = c;
    assert_int_equal(het_config_set(&was, "train.march_start=4"), HET_OK);
    assert_int_equal(het_config_resolve(&c), HET_OK);
    assert_int_equal(het_config_resolve(&was), HET_OK);
    assert_true(c.train.march_start == 6.0 && was.train.march_start == 4.0); /* another default, no more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_valid),      cmocka_unit_test(overrides),
        cmocka_unit_test(bad_overrides),           cmocka_unit_test(combinations),
        cmocka_unit_test(load_over_what_is_there), cmocka_unit_test(bad_files_name_the_line),
        cmocka_unit_test(save_and_load),           cmocka_unit_test(differences),
        cmocka_unit_test(methods),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
