// Words with counts on disk: a run is a file of records sorted by (hash, bytes), each: size, count (both as 7-bit groups, low
// first), bytes. The same format as beichen/text/training/runs.py.
#pragma once
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "hashing.h"

class RunWriter {
  public:
    explicit RunWriter(const char* path) : file_(std::fopen(path, "wb")), buffer_(1 << 18), error_(file_ ? 0 : errno) {
        if (file_) std::setvbuf(file_, buffer_.data(), _IOFBF, buffer_.size());
    }
    ~RunWriter() { close(); }

    void write(const uint8_t* word, uint64_t size, uint64_t count) {
        if (!file_) return;
        uint8_t head[20];
        uint8_t* place = group(group(head, size), count);
        if (std::fwrite(head, 1, place - head, file_) != size_t(place - head) || std::fwrite(word, 1, size, file_) != size) fail();
    }

    // 0, or the error number of the first fault.
    int close() {
        if (file_) {
            if (std::fflush(file_) != 0) fail();
            if (file_ && std::fclose(file_) != 0) error_ = errno;
            file_ = nullptr;
        }
        return error_;
    }

  private:
    static uint8_t* group(uint8_t* place, uint64_t value) {
        for (; value >= 128; value >>= 7) *place++ = uint8_t(value | 128);
        *place++ = uint8_t(value);
        return place;
    }
    void fail() {
        error_ = errno ? errno : EIO;
        if (file_) std::fclose(file_);
        file_ = nullptr;
    }

    std::FILE* file_;
    std::vector<char> buffer_;
    int error_;
};

class RunReader {
  public:
    std::vector<uint8_t> word;
    uint64_t hash = 0, count = 0, bytes_read = 0;

    explicit RunReader(const char* path, size_t buffer = 1 << 18) : file_(std::fopen(path, "rb")), buffer_(buffer) {
        error_ = file_ ? 0 : errno;
        if (file_) std::setvbuf(file_, nullptr, _IONBF, 0);
    }
    RunReader(const RunReader&) = delete;
    ~RunReader() {
        if (file_) std::fclose(file_);
    }

    // The next record; false at the end, or on a fault (then error() is not 0).
    bool next() {
        if (error_) return false;
        int byte = get();
        if (byte < 0) return false;
        const uint64_t size = number(byte);
        count = number(get());
        word.resize(size);
        for (uint64_t done = 0; done < size && !error_;) {
            if (at_ == end_ && !fill()) return error_ = error_ ? error_ : EILSEQ, false;
            const uint64_t part = std::min<uint64_t>(size - done, end_ - at_);
            std::memcpy(word.data() + done, buffer_.data() + at_, part);
            at_ += part, done += part;
        }
        hash = hash_word(word.data(), size);
        return !error_;
    }
    int error() const { return error_; }

    bool before(const RunReader& other) const { return hash != other.hash ? hash < other.hash : word < other.word; }
    bool same(const RunReader& other) const { return hash == other.hash && word == other.word; }

  private:
    bool fill() {
        end_ = std::fread(buffer_.data(), 1, buffer_.size(), file_);
        at_ = 0, bytes_read += end_;
        if (!end_ && std::ferror(file_)) error_ = EIO;
        return end_ > 0;
    }
    int get() {
        if (at_ == end_ && !fill()) return -1;
        return buffer_[at_++];
    }
    uint64_t number(int byte) {
        uint64_t value = 0;
        for (int shift = 0;; shift += 7, byte = get()) {
            if (byte < 0 || shift > 63) return error_ = EILSEQ, 0;
            value |= uint64_t(byte & 127) << shift;
            if (byte < 128) return value;
        }
    }

    std::FILE* file_;
    std::vector<uint8_t> buffer_;
    size_t at_ = 0, end_ = 0;
    int error_ = 0;
};
