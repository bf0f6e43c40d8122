// Decodes frames of a packed checkpoint on a GPU: the layout of ../layout.rs, and nothing but index arithmetic.
//
// A launch has one thread block for each part: at most 64 KiB of the decoded bytes of one frame, which is what 64 blocks
// of bf16 or fp16 decode to. The same text compiles as C, with loops in place of threads, for tests (tests/device.rs).
// decode.ptx is made of it by ptx.py.

typedef unsigned char byte;
typedef unsigned short half_word;
typedef unsigned int word;
typedef unsigned long long long_word;

#define WIDTH 256
#define RANGE 65536
#define BLOCK 512
#define TILE 64
#define GROUP 32 // blocks that are decoded at a time: one thread for each row of each
#define ESCAPE 7
#define FAR 15

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#define INLINE static __device__ __forceinline__
#define SHARED __shared__
#define THREADS(thread) for (word thread = threadIdx.x, once = 1; once; once = 0)
#define TOGETHER() __syncthreads()
#define PART blockIdx.x
#define COUNT_BITS(bits) __popcll(bits)
#else
#define KERNEL void
#define INLINE static inline
#define SHARED
#define THREADS(thread) for (word thread = 0; thread < WIDTH; thread++)
#define TOGETHER()
#define PART part_number
#define COUNT_BITS(bits) __builtin_popcountll(bits)
#endif

// 32 bytes, as the host writes them.
typedef struct {
    word from;   // where the frame's stored bytes are, from `staged` on
    word stored; // how many
    word skip;   // decoded bytes of the frame that are not wanted
    word length; // decoded bytes that are
    word to;     // where the first of them goes, from `chunk` on
    word range;  // which 64 KiB of the decoded bytes this part is
    word coded;  // 0: the bytes are stored as they are
    word zero;
} Part;

INLINE word word_at(const byte *bytes) {
    return bytes[0] | (word)bytes[1] << 8 | (word)bytes[2] << 16 | (word)bytes[3] << 24;
}

// Decoded bytes of the frame, from `at` on: those that are wanted go to their place.
INLINE void put(const Part *part, byte *chunk, word at, word value, word bytes) {
    if (at >= part->skip && at + bytes <= part->skip + part->length) {
        byte *to = chunk + part->to + (at - part->skip);
        if (bytes == 2 && ((long_word)to & 1) == 0) {
            *(half_word *)to = (half_word)value;
            return;
        }
        if (bytes == 4 && ((long_word)to & 3) == 0) {
            *(word *)to = value;
            return;
        }
    }
    for (word i = 0; i < bytes; i++)
        if (at + i >= part->skip && at + i < part->skip + part->length)
            chunk[part->to + (at + i - part->skip)] = (byte)(value >> 8 * i);
}

// Bytes `at` to `end` of the frame, which are stored as they are from `source` on.
INLINE void copy(const Part *part, byte *chunk, const byte *source, word at, word end) {
    word first = at > part->skip ? at : part->skip;
    word last = end < part->skip + part->length ? end : part->skip + part->length;
    THREADS(thread) {
        for (word i = first + 4 * thread; i < last; i += 4 * WIDTH) {
            word bytes = last - i < 4 ? last - i : 4, value = 0;
            for (word k = 0; k < bytes; k++) value |= (word)source[i - at + k] << 8 * k;
            if (bytes == 4) put(part, chunk, i, value, 4);
            else for (word k = 0; k < bytes; k++) put(part, chunk, i + k, value >> 8 * k, 1);
        }
    }
}

// The 3 bits of one value among three planes of 64 bytes.
INLINE word field(const byte *planes, word row, word column) {
    byte a = planes[column], b = planes[64 + column], c = planes[128 + column];
    if (row < 2) return a >> 3 * row & 7;
    if (row < 4) return b >> 3 * (row - 2) & 7;
    if (row < 6) return c >> 3 * (row - 4) & 7;
    word last = a >> 6 | (word)(b >> 6) << 2 | (word)(c >> 6) << 4;
    return last >> 3 * (row - 6) & 7;
}

// The value of a block whose exponent byte is known.
INLINE word value_of(const byte *block, word scheme, word index, word exponent) {
    if (scheme == 2) {
        word number = field(block + BLOCK, index / 64, index % 64);
        return block[index] | (exponent | number >> 2 << 7 | (number & 3)) << 8;
    }
    word kept = scheme == 1 ? block[index] : block[2 * BLOCK + index];
    word turned = kept | exponent << 8;
    word upper = (turned >> 1 | turned << 15) & 0xFFFF;
    return scheme == 1 ? upper : upper << 16 | block[2 * index] | (word)block[2 * index + 1] << 8;
}

KERNEL decode(const byte *staged, word table, byte *chunk, word parts
#ifndef __CUDACC__
              , word part_number
#endif
) {
    if (PART >= parts) return;
    const Part part = ((const Part *)(staged + table))[PART];
    const byte *source = staged + part.from;
    word begin = part.range * RANGE;
    if (!part.coded || source[1] == 0) {
        word header = part.coded ? 16 : 0;
        copy(&part, chunk, source + header + begin, begin, begin + RANGE);
        return;
    }
    word scheme = source[1], escape_length = word_at(source + 4), raw_length = word_at(source + 8);
    word bytes = scheme == 3 ? 4 : 2;
    word kept = scheme == 1 ? BLOCK : scheme == 2 ? BLOCK + 192 : 3 * BLOCK;
    word block_length = kept + 192, raw_block = bytes * BLOCK;
    word blocks = raw_length / raw_block, tiles = (blocks + TILE - 1) / TILE;
    word starts = 16 + 32 * tiles;
    word body = (starts + 2 * blocks + 63) / 64 * 64;
    word escapes = body + blocks * block_length, tail = escapes + escape_length;
    // The host has compared the checksum; a frame that contradicts itself is left undecoded all the same.
    if (tail + raw_length % raw_block > part.stored) return;

    word first = begin / raw_block, end = first + RANGE / raw_block;
    if (end > blocks) end = blocks;
    if (first < end) {
        const byte *tile = source + 16 + first / TILE * 32;
        word distant = tile[28] | (word)tile[29] << 8;
        word far = escapes + word_at(tile + 24), nibbles = far + 4 * distant;
        SHARED long_word escaped[WIDTH]; // a bit for each value of a row
        for (word group = first; group < end; group += GROUP) {
            THREADS(thread) {
                word block = group + thread / 8;
                long_word mask = 0;
                if (block < end) {
                    const byte *codes = source + body + block * block_length + kept;
                    for (word column = 0; column < 64; column++)
                        mask |= (long_word)(field(codes, thread % 8, column) == ESCAPE) << column;
                }
                escaped[thread] = mask;
            }
            TOGETHER();
            THREADS(thread) {
                for (word i = thread; i < GROUP * BLOCK; i += WIDTH) {
                    word block = group + i / BLOCK, index = i % BLOCK, row = index / 64, column = index % 64;
                    if (block >= end) continue;
                    const byte *at = source + body + block * block_length;
                    word code = field(at + kept, row, column), exponent = tile[code];
                    if (code == ESCAPE) {
                        const long_word *rows = escaped + i / BLOCK * 8;
                        word rank = COUNT_BITS(rows[row] & (((long_word)1 << column) - 1));
                        for (word before = 0; before < row; before++) rank += COUNT_BITS(rows[before]);
                        const byte *start = source + starts + 2 * block;
                        word place = nibbles + (start[0] | (word)start[1] << 8) + rank / 2;
                        word nibble = place < tail ? source[place] >> rank % 2 * 4 & 15 : FAR;
                        exponent = nibble == FAR ? 0 : tile[8 + nibble];
                    }
                    put(&part, chunk, block * raw_block + index * bytes,
                        value_of(at, scheme, index, exponent), bytes);
                }
            }
            TOGETHER();
        }
        THREADS(thread) {
            for (word i = thread; i < distant; i += WIDTH) {
                const byte *entry = source + far + 4 * i;
                if (far + 4 * i + 4 > tail) break;
                word position = entry[0] | (word)entry[1] << 8;
                word block = first / TILE * TILE + position / BLOCK, index = position % BLOCK;
                if (block < first || block >= end) continue;
                const byte *at = source + body + block * block_length;
                put(&part, chunk, block * raw_block + index * bytes, value_of(at, scheme, index, entry[2]), bytes);
            }
        }
    }
    word rest = blocks * raw_block;
    word from = begin > rest ? begin : rest;
    word last = begin + RANGE < raw_length ? begin + RANGE : raw_length;
    if (from < last) copy(&part, chunk, source + tail + (from - rest), from, last);
}
