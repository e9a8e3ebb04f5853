// Runs to one: equal words of several sorted runs become one record with the sum of their counts.
#include <algorithm>
#include <map>
#include <memory>

#include "runs.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// `paths`: names, each ended by a zero byte. `progress[0]` gains the bytes read; a wish to stop is `progress[1]`.
// `histogram_path` (may be null) gets rows of count, words, bytes, as 64-bit numbers, counts falling. Returns 0 or an error number.
EXPORT int text_runs_combine(const char* paths, long number, const char* target, const char* histogram_path, volatile int64_t* progress) {
    std::vector<std::unique_ptr<RunReader>> readers;
    for (long run = 0; run < number; ++run, paths += std::strlen(paths) + 1) {
        auto reader = std::make_unique<RunReader>(paths);
        if (reader->next()) readers.push_back(std::move(reader));
        else if (reader->error()) return reader->error();
    }
    const auto later = [](const std::unique_ptr<RunReader>& one, const std::unique_ptr<RunReader>& other) { return other->before(*one); };
    std::make_heap(readers.begin(), readers.end(), later);
    RunWriter writer(target);
    std::map<uint64_t, std::pair<uint64_t, uint64_t>, std::greater<uint64_t>> histogram;
    std::vector<uint8_t> word;
    uint64_t hash = 0, count = 0, steps = 0, before = 0;
    const auto finish = [&] {
        if (!count) return;
        writer.write(word.data(), word.size(), count);
        auto& [words, bytes] = histogram[count];
        words += 1, bytes += word.size();
    };
    while (!readers.empty()) {
        std::pop_heap(readers.begin(), readers.end(), later);
        RunReader& first = *readers.back();
        if (count && first.hash == hash && first.word == word) {
            count += first.count;
        } else {
            finish();
            word = first.word, hash = first.hash, count = first.count;
        }
        before = first.bytes_read;
        const bool more = first.next();
        progress[0] += int64_t(first.bytes_read - before);
        if (more) std::push_heap(readers.begin(), readers.end(), later);
        else if (first.error()) return first.error();
        else readers.pop_back();
        if (!(++steps & 0xFFFF) && progress[1]) return ECANCELED;
    }
    finish();
    if (histogram_path) {
        std::FILE* file = std::fopen(histogram_path, "wb");
        if (!file) return errno;
        for (const auto& [times, sums] : histogram) {
            const uint64_t row[3] = {times, sums.first, sums.second};
            if (std::fwrite(row, sizeof row, 1, file) != 1) return std::fclose(file), errno ? errno : EIO;
        }
        if (std::fclose(file)) return errno;
    }
    return writer.close();
}
