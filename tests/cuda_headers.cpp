/* Compiled, not run, where the libraries' own headers are found: those of kernels/cuda must agree with them. */
#include <cublasLt.h>
#include <stddef.h>

#include "../kernels/cuda/cublaslt.h"

static_assert(LT_SUCCESS == CUBLAS_STATUS_SUCCESS && LT_OP_N == CUBLAS_OP_N && LT_OP_T == CUBLAS_OP_T);
static_assert(LT_COMPUTE_32F_FAST_TF32 == CUBLAS_COMPUTE_32F_FAST_TF32);
static_assert(LT_COMPUTE_32F == CUBLAS_COMPUTE_32F && LT_R_32F == CUDA_R_32F && LT_R_16BF == CUDA_R_16BF);
static_assert(LT_LAYOUT_BATCH_COUNT == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT &&
              LT_LAYOUT_BATCH_STRIDE == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(LT_DESC_TRANSA == CUBLASLT_MATMUL_DESC_TRANSA && LT_DESC_TRANSB == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(LT_PREF_WORKSPACE == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(LT_PREF_REDUCTION == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(LT_PREF_ALIGN_A == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(LT_PREF_ALIGN_B == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(LT_PREF_ALIGN_C == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(LT_PREF_ALIGN_D == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(LT_REDUCTION_COMPUTE_TYPE == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(sizeof(lt_algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(lt_result) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(lt_result, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(lt_result, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));

/* Every function takes as many arguments of the same sizes: handles are pointers, enumerations ints. */
template <class A, class B> struct alike;
template <class R, class... A, class S, class... B> struct alike<R (*)(A...), S (*)(B...)> {
    static constexpr bool counts = sizeof...(A) == sizeof...(B) && sizeof(R) == sizeof(S);
    static constexpr bool value = [] {
        if constexpr (counts) return ((sizeof(A) == sizeof(B)) && ...);
        else return false;
    }();
};
#define AGREES(result, name, arguments)                       \
    typedef result(*lt_##name) arguments;                     \
    static_assert(alike<lt_##name, decltype(&cublasLt##name)>::value, #name);
LT_FUNCTIONS(AGREES)

#ifdef HET_HAVE_NCCL
#include <nccl.h>

#include "../kernels/cuda/nccl_calls.h"

static_assert(NC_SUCCESS == ncclSuccess && NC_IN_PROGRESS == ncclInProgress && NC_FLOAT == ncclFloat && NC_SUM == ncclSum);
static_assert(sizeof(nc_id) == sizeof(ncclUniqueId) && (unsigned)NC_MAGIC == 0xcafebeef && NC_OLDEST == NCCL_VERSION(2, 14, 0));
static_assert(offsetof(nc_config, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(nc_config, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(nc_config, blocking) == offsetof(ncclConfig_t, blocking));
#undef AGREES
#define AGREES(result, name, arguments)                       \
    typedef result(*nc_##name) arguments;                     \
    static_assert(alike<nc_##name, decltype(&nccl##name)>::value, #name);
NC_FUNCTIONS(AGREES)
#endif

#ifdef HET_HAVE_CUDNN
#include <cudnn.h>

#include "../kernels/cuda/cudnn_calls.h"

static_assert(CD_SUCCESS == CUDNN_STATUS_SUCCESS && CD_BAD_PARAM == CUDNN_STATUS_BAD_PARAM);
static_assert(CD_NOT_SUPPORTED == CUDNN_STATUS_NOT_SUPPORTED && CD_NOT_SUPPORTED_END > CUDNN_STATUS_NOT_SUPPORTED);
static_assert(CD_NHWC == CUDNN_TENSOR_NHWC && CD_FLOAT == CUDNN_DATA_FLOAT && CD_BFLOAT16 == CUDNN_DATA_BFLOAT16);
static_assert(CD_CROSS_CORRELATION == CUDNN_CROSS_CORRELATION && CD_DETERMINISTIC == CUDNN_DETERMINISTIC);
static_assert(CD_TENSOR_OP_MATH == CUDNN_TENSOR_OP_MATH && CD_FMA_MATH == CUDNN_FMA_MATH);
static_assert(CD_FORWARD_LAST == CUDNN_CONVOLUTION_FWD_ALGO_GEMM && CD_BACKWARD_LAST == CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 &&
              CD_BACKWARD_LAST == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1);
template <class Real> constexpr bool same_results()
{
    return sizeof(cd_algorithm) == sizeof(Real) && offsetof(cd_algorithm, status) == offsetof(Real, status) &&
           offsetof(cd_algorithm, memory) == offsetof(Real, memory) && offsetof(cd_algorithm, math) == offsetof(Real, mathType) &&
           offsetof(cd_algorithm, determinism) == offsetof(Real, determinism);
}
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the older interface */
static_assert(same_results<cudnnConvolutionFwdAlgoPerf_t>() && same_results<cudnnConvolutionBwdDataAlgoPerf_t>() &&
              same_results<cudnnConvolutionBwdFilterAlgoPerf_t>());
#undef AGREES
#define AGREES(result, name, arguments)                       \
    typedef result(*cd_##name) arguments;                     \
    static_assert(alike<cd_##name, decltype(&cudnn##name)>::value, #name);
CD_FUNCTIONS(AGREES)
#endif

#ifdef HET_HAVE_CUFFT
#include <cufft.h>

#include "../kernels/cuda/cufft_calls.h"

static_assert(CF_SUCCESS == CUFFT_SUCCESS && CF_R2C == CUFFT_R2C && CF_C2R == CUFFT_C2R && sizeof(cufftHandle) == sizeof(int));
#undef AGREES
#define AGREES(result, name, arguments)                       \
    typedef result(*cf_##name) arguments;                     \
    static_assert(alike<cf_##name, decltype(&cufft##name)>::value, #name);
CF_FUNCTIONS(AGREES)
#endif
