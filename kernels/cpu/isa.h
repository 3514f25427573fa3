#pragma once

/** Instruction sets the matrix kernels are written for, each containing the ones before. */
typedef enum het_isa { HET_ISA_PLAIN, HET_ISA_AVX2, HET_ISA_AVX512, HET_ISA_BF16, HET_ISA_AMX } het_isa;

/** The best set that this chip and kernel offer, capped by the environment variable HET_CPU_ISA
 *  (plain, avx2, avx512, bf16, amx; anything else is ignored). The first call asks Linux for the AMX tile registers.
 *  The variable is read at every call, so that tests can walk through the variants. */
het_isa het_isa_get(void);
/** The name as in HET_CPU_ISA. */
const char *het_isa_name(het_isa isa);
