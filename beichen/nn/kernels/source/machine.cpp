// What this library was compiled for, for people to read; and the threads that it computes with.
#include "vector.h"
#include <omp.h>

KERNEL const char *kernels_instructions() {
#if defined(__AMX_BF16__)
    return "AMX bf16";
#elif defined(BEICHEN_AVX512_BF16)
    return "AVX-512 bf16";
#elif defined(BEICHEN_AVX512)
    return "AVX-512";
#elif defined(__AVX2__)
    return "AVX2";
#else
    return "portable";
#endif
}

// Ends the threads that wait for the calling one to compute again.
KERNEL int end_helpers() { return omp_pause_resource_all(omp_pause_soft); }
