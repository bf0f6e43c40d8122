/*
 * weightstream: programs of torch.export, run with their weights streamed through a budget of memory.
 *
 * Whose is what. What a function makes for its caller is freed by the caller, once, with the function that ends in
 * _free and has its type's name: ws_program, ws_tensor, ws_state, ws_cancel, ws_text, ws_error. What a function only
 * shows (messages, names, shapes, data, ws_input) belongs to what it was asked of and is valid until that is freed. What a
 * caller gives stays the caller's and is copied where it is needed longer. Things may be freed in any order, but not
 * while a call uses them; NULL may be freed.
 *
 * Errors. Functions that can fail return a ws_status and take a ws_error ** last, which may be NULL. They write NULL
 * there, or an error that the caller frees; what was there before is not read. Functions that can't fail answer NULL
 * with NULL or zero. No call unwinds into its caller.
 *
 * Threads. Every function may be called from any thread, and programs, tensors, states and flags may be shared.
 *
 * Weights are read when they are touched, by a handler of SIGSEGV (on Apple's systems SIGBUS) that opening a program
 * installs. It leaves faults of other addresses to the handler that was there before; one that is installed later has
 * to do the same.
 */


#ifndef WEIGHTSTREAM_H
#define WEIGHTSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a call went.
typedef enum {
    // Well.
    WS_STATUS_OK = 0,
    // What was given is not what is expected: NULL, a wrong count, dtype or shape, text that is not UTF-8.
    WS_STATUS_ARGUMENT = 1,
    // A file can't be read.
    WS_STATUS_FILE = 2,
    // A file is damaged, or is no program.
    WS_STATUS_FORMAT = 3,
    // A version, operator or form of weights that this library doesn't have.
    WS_STATUS_UNSUPPORTED = 4,
    // The memory given for weights is too small; the message names the least that works.
    WS_STATUS_BUDGET = 5,
    // The system has no memory left.
    WS_STATUS_MEMORY = 6,
    // A weight could not be read while the program ran. It can be run again.
    WS_STATUS_WEIGHT = 7,
    // An operator can't compute with what came to it.
    WS_STATUS_OPERATOR = 8,
    // The run was cancelled.
    WS_STATUS_CANCELLED = 9,
    // A bug in this library, or a system that refuses what it needs. Free the program.
    WS_STATUS_INTERNAL = 10,
} ws_status;

// What one element of a tensor is.
typedef enum {
    // None of these.
    WS_DTYPE_UNKNOWN = 0,
    // Truth, a byte: 0, or anything else for true.
    WS_DTYPE_BOOL = 1,
    // An unsigned integer of 8 bits.
    WS_DTYPE_U8 = 2,
    // An integer of 8 bits.
    WS_DTYPE_I8 = 3,
    // An integer of 16 bits.
    WS_DTYPE_I16 = 4,
    // An integer of 32 bits.
    WS_DTYPE_I32 = 5,
    // An integer of 64 bits.
    WS_DTYPE_I64 = 6,
    // A number of 16 bits: 5 of exponent, 10 of fraction.
    WS_DTYPE_F16 = 7,
    // A number of 16 bits: the upper half of an F32.
    WS_DTYPE_BF16 = 8,
    // A number of 32 bits.
    WS_DTYPE_F32 = 9,
    // A number of 64 bits.
    WS_DTYPE_F64 = 10,
} ws_dtype;

// What an input has to be.
typedef enum {
    // A tensor.
    WS_KIND_TENSOR = 0,
    // A number: a tensor of rank 0, of any dtype.
    WS_KIND_NUMBER = 1,
    // What it was when the program was exported: NULL, and whatever is given is ignored.
    WS_KIND_CONSTANT = 2,
} ws_kind;

// A flag that ends runs, once it is set, from any thread. It stays set.
typedef struct ws_cancel ws_cancel;

// Why a call failed.
typedef struct ws_error ws_error;

// What an input has to be. It belongs to the program.
typedef struct ws_input ws_input;

// A program that `torch.export.save` wrote, ready to be run. Several threads may run it at once.
typedef struct ws_program ws_program;

// What runs leave for later ones, a conversation's KV cache for one. Runs with the same state wait for each other.
typedef struct ws_state ws_state;

// An array of elements that follow each other in memory, the last index fastest. It never changes, and outlives the
// program that made it; several threads may read it, and give it to runs, at once.
typedef struct ws_tensor ws_tensor;

// A language model and its tokenizer. Several threads may have it write at once.
typedef struct ws_text ws_text;

// How a program is opened. Begin with `ws_options options = {sizeof options};`: fields that are zero have their
// defaults, and the size tells which fields the caller knows.
typedef struct {
    // `sizeof(ws_options)`.
    size_t size;
    // Bytes of memory for weights; 0 keeps all of them, once read.
    uint64_t memory;
    // Which model, in UTF-8, where the file has several; else NULL.
    const char *model;
    // Threads that multiply matrices; 0 takes as many as there are processors.
    size_t threads;
} ws_options;

// How many entries a dimension has: from `least` to `most`, which are the same where the size is fixed.
typedef struct {
    // The least.
    int64_t least;
    // The most.
    int64_t most;
    // NULL where the size is fixed. Else its name: dimensions of the same name have the same size. It belongs to the
    // program.
    const char *symbol;
} ws_dimension;

// Is told, in the thread that runs, that `done` operators of `total` have run. `user` is the pointer of the run's
// options. It must return: no exception, no `longjmp`.
typedef void (*ws_progress)(void *user, size_t done, size_t total);

// How one run is to go. Begin with `ws_run_options options = {sizeof options};`: fields that are zero have their
// defaults, and the size tells which fields the caller knows. What it points to stays the caller's.
typedef struct {
    // `sizeof(ws_run_options)`.
    size_t size;
    // Ends the run when it is set; may be NULL.
    ws_cancel *cancel;
    // What earlier runs left; NULL is the program's own.
    ws_state *state;
    // Is told how far the run is; may be NULL.
    ws_progress progress;
    // For `progress`.
    void *user;
} ws_run_options;

// What a program has done since it was opened, in bytes and nanoseconds. Begin with `ws_stats stats = {sizeof stats};`:
// the size tells which fields the caller knows.
typedef struct {
    // `sizeof(ws_stats)`.
    size_t size;
    // Memory allowed for weights.
    uint64_t budget;
    // Memory in use for weights.
    uint64_t used;
    // The least budget that works.
    uint64_t least;
    // All weights.
    uint64_t model_bytes;
    // The most that activations and state took at once.
    uint64_t activation_peak;
    // Runs begun.
    uint64_t passes;
    // Bytes read from the files.
    uint64_t bytes_read;
    // Time in which at least one read was under way.
    uint64_t reading_time;
    // Time in which at least one thread waited for a weight.
    uint64_t stall_time;
    // Reads tried again after an error.
    uint64_t retries;
    // Weights that could not be read.
    uint64_t errors;
} ws_stats;

// Is told, in the thread that generates, what each token adds to the text, in UTF-8: nothing where it ends within a
// character. `user` is the pointer of the text's options. It must return: no exception, no `longjmp`.
typedef void (*ws_show)(void *user, const char *text);

// How a text is to be. Begin with `ws_text_options options = {sizeof options};`: fields that are zero have their
// defaults, and the size tells which fields the caller knows. What it points to stays the caller's.
typedef struct {
    // `sizeof(ws_text_options)`.
    size_t size;
    // How many tokens at most; 0 is 128.
    size_t tokens;
    // Chooses among so many of the likeliest tokens; 0 among all.
    size_t top_k;
    // The same seed gives the same text.
    uint64_t seed;
    // Logits are divided by it; 0 takes the likeliest token always.
    float temperature;
    // Chooses among the likeliest tokens that together have this probability; 0 is 1, all of them.
    float top_p;
    // Ends the text when it is set; may be NULL.
    ws_cancel *cancel;
    // Is told the text as it comes; may be NULL.
    ws_show show;
    // For `show`.
    void *user;
} ws_text_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this library, "0.1.0". Never NULL; it is not to be freed.
const char *ws_version(void);

// What kind of error it is; `WS_STATUS_OK` for NULL.
//
// # Safety
// `error` is NULL or an error that was not freed.
ws_status ws_error_status(const ws_error *error);

// What was expected, what was got and where, in UTF-8. It belongs to the error; NULL for NULL.
//
// # Safety
// `error` is NULL or an error that was not freed.
const char *ws_error_message(const ws_error *error);

// Frees an error. NULL is fine.
//
// # Safety
// `error` is NULL or an error that was not freed.
void ws_error_free(ws_error *error);

// A tensor of a copy of the caller's elements, which the caller frees. `dtype` is a `ws_dtype`; `shape` has `rank`
// sizes and may be NULL for a single number, which has rank 0; `data` has `bytes` bytes, as many as the shape says, of
// this machine's order.
//
// # Safety
// `shape` and `data` are NULL or have as many entries as is said; `tensor` and `error` are NULL or can be written.
ws_status ws_tensor_new(uint32_t dtype,
                        const size_t *shape,
                        size_t rank,
                        const void *data,
                        size_t bytes,
                        ws_tensor **tensor,
                        ws_error **error);

// What its elements are; `WS_DTYPE_UNKNOWN` for NULL.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
ws_dtype ws_tensor_dtype(const ws_tensor *tensor);

// How many dimensions it has; 0 for NULL.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
size_t ws_tensor_rank(const ws_tensor *tensor);

// As many sizes as it has dimensions. They belong to the tensor; NULL for NULL.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
const size_t *ws_tensor_shape(const ws_tensor *tensor);

// Its elements, `ws_tensor_bytes` bytes at a multiple of their size. They belong to the tensor; NULL for NULL.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
const void *ws_tensor_data(const ws_tensor *tensor);

// How many bytes its elements take; 0 for NULL.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
size_t ws_tensor_bytes(const ws_tensor *tensor);

// Frees a tensor; what was computed from it stays. NULL is fine.
//
// # Safety
// `tensor` is NULL or a tensor that was not freed.
void ws_tensor_free(ws_tensor *tensor);

// Opens a `.pt2` file, or the folder that `weightstream pack` made of one. `path` is UTF-8; `options` may be NULL. The
// caller frees the program.
//
// # Safety
// `path` is NULL or ends with a zero, as does the model's name in `options`; `options` is NULL or has the size that it
// says; `program` and `error` are NULL or can be written.
ws_status ws_program_open(const char *path,
                          const ws_options *options,
                          ws_program **program,
                          ws_error **error);

// How many inputs a run takes; 0 for NULL.
//
// # Safety
// `program` is NULL or a program that was not freed.
size_t ws_program_input_count(const ws_program *program);

// What input `number` has to be. It belongs to the program; NULL where there is no such input.
//
// # Safety
// `program` is NULL or a program that was not freed.
const ws_input *ws_program_input(const ws_program *program, size_t number);

// How many outputs a run gives; 0 for NULL.
//
// # Safety
// `program` is NULL or a program that was not freed.
size_t ws_program_output_count(const ws_program *program);

// The way to output `number` in nested containers, empty for a single result. It belongs to the program; NULL where
// there is no such output.
//
// # Safety
// `program` is NULL or a program that was not freed.
const char *ws_program_output_name(const ws_program *program,
                                   size_t number);

// Whether a run changes what later runs give, as a KV cache does.
//
// # Safety
// `program` is NULL or a program that was not freed.
bool ws_program_has_state(const ws_program *program);

// Forgets what earlier runs left in the program's own state; waits for a run that uses it.
//
// # Safety
// `program` is NULL or a program that was not freed.
void ws_program_reset(const ws_program *program);

// Another budget of `memory` bytes for weights, from any thread, also while the program runs: what to call with less
// when the system asks for memory back.
//
// # Safety
// `program` is NULL or a program that was not freed; `error` is NULL or can be written.
ws_status ws_program_resize(const ws_program *program,
                            uint64_t memory,
                            ws_error **error);

// Frees a program. NULL is fine.
//
// # Safety
// `program` is NULL or a program that was not freed, and no other call is using it.
void ws_program_free(ws_program *program);

// The parameter's name, and the way to it in nested containers: `past.0.keys`. NULL for NULL.
//
// # Safety
// `input` is NULL or comes from a program that was not freed.
const char *ws_input_name(const ws_input *input);

// What has to be given; `WS_KIND_CONSTANT` for NULL.
//
// # Safety
// `input` is NULL or comes from a program that was not freed.
ws_kind ws_input_kind(const ws_input *input);

// What the tensor's elements have to be; `WS_DTYPE_UNKNOWN` for other kinds and for NULL.
//
// # Safety
// `input` is NULL or comes from a program that was not freed.
ws_dtype ws_input_dtype(const ws_input *input);

// How many dimensions the tensor has; 0 for other kinds and for NULL.
//
// # Safety
// `input` is NULL or comes from a program that was not freed.
size_t ws_input_rank(const ws_input *input);

// How many entries dimension `number` has; none where there is no such dimension.
//
// # Safety
// `input` is NULL or comes from a program that was not freed.
ws_dimension ws_input_dimension(const ws_input *input, size_t number);

// The state of a program that has not run yet, to be given to runs of this program only. The caller frees it.
//
// # Safety
// `program` is NULL or a program that was not freed; `state` and `error` are NULL or can be written.
ws_status ws_state_new(const ws_program *program,
                       ws_state **state,
                       ws_error **error);

// Frees a state, before or after its program. NULL is fine.
//
// # Safety
// `state` is NULL or a state that was not freed, and no run has it.
void ws_state_free(ws_state *state);

// A flag that is not set. The caller frees it, after the last run that was given it has ended.
ws_cancel *ws_cancel_new(void);

// Ends the runs that were given this flag, each before its next operator, with `WS_STATUS_CANCELLED`. From any thread;
// NULL is fine.
//
// # Safety
// `cancel` is NULL or a flag that was not freed.
void ws_cancel_set(ws_cancel *cancel);

// Frees a flag. NULL is fine.
//
// # Safety
// `cancel` is NULL or a flag that was not freed, and no run has it.
void ws_cancel_free(ws_cancel *cancel);

// Runs the program once. `inputs` are `input_count` tensors, which stay the caller's; NULL stands for what is None in
// Python. Into `outputs`, which has room for `output_count`, go tensors that the caller frees, NULL where the program
// gives None or text. Both counts are the program's. `options` may be NULL. After an error all outputs are NULL, and
// the program can be run again; its state may have a part of what the run wrote.
//
// # Safety
// `program` is NULL or a program that was not freed; `inputs` and `outputs` are NULL or have as many entries as is
// said, inputs that are NULL or tensors that were not freed; `options` is NULL, or has the size that it says and what
// it points to was not freed; `error` is NULL or can be written.
ws_status ws_program_run(const ws_program *program,
                         ws_tensor *const *inputs,
                         size_t input_count,
                         ws_tensor **outputs,
                         size_t output_count,
                         const ws_run_options *options,
                         ws_error **error);

// What the program has done so far. `stats->size` is set by the caller.
//
// # Safety
// `program` is NULL or a program that was not freed; `stats` is NULL or has the size that it says; `error` is NULL or
// can be written.
ws_status ws_program_stats(const ws_program *program,
                           ws_stats *stats,
                           ws_error **error);

// A language model of a program that `weightstream.export_text` wrote. `tokenizer` is the path, in UTF-8, of its
// `tokenizer.json`; the tokens that end a text are those of the `generation_config.json` beside that. The caller frees
// it, before or after the program; the program can be resized and asked for its stats as ever.
//
// # Safety
// `program` is NULL or a program that was not freed; `tokenizer` is NULL or ends with a zero; `made` and `error` are
// NULL or can be written.
ws_status ws_text_new(const ws_program *program,
                      const char *tokenizer,
                      ws_text **made,
                      ws_error **error);

// Goes on after `prompt`, UTF-8 with the model's control tokens where it is a chat, until the model ends the text, its
// cache is full, or there are as many tokens as were wanted. `options` may be NULL, but then nobody is told the text.
// Each call is a conversation of its own.
//
// # Safety
// `text` is NULL or was not freed; `prompt` is NULL or ends with a zero; `options` is NULL, or has the size that it
// says and what it points to was not freed; `error` is NULL or can be written.
ws_status ws_text_generate(const ws_text *text,
                           const char *prompt,
                           const ws_text_options *options,
                           ws_error **error);

// Frees a text's model. NULL is fine.
//
// # Safety
// `text` is NULL or was not freed, and no other call is using it.
void ws_text_free(ws_text *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WEIGHTSTREAM_H */
