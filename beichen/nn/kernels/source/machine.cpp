// What this library was compiled for, for people to read.
#include "vector.h"

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
