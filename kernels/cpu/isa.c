#include "isa.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"plain", "avx2", "avx512", "bf16", "amx"};

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux hands out the 8 KiB of tile state only on request (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA = 18). */
static int amx_granted(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const int tile = (d >> 24) & 1, tile_bf16 = (d >> 22) & 1;
    return tile && tile_bf16 && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static het_isa best(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return HET_ISA_PLAIN;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return HET_ISA_AVX2;
    if (!__builtin_cpu_supports("avx512bf16")) return HET_ISA_AVX512;
    return amx_granted() ? HET_ISA_AMX : HET_ISA_BF16;
}
#else
static het_isa best(void)
{
    return HET_ISA_PLAIN;
}
#endif

het_isa het_isa_get(void)
{
    static int known = -1;
    if (known < 0) known = (int)best();
    const char *cap = getenv("HET_CPU_ISA");
    for (int i = 0; cap != NULL && i < known; i++) {
        if (strcmp(cap, names[i]) == 0) return (het_isa)i;
    }
    return (het_isa)known;
}

const char *het_isa_name(het_isa isa)
{
    return names[isa];
}
