/* Runs totals.pt2, whose path is the only argument, from C. The first thing that is not as expected ends it with 1. */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weightstream.h"

static void expect(bool held, const char *what, int line) {
    if (!held) {
        fprintf(stderr, "line %d: expected %s\n", line, what);
        exit(1);
    }
}

#define EXPECT(condition) expect(condition, #condition, __LINE__)

/* The call failed with this status, and its message has these words; the error is freed. */
static void refused(ws_status status, ws_status expected, ws_error **error, const char *words) {
    EXPECT(*error != NULL);
    const char *message = ws_error_message(*error);
    if (status != expected || !strstr(message, words)) {
        fprintf(stderr, "expected status %d and \"%s\", got %d: %s\n", (int)expected, words, (int)status, message);
        exit(1);
    }
    EXPECT(ws_error_status(*error) == expected);
    ws_error_free(*error);
}

/* What a run's progress tells; at operator `end` it sets the flag. */
struct watcher {
    size_t calls;
    size_t total;
    size_t end;
    ws_cancel *cancel;
};

static void watch(void *user, size_t done, size_t total) {
    struct watcher *watcher = user;
    watcher->calls += 1;
    watcher->total = total;
    if (done == watcher->end) {
        ws_cancel_set(watcher->cancel);
    }
}

static void describes_itself(const ws_program *program) {
    EXPECT(ws_program_has_state(program));
    EXPECT(ws_program_input_count(program) == 3);
    const ws_input *x = ws_program_input(program, 0);
    EXPECT(strcmp(ws_input_name(x), "x") == 0);
    EXPECT(ws_input_kind(x) == WS_KIND_TENSOR);
    EXPECT(ws_input_dtype(x) == WS_DTYPE_F32);
    EXPECT(ws_input_rank(x) == 2);
    ws_dimension rows = ws_input_dimension(x, 0);
    EXPECT(rows.least == 1 && rows.most == 8 && rows.symbol != NULL);
    ws_dimension columns = ws_input_dimension(x, 1);
    EXPECT(columns.least == 3 && columns.most == 3 && columns.symbol == NULL);
    EXPECT(ws_input_kind(ws_program_input(program, 1)) == WS_KIND_NUMBER);
    EXPECT(ws_input_kind(ws_program_input(program, 2)) == WS_KIND_CONSTANT);
    EXPECT(ws_program_input(program, 3) == NULL);
    EXPECT(ws_program_output_count(program) == 3);
    EXPECT(strcmp(ws_program_output_name(program, 0), "y") == 0);
    EXPECT(strcmp(ws_program_output_name(program, 2), "rows") == 0);
    EXPECT(ws_program_output_name(program, 3) == NULL);
}

/* One run, whose outputs are y of one row, totals and rows. */
static void gives(const ws_program *program, ws_tensor *const *inputs, const ws_run_options *options,
                  float first_total, float second_total) {
    ws_tensor *outputs[3];
    ws_error *error;
    ws_status status = ws_program_run(program, inputs, 3, outputs, 3, options, &error);
    EXPECT(status == WS_STATUS_OK);
    EXPECT(error == NULL);
    EXPECT(ws_tensor_dtype(outputs[0]) == WS_DTYPE_F32);
    EXPECT(ws_tensor_rank(outputs[0]) == 2);
    EXPECT(ws_tensor_shape(outputs[0])[0] == 1 && ws_tensor_shape(outputs[0])[1] == 2);
    EXPECT(ws_tensor_bytes(outputs[0]) == 2 * sizeof(float));
    const float *y = ws_tensor_data(outputs[0]);
    EXPECT(y[0] == 13.0f && y[1] == 29.0f);
    const float *totals = ws_tensor_data(outputs[1]);
    EXPECT(totals[0] == first_total && totals[1] == second_total);
    EXPECT(ws_tensor_dtype(outputs[2]) == WS_DTYPE_I64 && ws_tensor_rank(outputs[2]) == 0);
    EXPECT(*(const int64_t *)ws_tensor_data(outputs[2]) == 1);
    for (size_t number = 0; number < 3; number++) {
        ws_tensor_free(outputs[number]);
    }
}

static void refuses(const char *path, const ws_program *program, ws_tensor *const *inputs) {
    ws_program *none;
    ws_error *error;
    refused(ws_program_open("/no/such/file.pt2", NULL, &none, &error), WS_STATUS_FILE, &error, "/no/such/file.pt2");
    EXPECT(none == NULL);
    refused(ws_program_open(NULL, NULL, &none, &error), WS_STATUS_ARGUMENT, &error, "NULL");
    refused(ws_program_open("\xff.pt2", NULL, &none, &error), WS_STATUS_ARGUMENT, &error, "UTF-8");
    refused(ws_program_open(__FILE__, NULL, &none, &error), WS_STATUS_FORMAT, &error, __FILE__);
    refused(ws_program_open(path, NULL, NULL, &error), WS_STATUS_ARGUMENT, &error, "NULL");
    EXPECT(ws_program_open(NULL, NULL, &none, NULL) == WS_STATUS_ARGUMENT);
    ws_options options = {0};
    refused(ws_program_open(path, &options, &none, &error), WS_STATUS_ARGUMENT, &error, "size");
    options.size = sizeof options;
    options.model = "other";
    refused(ws_program_open(path, &options, &none, &error), WS_STATUS_ARGUMENT, &error, "other");
    options.model = NULL;
    options.memory = 1;
    refused(ws_program_open(path, &options, &none, &error), WS_STATUS_BUDGET, &error, "least");

    ws_tensor *tensor;
    size_t shape[] = {1, 3};
    float numbers[] = {1, 1, 1};
    refused(ws_tensor_new(99, shape, 2, numbers, sizeof numbers, &tensor, &error), WS_STATUS_ARGUMENT, &error, "99");
    EXPECT(tensor == NULL);
    refused(ws_tensor_new(WS_DTYPE_F32, shape, 2, numbers, 8, &tensor, &error), WS_STATUS_ARGUMENT, &error, "12 bytes");
    refused(ws_tensor_new(WS_DTYPE_F32, shape, 2, NULL, 12, &tensor, &error), WS_STATUS_ARGUMENT, &error, "NULL");

    ws_tensor *outputs[3];
    refused(ws_program_run(NULL, inputs, 3, outputs, 3, NULL, &error), WS_STATUS_ARGUMENT, &error, "NULL");
    refused(ws_program_run(program, NULL, 3, outputs, 3, NULL, &error), WS_STATUS_ARGUMENT, &error, "NULL");
    refused(ws_program_run(program, inputs, 1, outputs, 3, NULL, &error), WS_STATUS_ARGUMENT, &error, "3 inputs");
    refused(ws_program_run(program, inputs, 3, outputs, 2, NULL, &error), WS_STATUS_ARGUMENT, &error, "3 outputs");
    refused(ws_program_run(program, inputs, 3, NULL, 3, NULL, &error), WS_STATUS_ARGUMENT, &error, "3 outputs");
    double wide[] = {1, 1, 1};
    EXPECT(ws_tensor_new(WS_DTYPE_F64, shape, 2, wide, sizeof wide, &tensor, NULL) == WS_STATUS_OK);
    ws_tensor *wrong[] = {tensor, inputs[1], NULL};
    refused(ws_program_run(program, wrong, 3, outputs, 3, NULL, &error), WS_STATUS_ARGUMENT, &error, "F32");
    EXPECT(outputs[0] == NULL && outputs[1] == NULL && outputs[2] == NULL);
    ws_tensor_free(tensor);
}

static void cancels(const ws_program *program, ws_tensor *const *inputs) {
    struct watcher watcher = {0, 0, 1, ws_cancel_new()};
    ws_run_options options = {sizeof options};
    options.cancel = watcher.cancel;
    options.progress = watch;
    options.user = &watcher;
    ws_tensor *outputs[3];
    ws_error *error;
    refused(ws_program_run(program, inputs, 3, outputs, 3, &options, &error), WS_STATUS_CANCELLED, &error, "cancelled");
    EXPECT(outputs[0] == NULL);
    EXPECT(watcher.calls > 0 && watcher.calls < watcher.total);
    ws_cancel_free(watcher.cancel);
}

static void nothing_is_fine(void) {
    ws_program_free(NULL);
    ws_tensor_free(NULL);
    ws_state_free(NULL);
    ws_cancel_free(NULL);
    ws_error_free(NULL);
    ws_cancel_set(NULL);
    ws_program_reset(NULL);
    EXPECT(ws_error_message(NULL) == NULL);
    EXPECT(ws_tensor_data(NULL) == NULL && ws_tensor_shape(NULL) == NULL);
    EXPECT(ws_program_input(NULL, 0) == NULL && ws_input_name(NULL) == NULL);
    EXPECT(ws_program_output_count(NULL) == 0);
}

int main(int count, char **words) {
    EXPECT(count == 2);
    EXPECT(strchr(ws_version(), '.') != NULL);
    nothing_is_fine();

    ws_options options = {sizeof options};
    options.threads = 1;
    ws_program *program;
    EXPECT(ws_program_open(words[1], &options, &program, NULL) == WS_STATUS_OK);
    describes_itself(program);

    size_t shape[] = {1, 3};
    float numbers[] = {1, 1, 1};
    int32_t scale = 2;
    ws_tensor *inputs[3] = {NULL, NULL, NULL};
    EXPECT(ws_tensor_new(WS_DTYPE_F32, shape, 2, numbers, sizeof numbers, &inputs[0], NULL) == WS_STATUS_OK);
    EXPECT(ws_tensor_new(WS_DTYPE_I32, NULL, 0, &scale, sizeof scale, &inputs[1], NULL) == WS_STATUS_OK);
    numbers[0] = 9; /* the tensor is a copy */

    cancels(program, inputs);
    ws_program_reset(program);
    gives(program, inputs, NULL, 13, 29);
    gives(program, inputs, NULL, 26, 58);

    struct watcher watcher = {0, 0, 0, NULL};
    ws_run_options run = {sizeof run};
    run.progress = watch;
    run.user = &watcher;
    EXPECT(ws_state_new(program, &run.state, NULL) == WS_STATUS_OK);
    gives(program, inputs, &run, 13, 29);
    gives(program, inputs, NULL, 39, 87);
    EXPECT(watcher.calls > 0);
    refuses(words[1], program, inputs);
    gives(program, inputs, &run, 26, 58);

    ws_stats stats = {sizeof stats};
    EXPECT(ws_program_stats(program, &stats, NULL) == WS_STATUS_OK);
    EXPECT(stats.size == sizeof stats && stats.bytes_read > 0 && stats.budget >= stats.least);
    EXPECT(ws_program_resize(program, 1, NULL) == WS_STATUS_BUDGET);
    EXPECT(ws_program_resize(program, stats.least, NULL) == WS_STATUS_OK);
    gives(program, inputs, &run, 39, 87);

    ws_program_free(program);
    ws_state_free(run.state);
    EXPECT(*(const float *)ws_tensor_data(inputs[0]) == 1.0f);
    ws_tensor_free(inputs[0]);
    ws_tensor_free(inputs[1]);
    return 0;
}
