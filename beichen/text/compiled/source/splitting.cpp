// Cutting for tests and for callers that want the pieces themselves; and what the library was compiled for.
#include "splitting.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* text_instructions() {
#if defined(__AVX512F__)
    return "avx512f";
#elif defined(__AVX2__)
    return "avx2";
#else
    return "baseline";
#endif
}

// Ends of all pieces of one text into `ends`, which has room for `size` of them; returns how many.
EXPORT long text_split(int pattern, const uint8_t* text, long size, int64_t* ends) {
    const Splitter splitter{Pattern(pattern)};
    long pieces = 0;
    for (const uint8_t* at = text; at < text + size;) {
        at = splitter.cut(at, text + size);
        ends[pieces++] = at - text;
    }
    return pieces;
}
