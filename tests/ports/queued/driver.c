/* A driver whose launches run on a thread of their own, in order, while the caller goes on: what is asynchronous in a real
 * driver is so here. Kernels are shared libraries of this host. */
#define _XOPEN_SOURCE 700

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "portkit_device.h"

enum { QUEUE = 64, MOST_BYTES = 1 << 30 };

typedef void entry_point(const void *arguments, int64_t begin, int64_t end, void *scratch);

struct portkit_program {
    void *library;
    entry_point *kernel;
};

typedef struct {
    entry_point *kernel;
    void *arguments, *scratch;
    uint64_t groups;
} job;

struct portkit_context {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    job jobs[QUEUE];
    uint64_t started, done;
    int closing;
    char words[512];
};

static portkit_context nobody;

static portkit_status fail(portkit_context *device, portkit_status status, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vsnprintf(device->words, sizeof device->words, format, rest);
    va_end(rest);
    return status;
}

static const char *last_error(portkit_context *device) { return device ? device->words : nobody.words; }

static portkit_status probe(void) {
    const char *unplugged = getenv("QUEUED_UNPLUGGED");
    return unplugged ? fail(&nobody, PORTKIT_CANNOT_RUN_HERE, "no card in slot %s", unplugged) : PORTKIT_OK;
}

static void *work(void *given) {
    portkit_context *device = given;
    pthread_mutex_lock(&device->lock);
    for (;;) {
        while (device->done == device->started && !device->closing) pthread_cond_wait(&device->changed, &device->lock);
        if (device->done == device->started) break;
        job next = device->jobs[device->done % QUEUE];
        pthread_mutex_unlock(&device->lock);
        next.kernel(next.arguments, 0, (int64_t)next.groups, next.scratch);
        free(next.arguments);
        free(next.scratch);
        pthread_mutex_lock(&device->lock);
        device->done++;
        pthread_cond_broadcast(&device->changed);
    }
    pthread_mutex_unlock(&device->lock);
    return NULL;
}

static portkit_status open_device(portkit_context **context) {
    portkit_context *device = calloc(1, sizeof *device);
    if (!device) return fail(&nobody, PORTKIT_OUT_OF_MEMORY, "no memory for a queue");
    pthread_mutex_init(&device->lock, NULL);
    pthread_cond_init(&device->changed, NULL);
    int error = pthread_create(&device->thread, NULL, work, device);
    if (error) {
        free(device);
        return fail(&nobody, PORTKIT_ERROR, "no thread for the queue: %s", strerror(error));
    }
    *context = device;
    return PORTKIT_OK;
}

static portkit_status info(portkit_context *device, portkit_info *said) {
    (void)device;
    snprintf(said->device, sizeof said->device, "a queue on this host");
    snprintf(said->driver, sizeof said->driver, "driver.c 1.0");
    snprintf(said->compiler, sizeof said->compiler, "LLVM, linked by the host's compiler");
    return PORTKIT_OK;
}

/* Wait until no more than `left` jobs are in the queue; locked before and after. */
static int drain(portkit_context *device, uint64_t left, const struct timespec *until) {
    int error = 0;
    while (device->started - device->done > left && !error)
        error = until ? pthread_cond_timedwait(&device->changed, &device->lock, until)
                      : pthread_cond_wait(&device->changed, &device->lock);
    return error;
}

static void drain_all(portkit_context *device) {
    pthread_mutex_lock(&device->lock);
    drain(device, 0, NULL);
    pthread_mutex_unlock(&device->lock);
}

static portkit_status wait_for(portkit_context *device, uint64_t nanoseconds) {
    const uint64_t second = 1000000000, most = 1000000 * second;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ends = (uint64_t)until.tv_nsec + (nanoseconds < most ? nanoseconds : most);
    until.tv_sec += (time_t)(ends / second);
    until.tv_nsec = (long)(ends % second);
    pthread_mutex_lock(&device->lock);
    int error = drain(device, 0, &until);
    unsigned long long left = device->started - device->done;
    pthread_mutex_unlock(&device->lock);
    return error == ETIMEDOUT ? fail(device, PORTKIT_HANG, "%llu launches are not done", left) : PORTKIT_OK;
}

static void close_device(portkit_context *device) {
    pthread_mutex_lock(&device->lock);
    device->closing = 1;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->lock);
    pthread_join(device->thread, NULL);
    free(device);
}

static portkit_status allocate(portkit_context *device, uint64_t size, uint64_t align, uint64_t *address) {
    void *memory = NULL;
    if (size > MOST_BYTES || posix_memalign(&memory, align, size + 1))
        return fail(device, PORTKIT_OUT_OF_MEMORY, "the card has no %llu bytes", (unsigned long long)size);
    *address = (uintptr_t)memory;
    return PORTKIT_OK;
}

static portkit_status free_memory(portkit_context *device, uint64_t address) {
    drain_all(device);
    free((void *)(uintptr_t)address);
    return PORTKIT_OK;
}

static portkit_status write_bytes(portkit_context *device, uint64_t address, const void *data, uint64_t size) {
    drain_all(device);
    memcpy((void *)(uintptr_t)address, data, size);
    return PORTKIT_OK;
}

static portkit_status read_bytes(portkit_context *device, uint64_t address, void *data, uint64_t size) {
    drain_all(device);
    memcpy(data, (void *)(uintptr_t)address, size);
    return PORTKIT_OK;
}

static portkit_status copy(portkit_context *device, uint64_t target, uint64_t source, uint64_t size) {
    drain_all(device);
    memcpy((void *)(uintptr_t)target, (void *)(uintptr_t)source, size);
    return PORTKIT_OK;
}

static portkit_status load(portkit_context *device, const void *binary, uint64_t size, portkit_program **program) {
    char path[] = "/tmp/queued-XXXXXX";
    int descriptor = mkstemp(path);
    if (descriptor < 0 || write(descriptor, binary, size) != (ssize_t)size || close(descriptor))
        return fail(device, PORTKIT_ERROR, "cannot write %s: %s", path, strerror(errno));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unlink(path);
    void *kernel = library ? dlsym(library, "kernel") : NULL;
    *program = kernel ? calloc(1, sizeof **program) : NULL;
    if (!*program) return fail(device, PORTKIT_BAD_PROGRAM, "%s", dlerror());
    (*program)->library = library;
    *(void **)&(*program)->kernel = kernel;
    return PORTKIT_OK;
}

static portkit_status unload(portkit_context *device, portkit_program *program) {
    drain_all(device);
    dlclose(program->library);
    free(program);
    return PORTKIT_OK;
}

static portkit_status start(portkit_context *device, portkit_program *program, const void *arguments, uint64_t size,
                            uint64_t groups, uint64_t scratch) {
    job next = {program->kernel, malloc(size + 1), NULL, groups};
    if (!next.arguments || posix_memalign(&next.scratch, 64, scratch + 1)) {
        free(next.arguments);
        return fail(device, PORTKIT_OUT_OF_MEMORY, "no memory for a launch");
    }
    memcpy(next.arguments, arguments, size);
    pthread_mutex_lock(&device->lock);
    drain(device, QUEUE - 1, NULL);
    device->jobs[device->started++ % QUEUE] = next;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->lock);
    return PORTKIT_OK;
}

const portkit_device_table *portkit_device(void) {
    static const portkit_device_table table = {
        PORTKIT_DEVICE_VERSION, sizeof table, probe,      open_device, info,   allocate, free_memory, write_bytes,
        read_bytes,             copy,         load,       unload,      start,  wait_for, last_error,  close_device,
    };
    return &table;
}
